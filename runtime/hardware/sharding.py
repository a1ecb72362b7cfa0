"""What each process holds of a tensor, and writes of it, so that a checkpoint fits any number of processes.

A sharded tensor is a DTensor, as FSDP2 makes it, or a parameter of DeepSpeed's ZeRO stage 3. Importing the module of the
first takes half a second, so a DTensor, and a model that FSDP2 has sharded, is recognised by a method.
"""

from collections.abc import Container, Iterable, Iterator
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from accelerate.utils import DistributedType
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ..errors import ConfigError
from ..storage.shards import Shard, Turns, box_of
from ..storage.stored import Stored, in_memory
from . import deepspeed

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule

ENGINES = {DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM, DistributedType.XLA}
"""What steps and keeps state in its own way."""


def is_dtensor(tensor: Any) -> bool:
    return hasattr(tensor, "to_local")


def is_sharded(tensor: Any) -> bool:
    return is_dtensor(tensor) or deepspeed.is_sharded(tensor)


def is_sharded_model(thing: Any) -> "TypeGuard[FSDPModule]":
    """Whether FSDP2 has sharded it."""
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
    """Give a parameter, in place, values that are sharded as it is. Collective where it is sharded by DeepSpeed."""
    if deepspeed.is_sharded(parameter):
        deepspeed.write(parameter, deepspeed.gather(values, parameter))
    else:
        local(parameter).copy_(values)


def whole(tensor: Any) -> Tensor:
    """The whole of a plain tensor or a DTensor. Collective for a DTensor."""
    full: Tensor = tensor.full_tensor() if hasattr(tensor, "to_local") else tensor
    return full


def like(values: Tensor, parameter: Any) -> Any:
    """This process's part of a tensor that is sharded as `parameter` is, as a sharded tensor. Whole for DeepSpeed's,
    for which it is collective."""
    if deepspeed.is_sharded(parameter):
        return deepspeed.gather(values, parameter)
    from torch.distributed.tensor import DTensor

    mesh, placements = parameter.device_mesh, parameter.placements
    return DTensor.from_local(values, mesh, placements, shape=parameter.shape, stride=parameter.stride())


def gather(shard: Tensor, like_it: Any) -> Tensor:
    """The whole of a tensor that is sharded as `like_it` is, on every process. Collective."""
    return whole(like(shard, like_it))


def shard(full: Tensor, like_it: Any) -> Tensor:
    """This process's part of `full`, as a plain tensor; the inverse of `gather`."""
    if deepspeed.is_sharded(like_it):
        return deepspeed.shard(in_memory(full), like_it)
    return _own_part(full, like_it)


def shape(tensor: Any) -> torch.Size:
    """The shape of the whole tensor."""
    return deepspeed.shape_of(tensor)


def check_shards(models: Iterable[nn.Module], num_processes: int) -> None:
    """Refuse models that are sharded otherwise than for data parallelism over all processes.

    Raises:
        ConfigError: A parameter is split by tensor parallelism, or over some of the processes only.
    """
    for model in models:
        parameters: Iterator[tuple[str, Any]] = model.named_parameters()
        for name, sharded in parameters:
            if not hasattr(sharded, "to_local"):
                continue
            mesh, placements = sharded.device_mesh, sharded.placements
            is_data_parallel = is_sharded_part(model) and all(place.is_replicate() for place in placements[:-1])
            if not is_data_parallel or mesh.size() != num_processes:
                raise ConfigError(
                    f"`{name}` is sharded as {placements} over {mesh.size()} of {num_processes} processes, "
                    "which is no data parallelism: shard with `fully_shard` over all processes"
                )


def is_sharded_part(model: nn.Module) -> bool:
    """Whether FSDP2 has sharded it or a module in it."""
    return any(map(is_sharded_model, model.modules()))


_SPLIT = 1 << 20  # bytes of a tensor from which on it is worth it


def model_state(model: nn.Module) -> dict[str, Any]:
    """`model.state_dict()`, in which tied parameters are one object."""
    return model.state_dict(keep_vars=True)


def parts(
    state: Any, rank: int, num_processes: int, replicated: Container[int], *, gathers: bool = True, found: Any = None
) -> Any:
    """A state with a `Shard` for each tensor of which this process may write a part. Collective for DeepSpeed's.

    Of what is on several processes, each writes another part: rows of what is replicated, or every so many-th shard.
    Nothing is gathered or copied, except the parameters of DeepSpeed's stage 3: its public functions hand them out as a
    whole, one at a time, and each process takes another one to the host.

    Args:
        state: Tensors in dicts, lists and tuples; the same on all processes, but for the values.
        rank: Of this process.
        num_processes: How many there are.
        replicated: Identities of plain tensors that have the same values on all processes.
        gathers: Whether DeepSpeed's parameters are gathered now; else only when their `Shard` is asked to.
        found: The sharded tensors met so far, by identity: tied weights stay one tensor, and are saved once.
    """
    if found is None:
        found = {}, count(), Turns(rank, num_processes)

    def of(value: Any) -> Any:
        return parts(value, rank, num_processes, replicated, gathers=gathers, found=found)

    if isinstance(state, dict):
        return {key: of(value) for key, value in state.items()}
    if type(state) in (list, tuple):
        return type(state)(map(of, state))
    is_split = id(state) in replicated and isinstance(state, Tensor) and state.nbytes >= _SPLIT and len(state) > 1
    if not is_sharded(state) and not is_split:
        return state.detach() if isinstance(state, nn.Parameter) and not is_lazy(state) else state
    shards, numbers, turns = found
    if id(state) not in shards:
        if deepspeed.is_sharded(state):
            shard = turns.shard(shape(state), state.dtype, partial(deepspeed.gathered, state), now=gathers)
        elif is_split:
            shard = _rows_of(state.detach(), rank, num_processes)
        else:
            shard = _part_of(state.detach(), next(numbers))
        shards[id(state)] = shard, state  # kept alive
    return shards[id(state)][0]


