"""Whole tensors from shards, and shards from whole tensors, so that a checkpoint fits any number of processes.

A sharded tensor is a DTensor, as FSDP2 makes it, or a parameter of DeepSpeed's ZeRO stage 3. Importing the module of the
first takes half a second, so a DTensor, and a model that FSDP2 has sharded, is recognised by a method.
"""

from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from accelerate.utils import DistributedType
from torch import Tensor, nn

from . import deepspeed

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule

ENGINES = {DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM, DistributedType.XLA}
"""What steps and keeps state in its own way."""


def is_sharded(tensor: Any) -> bool:
    return hasattr(tensor, "to_local") or deepspeed.is_sharded(tensor)


def is_sharded_model(thing: Any) -> "TypeGuard[FSDPModule]":
    """Whether FSDP2 has sharded it."""
    return hasattr(thing, "set_requires_gradient_sync")


def local(tensor: Any) -> Tensor:
    """The values that this process holds, as a plain tensor. It shares their memory; to change them, use `write`."""
    if deepspeed.is_sharded(tensor):
        return deepspeed.local(tensor)
    detached = tensor.detach()
    part: Tensor = detached.to_local() if is_sharded(detached) else detached
    return part


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


def gather(shard: Tensor, like: Any) -> Tensor:
    """The whole of a tensor that is sharded as `like` is, on every process. Collective."""
    if deepspeed.is_sharded(like):
        return deepspeed.gather(shard, like)
    from torch.distributed.tensor import DTensor

    mesh, placements = like.device_mesh, like.placements
    return DTensor.from_local(shard, mesh, placements, shape=like.shape, stride=like.stride()).full_tensor()


def shard(full: Tensor, like: Any) -> Tensor:
    """This process's part of `full`, as a plain tensor; the inverse of `gather`. Collective."""
    return deepspeed.shard(full, like) if deepspeed.is_sharded(like) else local(_distribute(full, like))


def shape(tensor: Any) -> torch.Size:
    """The shape of the whole tensor."""
    return deepspeed.shape_of(tensor)


def model_state(model: nn.Module) -> dict[str, Any]:
    """`model.state_dict()`, from which `gather_state` can make whole tensors."""
    return model.state_dict(keep_vars=any(map(is_sharded, model.parameters())))


def gather_state(state: Any, keep: bool, found: dict[int, Any] | None = None) -> Any:
    """A state with each sharded tensor as a whole one on the host. Collective where any is sharded.

    Args:
        state: Tensors in dicts, lists and tuples.
        keep: Whether this process keeps the whole tensors; None stands for each otherwise. One at a time is whole on
            the device.
        found: The sharded tensors met so far, by identity: tied weights stay one tensor, and are saved once.
    """
    found = {} if found is None else found
    if isinstance(state, dict):
        return {key: gather_state(value, keep, found) for key, value in state.items()}
    if type(state) in (list, tuple):
        return type(state)(gather_state(value, keep, found) for value in state)
    if not is_sharded(state):
        return state
    if id(state) not in found:
        if deepspeed.is_sharded(state):
            found[id(state)] = deepspeed.to_host(state, keep)
        else:
            full = whole(state.detach())
            found[id(state)] = full.cpu() if keep else None
    return found[id(state)]


def load_model(model: nn.Module, state: dict[str, Any]) -> None:
    """`model.load_state_dict` with whole tensors for parameters that may be sharded. Collective where they are."""
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
        deepspeed.write(parameter, state[name])


def load_optimizer(optimizer: Any, state: dict[str, Any]) -> None:
    """`optimizer.load_state_dict` with whole tensors for parameters that may be sharded. Collective where they are."""
    plain = getattr(optimizer, "optimizer", optimizer)  # without accelerate's wrapper
    parameters = [parameter for group in plain.param_groups for parameter in group["params"]]
    if any(map(is_sharded, parameters)):
        # PyTorch numbers the parameters of an optimizer through its groups
        fitted = {
            number: {name: _fit(value, parameters[number]) for name, value in values.items()}
            for number, values in state["state"].items()
        }
        state = {**state, "state": fitted}
    optimizer.load_state_dict(state)


def _fit(value: Any, like: Any) -> Any:
    """`value`, sharded if `like` is sharded and has its shape, which an optimizer's number of steps has not."""
    if isinstance(value, Tensor) and is_sharded(like) and value.shape == like.shape:
        return _distribute(value, like)
    return value


@torch.no_grad()
def _distribute(full: Tensor, like: Any) -> Any:
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(full.to(like.device), like.device_mesh, like.placements)
