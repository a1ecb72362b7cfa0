"""The states of models and optimizers: split into what each process writes, and loaded again on any number of them."""

from collections.abc import Container
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ..storage.shards import Shard, Turns, box_of
from ..storage.stored import Stored, in_memory
from . import deepspeed
from .sharding import is_dtensor, is_sharded, like, shape, shard, whole

_SPLIT = 1 << 20  # bytes of a replicated tensor from which on each process writes some of its rows


def parts(state: Any, rank: int, num_processes: int, replicated: Container[int], *, gathers: bool = True) -> Any:
    """A copy of a state with a `Shard` for each tensor that several processes write. Collective for DeepSpeed's tensors.

    Of a tensor that is on several processes, each writes other rows if it is replicated; of several equal shards of a
    DTensor, one process writes one. Nothing is gathered or copied, except parameters of DeepSpeed's stage 3: its public
    functions return whole tensors, so these are gathered one at a time, each for another process that writes it.

    Args:
        state: Tensors in dicts, lists and tuples, with the same structure on all processes.
        rank: The rank of this process.
        num_processes: How many processes there are.
        replicated: The `id` of each plain tensor that has the same values on all processes.
        gathers: Whether to gather DeepSpeed's parameters now, or when the `gather` of their `Shard` is called.
    """
    return _Splitter(rank, num_processes, replicated, gathers).split(state)


class _Splitter:
    """Replaces tensors by shards. A tensor that occurs twice, as tied weights do, becomes one `Shard`."""

    def __init__(self, rank: int, num_processes: int, replicated: Container[int], gathers: bool) -> None:
        self._rank, self._num_processes = rank, num_processes
        self._replicated, self._gathers = replicated, gathers
        self._shards: dict[int, tuple[Shard, Any]] = {}  # by the `id` of a tensor, which is kept alive
        self._num_dtensors = 0
        self._turns = Turns(rank, num_processes)

    def split(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self.split(inner) for key, inner in value.items()}
        if type(value) in (list, tuple):
            return type(value)(map(self.split, value))
        if not is_sharded(value) and not self._has_rows_to_share(value):
            return value.detach() if isinstance(value, nn.Parameter) and not is_lazy(value) else value
        if id(value) not in self._shards:
            self._shards[id(value)] = self._shard(value), value
        return self._shards[id(value)][0]

    def _has_rows_to_share(self, value: Any) -> bool:
        is_replicated = id(value) in self._replicated and isinstance(value, Tensor)
        return is_replicated and value.nbytes >= _SPLIT and len(value) > 1

    def _shard(self, tensor: Any) -> Shard:
        if deepspeed.is_sharded(tensor):
            return self._turns.shard(
                shape(tensor), tensor.dtype, partial(deepspeed.gathered, tensor), now=self._gathers
            )
        if is_dtensor(tensor):
            return self._shard_of(tensor.detach())
        return self._rows_of(tensor.detach())

    def _rows_of(self, tensor: Tensor) -> Shard:
        """The rows of a replicated tensor that this process writes."""
        first, last = (len(tensor) * number // self._num_processes for number in (self._rank, self._rank + 1))
        offset = (first, *(0,) * (tensor.dim() - 1))
        part = tensor[first:last] if last > first else None
        return Shard(tuple(tensor.shape), tensor.dtype, offset, part, lambda: tensor, tensor.stride())

    def _shard_of(self, tensor: Any) -> Shard:
        """This process's shard of a DTensor, without values if another process with the same shard writes it."""
        coordinate, replica, replicas = tensor.device_mesh.get_coordinate(), 0, 1
        for dimension, placement in enumerate(tensor.placements):
            if placement.is_replicate():
                replica = replica * tensor.device_mesh.size(dimension) + coordinate[dimension]
                replicas *= tensor.device_mesh.size(dimension)
        part = tensor.to_local() if self._num_dtensors % replicas == replica else None
        self._num_dtensors += 1
        return Shard(tuple(tensor.shape), tensor.dtype, box_of(tensor).offset, part, lambda: whole(tensor))


def load_model(model: nn.Module, state: dict[str, Any]) -> None:
    """`model.load_state_dict` from whole tensors, in memory or `Stored`, to parameters that may be sharded.

    Stored tensors are read one at a time, and for a DTensor only this process's shard. Collective for DeepSpeed's
    parameters.
    """
    if any(map(deepspeed.is_sharded, model.parameters())):
        _load_sharded_model(model, state)
        return
    own = model.state_dict()
    model.load_state_dict({name: _fit(value, own.get(name)) for name, value in state.items()})


def _load_sharded_model(model: nn.Module, state: dict[str, Any]) -> None:
    """`load_model` for DeepSpeed's stage 3, whose parameters are placeholders with shapes that PyTorch would refuse."""
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
    """`optimizer.load_state_dict` from whole tensors, in memory or `Stored`, to parameters that may be sharded.

    PyTorch casts each state to the dtype of its parameter, which would round float32 averages of a bfloat16 parameter.
    With `keeps_types` they keep the saved dtype, which is right unless the parameters have another dtype now.
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
    """The value for a model's parameter; PyTorch reads what is `Stored` when it copies it."""
    return value if isinstance(value, Stored) else _held(value, target)


def _held(value: Any, target: Any) -> Any:
    """What this process holds of `value`, in memory: its shard, if `target` is sharded and has the same shape."""
    is_whole = isinstance(value, Tensor) and not is_dtensor(value)
    if is_whole and is_dtensor(target) and value.shape == target.shape:
        return like(shard(value, target), target)
    return in_memory(value)
