"""Batches of any type, on their way to the device."""

import copy
import dataclasses
from collections.abc import Callable, Mapping, MutableMapping, Set
from typing import Any

import torch
from torch.nn.utils.rnn import PackedSequence

from ..errors import ConfigError

_DEPTH = 8  # of objects within objects that are searched for tensors


class Delivery:
    """Takes the batches of a loader to the device. On the CPU there is nothing to do after the first one.

    The first one is taken there on the CPU too, so that a type that no device can be given is found before a cluster is.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._is_done = False

    def __call__(self, batch: Any) -> Any:
        """The batch on the device, of the same type.

        Raises:
            ConfigError: It holds tensors in an object that cannot be moved.
        """
        if self.device.type != "cpu":
            return to_device(batch, self.device)
        if not self._is_done:
            over_tensors(batch, lambda thing: thing)
            self._is_done = True
        return batch


def to_device(batch: Any, device: torch.device) -> Any:
    """Every tensor of a batch on the device, in objects of the same types; what holds no tensor stays as it is.

    accelerate's `send_to_device` fails for a `defaultdict`, which is what PyTorch collates samples of this type to,
    and leaves dataclasses on the host.

    Raises:
        ConfigError: It holds tensors in an object that cannot be moved.
    """
    return over_tensors(batch, lambda thing: _moved(thing, device))


def cloned(batch: Any) -> Any:
    """A copy of a batch, which stays as it is when the batch is changed in place. Of objects with `.to`, no copy."""
    return over_tensors(batch, lambda thing: thing.clone() if isinstance(thing, torch.Tensor) else thing)


def _moved(thing: Any, device: torch.device) -> Any:
    if isinstance(thing, torch.Tensor):
        return thing.to(device, non_blocking=True)
    moved = thing.to(device)
    return thing if moved is None else moved  # some move themselves


def over_tensors(batch: Any, function: Callable[[Any], Any]) -> Any:
    """A batch with `function` applied to its tensors, and to objects that have a `.to` of their own.

    These are packed sequences, graphs of PyG, what tokenizers return. Lists, tuples and mappings are rebuilt as what
    they are, subclasses too, and so are dataclasses and the classes of attrs and pydantic, field by field.
    """
    kind = type(batch)
    if isinstance(batch, torch.Tensor) or callable(getattr(kind, "to", None)):
        return function(batch)
    if kind is list:
        return [over_tensors(value, function) for value in batch]
    if kind is tuple:
        return tuple(over_tensors(value, function) for value in batch)
    if kind is dict:
        return {key: over_tensors(value, function) for key, value in batch.items()}
    if not _holds_tensors(batch):
        return batch
    if not isinstance(batch, list | tuple | Mapping) and not _field_names(batch):
        raise _cannot_move(batch)
    try:
        return _rebuilt(batch, function)
    except (AttributeError, KeyError, TypeError) as error:
        raise _cannot_move(batch, f" ({type(error).__name__}: {error})") from error


def _rebuilt(batch: Any, function: Callable[[Any], Any]) -> Any:
    """A copy of a container of some special type, with what is within it and in its attributes."""
    kind, names = type(batch), list(getattr(batch, "__dict__", ()))
    if isinstance(batch, tuple):
        values = [over_tensors(value, function) for value in batch]
        made = kind._make(values) if hasattr(kind, "_fields") else tuple.__new__(kind, values)
        names and vars(made).update(vars(batch))
    elif isinstance(batch, Mapping) and not isinstance(batch, MutableMapping):
        return kind({key: over_tensors(value, function) for key, value in batch.items()})
    else:
        made = copy.copy(batch)
        if isinstance(batch, list):
            made[:] = [over_tensors(value, function) for value in batch]
        elif isinstance(batch, Mapping):
            for key, value in batch.items():
                made[key] = over_tensors(value, function)
            names = [name for name in names if name not in batch]
        else:
            names = _field_names(batch)
    for name in names:
        object.__setattr__(made, name, over_tensors(getattr(made, name), function))  # of frozen classes too
    return made


def _cannot_move(batch: Any, why: str = "") -> ConfigError:
    name = type(batch).__name__
    return ConfigError(
        f"A batch holds tensors in `{name}`, which cannot be moved to a device{why}: give it a method "
        "`to(device)` that returns the moved object, or make it a dataclass, a dict, a list or a tuple"
    )


def _field_names(thing: Any) -> list[str]:
    """The fields of a dataclass, or of a class of attrs or pydantic; none of other objects."""
    kind = type(thing)
    if dataclasses.is_dataclass(thing):
        return [field.name for field in dataclasses.fields(thing) if hasattr(thing, field.name)]
    if hasattr(kind, "__attrs_attrs__"):
        return [field.name for field in kind.__attrs_attrs__]
    return list(vars(thing)) if hasattr(kind, "__pydantic_fields__") else []


def _holds_tensors(thing: Any, depth: int = _DEPTH) -> bool:
    """Whether a tensor, or an object that is moved by its `.to`, is found in a batch."""
    if isinstance(thing, torch.Tensor | PackedSequence):
        return True
    if depth == 0 or thing is None or isinstance(thing, str | bytes | int | float | complex | type):
        return False
    if isinstance(thing, Mapping):
        inner = list(thing.values())
    elif isinstance(thing, list | tuple | Set):
        inner = list(thing)
    else:
        inner = [
            *getattr(thing, "__dict__", {}).values(),
            *(getattr(thing, name, None) for name in _field_names(thing)),
        ]
    return any(_holds_tensors(value, depth - 1) for value in inner)