def _rows_of(tensor: Tensor, rank: int, num_processes: int) -> Shard:
    """The rows of a replicated tensor that one process writes."""
    first, last = (len(tensor) * number // num_processes for number in (rank, rank + 1))
    offset = (first, *(0,) * (tensor.dim() - 1))
    part = tensor[first:last] if last > first else None
    return Shard(tuple(tensor.shape), tensor.dtype, offset, part, lambda: tensor, tensor.stride())


def _part_of(tensor: Any, number: int) -> Shard:
    """This process's part of a DTensor, or none where another process that holds the same is to write it."""
    coordinate, replica, replicas = tensor.device_mesh.get_coordinate(), 0, 1
    for dimension, placement in enumerate(tensor.placements):
        if placement.is_replicate():
            replica = replica * tensor.device_mesh.size(dimension) + coordinate[dimension]
            replicas *= tensor.device_mesh.size(dimension)
    part = tensor.to_local() if number % replicas == replica else None
    offset = box_of(tensor).offset
    return Shard(tuple(tensor.shape), tensor.dtype, offset, part, lambda: whole(tensor))


def load_model(model: nn.Module, state: dict[str, Any]) -> None:
    """`model.load_state_dict` with whole tensors, in memory or `Stored`, for parameters that may be sharded.

    What is stored is read one tensor at a time, and of a DTensor this process's part. Collective for DeepSpeed's.
    """
    if any(map(deepspeed.is_sharded, model.parameters())):
        _load_sharded_model(model, state)
        return
    own = model.state_dict()
    model.load_state_dict({name: _fit(value, own.get(name)) for name, value in state.items()})


def _load_sharded_model(model: nn.Module, state: dict[str, Any]) -> None:
    """`load_model` where stage 3 has left a placeholder of each parameter, to which PyTorch would compare shapes."""
    own = {name: value for name, value in model.state_dict(keep_vars=True).items() if deepspeed.is_sharded(value)}
    misfits = {name for name in own if name in state and state[name].shape != shape(own[name])}
    wrong = model.load_state_dict({n: value for n, value in state.items() if n not in own}, strict=False)
    problems = sorted(
        {*wrong.unexpected_keys, *(set(wrong.missing_keys) - own.keys()), *(own.keys() - state.keys()), *misfits}
    )
    if problems:
        raise ValueError(f"missing, unexpected or of another shape: {', '.join(problems)}")
    for name, parameter in own.items():
        deepspeed.write(parameter, in_memory(state[name]))


def load_optimizer(optimizer: Any, state: dict[str, Any], *, keeps_types: bool = True) -> None:
    """`optimizer.load_state_dict` with whole tensors, in memory or `Stored`, for parameters that may be sharded.

    PyTorch casts each state to the type of its parameter: averages in float32 of a parameter in bfloat16 would be
    rounded. They stay as they were saved with `keeps_types`, which is right unless the parameters have another type now.
    """
    plain = getattr(optimizer, "optimizer", optimizer)  # without accelerate's wrapper
    parameters = [parameter for group in plain.param_groups for parameter in group["params"]]
    if any(map(is_sharded, parameters)):
        # PyTorch numbers the parameters of an optimizer through its groups
        fitted = {
            number: {name: _held(value, parameters[number]) for name, value in values.items()}
            for number, values in state["state"].items()
        }
        state = {**state, "state": fitted}
    loaded = in_memory(state)
    optimizer.load_state_dict(loaded)
    for number, values in loaded["state"].items() if keeps_types else ():
        if number < len(parameters):
            own = plain.state[parameters[number]]
            for name, value in values.items():
                if isinstance(value, Tensor) and name in own and own[name].dtype != value.dtype:
                    own[name] = value.to(own[name].device)


def _fit(value: Any, target: Any) -> Any:
    """`value`, sharded if `target` is sharded and has its shape, unless it is read when it is copied to it."""
    return value if isinstance(value, Stored) else _held(value, target)


def _held(value: Any, target: Any) -> Any:
    """What this process holds of `value`, in memory, where `target` has its shape, as an optimizer's number of steps has not."""
    is_whole = isinstance(value, Tensor) and not hasattr(value, "to_local")
    if is_whole and hasattr(target, "to_local") and value.shape == target.shape:
        return like(_own_part(value, target), target)
    return in_memory(value)


@torch.no_grad()
def _own_part(full: Tensor, target: Any) -> Tensor:
    box = box_of(target)
    if isinstance(full, Stored):
        part = full.part(box)
    else:
        part = full[tuple(slice(a, a + n) for a, n in zip(box.offset, box.size, strict=True))].clone()
    return part.to(target.device)
