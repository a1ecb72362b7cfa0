"""Moving batches of any type to the device."""

import copy
import dataclasses
from collections.abc import Callable, Mapping, MutableMapping, Set
from typing import Any

import torch
from torch.nn.utils.rnn import PackedSequence

from ..errors import ConfigError

_DEPTH = 8  # levels of nested objects that are searched for tensors


class Delivery:
    """Moves the batches of a loader to the device. On the CPU, only the first batch is checked.

    So a type that cannot be moved is found on the CPU, and not first on a cluster.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._has_checked = False

    def __call__(self, batch: Any) -> Any:
        """The batch on the device, of the same type.

        Raises:
            ConfigError: It holds tensors in an object that cannot be moved.
        """
        if self.device.type != "cpu":
            return to_device(batch, self.device)
        if not self._has_checked:
            over_tensors(batch, lambda tensor: tensor)
            self._has_checked = True
        return batch


def to_device(batch: Any, device: torch.device) -> Any:
    """A batch with its tensors on the device, of the same types. Objects without tensors are not copied.

    accelerate's `send_to_device` fails for a `defaultdict`, to which PyTorch collates such samples, and leaves
    dataclasses on the host.

    Raises:
        ConfigError: It holds tensors in an object that cannot be moved.
    """
    return over_tensors(batch, lambda value: _moved(value, device))


def cloned(batch: Any) -> Any:
    """A batch with copies of its tensors, to be changed in place. Objects with a `.to` are not copied."""
    return over_tensors(batch, lambda value: value.clone() if isinstance(value, torch.Tensor) else value)


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(device, non_blocking=True)
    moved = value.to(device)
    return value if moved is None else moved  # some objects move in place and return nothing


def over_tensors(batch: Any, function: Callable[[Any], Any]) -> Any:
    """A batch with `function` applied to its tensors and to objects with a method `.to`.

    Such objects are packed sequences, PyG graphs and the output of tokenizers. Lists, tuples and mappings are rebuilt with
    their own type, and so are dataclasses and classes of attrs and pydantic, field by field.
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
    """A copy of a container of a special type, with `function` applied to its items, attributes and fields."""
    kind, names = type(batch), list(getattr(batch, "__dict__", ()))
    if isinstance(batch, tuple):
        values = [over_tensors(value, function) for value in batch]
        made = kind._make(values) if hasattr(kind, "_fields") else tuple.__new__(kind, values)
        if names:
            vars(made).update(vars(batch))
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
        object.__setattr__(made, name, over_tensors(getattr(made, name), function))  # also works on frozen classes
    return made


def _cannot_move(batch: Any, why: str = "") -> ConfigError:
    name = type(batch).__name__
    return ConfigError(
        f"A batch holds tensors in `{name}`, which cannot be moved to a device{why}: give it a method "
        "`to(device)` that returns the moved object, or use a dataclass, a dict, a list or a tuple"
    )


def _field_names(value: Any) -> list[str]:
    """The fields of a dataclass or a class of attrs or pydantic; empty for other objects."""
    kind = type(value)
    if dataclasses.is_dataclass(value):
        return [field.name for field in dataclasses.fields(value) if hasattr(value, field.name)]
    if hasattr(kind, "__attrs_attrs__"):
        return [field.name for field in kind.__attrs_attrs__]
    return list(vars(value)) if hasattr(kind, "__pydantic_fields__") else []


def _slot_names(kind: type) -> list[str]:
    """The attributes that a class and its bases keep in `__slots__`."""
    slots = [getattr(base, "__slots__", ()) for base in kind.__mro__]
    return [name for names in slots for name in ([names] if isinstance(names, str) else names)]


def _holds_tensors(value: Any, depth: int = _DEPTH) -> bool:
    """Whether a batch holds a tensor or a packed sequence."""
    if isinstance(value, torch.Tensor | PackedSequence):
        return True
    if depth == 0 or value is None or isinstance(value, str | bytes | int | float | complex | type):
        return False
    if isinstance(value, Mapping):
        inner = list(value.values())
    elif isinstance(value, list | tuple | Set):
        inner = list(value)
    else:
        inner = [
            *getattr(value, "__dict__", {}).values(),
            *(getattr(value, name, None) for name in [*_field_names(value), *_slot_names(type(value))]),
        ]
    return any(_holds_tensors(value, depth - 1) for value in inner)
