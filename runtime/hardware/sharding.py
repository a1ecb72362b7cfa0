"""Whole tensors from shards, and shards from whole tensors: what is saved depends on no number of processes.

A sharded tensor is a DTensor, as FSDP2 makes it, or a parameter that DeepSpeed has cut. The module of the first takes
half a second to import, so it is told by a method, as is a model that FSDP2 has sharded.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from accelerate.utils import DistributedType
from torch import Tensor, nn

from . import deepspeed as engine

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule

ENGINES = {DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM, DistributedType.XLA}
"""They step, and keep state, in ways of their own."""


def is_sharded(tensor: Any) -> bool:
    return hasattr(tensor, "to_local") or engine.is_cut(tensor)


def is_sharded_model(thing: Any) -> "TypeGuard[FSDPModule]":
    """Whether FSDP2 has sharded it."""
    return hasattr(thing, "set_requires_gradient_sync")


def local(tensor: Any) -> Tensor:
    """The values that this process holds, as a plain tensor that shares their memory."""
    if engine.is_cut(tensor):
        return engine.part(tensor)
    detached = tensor.detach()
    part: Tensor = detached.to_local() if is_sharded(detached) else detached
    return part


def whole(tensor: Any) -> Tensor:
    """The whole of a tensor that may be sharded. Collective where it is."""
    if engine.is_cut(tensor):
        return engine.join(engine.part(tensor), tensor)
    full: Tensor = tensor.full_tensor() if is_sharded(tensor) else tensor
    return full


def gather(shard: Tensor, like: Any) -> Tensor:
    """The whole of a tensor that is sharded like `like`, on every process. Collective."""
    if engine.is_cut(like):
        return engine.join(shard, like)
    from torch.distributed.tensor import DTensor

    mesh, placements = like.device_mesh, like.placements
    return DTensor.from_local(shard, mesh, placements, shape=like.shape, stride=like.stride()).full_tensor()


def shard(full: Tensor, like: Any) -> Tensor:
    """This process's part of `full`, as a plain tensor; the inverse of `gather`. Collective."""
    return engine.cut(full, like) if engine.is_cut(like) else local(_distribute(full, like))


def shape(tensor: Any) -> torch.Size:
    """Of the whole tensor."""
    return engine.shape_of(tensor)


def writing(tensors: Iterable[Any]) -> AbstractContextManager[None]:
    """Wherever `local` values of parameters are written, it is done within. Collective where they are sharded."""
    cut = [tensor for tensor in tensors if engine.is_cut(tensor)]
    return engine.writing(cut) if cut else nullcontext()


def model_state(model: nn.Module) -> dict[str, Any]:
    """`model.state_dict()`, from which `gather_state` can make whole tensors."""
    return model.state_dict(keep_vars=any(map(is_sharded, model.parameters())))


def gather_state(state: Any, keep: bool, found: dict[int, Any] | None = None) -> Any:
    """A state with whole tensors, on the host, for those that are sharded. Collective where there are any.

    One tensor at a time is whole on the device. Where `keep` is False, what was sharded becomes None: only the process
    that writes keeps it. `found` has those that were met, by identity: tied weights stay one tensor, and are saved once.
    """
    found = {} if found is None else found
    if isinstance(state, dict):
        return {key: gather_state(value, keep, found) for key, value in state.items()}
    if type(state) in (list, tuple):
        return type(state)(gather_state(value, keep, found) for value in state)
    if not is_sharded(state):
        return state
    if id(state) not in found:
        with torch.no_grad():
            full = whole(state)
        found[id(state)] = full.detach().cpu() if keep else None
    return found[id(state)]


def load_model(model: nn.Module, state: dict[str, Any]) -> None:
    """`model.load_state_dict` with whole tensors for parameters that may be sharded. Collective where they are."""
    if any(map(engine.is_cut, model.parameters())):
        _load_cut_model(model, state)
        return
    own = model.state_dict()
    model.load_state_dict({name: _fit(value, own.get(name)) for name, value in state.items()})


@torch.no_grad()
def _load_cut_model(model: nn.Module, state: dict[str, Any]) -> None:
    """PyTorch would compare shapes with what is left of a parameter that is not in use."""
    own = {name: value for name, value in model.state_dict(keep_vars=True).items() if engine.is_cut(value)}
    misfits = {name for name in own if name in state and state[name].shape != shape(own[name])}
    wrong = model.load_state_dict({n: value for n, value in state.items() if n not in own}, strict=False)
    problems = sorted(
        {*wrong.unexpected_keys, *(set(wrong.missing_keys) - own.keys()), *(own.keys() - state.keys()), *misfits}
    )
    if problems:
        raise ValueError(f"missing, unexpected or of another shape: {', '.join(problems)}")
    with writing(own.values()):
        for name, parameter in own.items():
            engine.part(parameter).copy_(engine.cut(state[name], parameter))


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
    """`value`, sharded if `like` is and has its shape; an optimizer's count of steps, for one, has not."""
    if isinstance(value, Tensor) and is_sharded(like) and value.shape == like.shape:
        return _distribute(value, like)
    return value


@torch.no_grad()
def _distribute(full: Tensor, like: Any) -> Any:
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(full.to(like.device), like.device_mesh, like.placements)
