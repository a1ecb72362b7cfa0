"""Sharded tensors and models: what each process holds of a tensor.

A sharded tensor is a DTensor of FSDP2, or a parameter of DeepSpeed's ZeRO stage 3. Importing DTensor takes half a second,
so DTensors, and models that FSDP2 has sharded, are recognized by a method.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from accelerate.utils import DistributedType
from torch import Tensor, nn

from ..errors import ConfigError
from ..storage.shards import box_of
from ..storage.stored import Stored, in_memory
from . import deepspeed

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule

ENGINES = {DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM, DistributedType.XLA}
"""Engines that update and keep state in their own way."""


def is_dtensor(tensor: Any) -> bool:
    return hasattr(tensor, "to_local")


def is_sharded(tensor: Any) -> bool:
    return is_dtensor(tensor) or deepspeed.is_sharded(tensor)


def is_sharded_model(thing: Any) -> "TypeGuard[FSDPModule]":
    """Whether FSDP2 has sharded a module."""
    return hasattr(thing, "set_requires_gradient_sync")


def own_values(tensor: Any) -> Tensor:
    """The values of a plain tensor or a DTensor that this process holds, as a plain tensor that shares their memory."""
    own: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return own


def local(tensor: Any) -> Tensor:
    """The same for any parameter, detached. To change its values, use `write`."""
    return deepspeed.local(tensor) if deepspeed.is_sharded(tensor) else own_values(tensor.detach())


@torch.no_grad()
def write(parameter: Any, values: Tensor) -> None:
    """Set a parameter, in place, to values that are sharded like it. Collective for DeepSpeed's parameters."""
    if deepspeed.is_sharded(parameter):
        deepspeed.write(parameter, deepspeed.gather(values, parameter))
    else:
        local(parameter).copy_(values)


def whole(tensor: Any) -> Tensor:
    """The whole tensor of a plain tensor or a DTensor. Collective for a DTensor."""
    full: Tensor = tensor.full_tensor() if is_dtensor(tensor) else tensor
    return full


def like(values: Tensor, parameter: Any) -> Any:
    """A DTensor of this process's `values`, sharded like `parameter`. For DeepSpeed's, the whole tensor: a collective."""
    if deepspeed.is_sharded(parameter):
        return deepspeed.gather(values, parameter)
    from torch.distributed.tensor import DTensor

    mesh, placements = parameter.device_mesh, parameter.placements
    return DTensor.from_local(values, mesh, placements, shape=parameter.shape, stride=parameter.stride())


def gather(shard: Tensor, like_it: Any) -> Tensor:
    """The whole tensor, on every process, of shards that are sharded like `like_it`. Collective."""
    return whole(like(shard, like_it))


@torch.no_grad()
def shard(full: Tensor, like_it: Any) -> Tensor:
    """This process's part of `full`, in memory or `Stored`, as a plain tensor; the inverse of `gather`."""
    if deepspeed.is_sharded(like_it):
        return deepspeed.shard(in_memory(full), like_it)
    box = box_of(like_it)
    if isinstance(full, Stored):
        part = full.part(box)
    else:
        part = full[tuple(slice(a, a + n) for a, n in zip(box.offset, box.size, strict=True))].clone()
    return part.to(like_it.device)


def shape(tensor: Any) -> torch.Size:
    """The shape of the whole tensor."""
    return deepspeed.shape_of(tensor)


def check_shards(models: Iterable[nn.Module], num_processes: int) -> None:
    """Check that sharded models are sharded for data parallelism over all processes.

    Raises:
        ConfigError: A parameter is split by tensor parallelism, or over only some of the processes.
    """
    for model in models:
        parameters: Iterator[tuple[str, Any]] = model.named_parameters()
        for name, sharded in parameters:
            if not is_dtensor(sharded):
                continue
            mesh, placements = sharded.device_mesh, sharded.placements
            is_data_parallel = _has_sharded_part(model) and all(place.is_replicate() for place in placements[:-1])
            if not is_data_parallel or mesh.size() != num_processes:
                raise ConfigError(
                    f"`{name}` is sharded as {placements} over {mesh.size()} of {num_processes} processes, "
                    "which is no data parallelism: shard it with `fully_shard` over all processes"
                )


def _has_sharded_part(model: nn.Module) -> bool:
    """Whether FSDP2 has sharded the model or a module in it."""
    return any(map(is_sharded_model, model.modules()))
