"""State as JSON and tensors, and back, bit for bit: the content of a checkpoint.

Values that JSON has stay as they are. Every other value is an object whose key `$` names its kind:

    {"$": "tensor", "name": "optimizer.state.0.exp_avg", "stride": [1, 8]}     stride if not contiguous
    {"$": "array" | "number", "name": …}                                       of NumPy, stored as tensors
    {"$": "tuple", "items": […]}
    {"$": "float", "bits": "7ff8000000000000"}                                 NaN and infinities
    {"$": "dict", "items": [[key, value], …]}                                  if not all keys are strings
    {"$": "counting", "factory": "list", "items": [[key, value], …]}           a defaultdict; a Counter has no factory
    {"$": "set" | "frozenset" | "deque" | "bytes" | "date" | "path" | …}       more types of Python and PyTorch
    {"$": "enum" | "dataclass" | "namedtuple", "class": "train:Mode", …}       of a class that the script has imported
"""

import json
import math
import struct
import sys
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from ..errors import CheckpointError
from .shards import Shard
from .stored import Stored
from .tensorfile import dtype_name

Json = Any
"""None, bool, int, float, str, and lists and dicts of them."""


def _complex(text: str) -> complex:
    return complex(*struct.unpack(">dd", bytes.fromhex(text)))


def _dtype(text: str) -> torch.dtype:
    found = getattr(torch, text, None)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"PyTorch has no type `{text}`")
    return found


_AS_TEXT: dict[type, tuple[Callable[[Any], str], Callable[[str], Any]]] = {
    bytes: (bytes.hex, bytes.fromhex),
    bytearray: (bytearray.hex, bytearray.fromhex),
    complex: (lambda value: struct.pack(">dd", value.real, value.imag).hex(), _complex),
    datetime: (datetime.isoformat, datetime.fromisoformat),
    date: (date.isoformat, date.fromisoformat),
    time: (time.isoformat, time.fromisoformat),
    timedelta: (
        lambda value: f"{value.days} {value.seconds} {value.microseconds}",
        lambda text: timedelta(*map(int, text.split(" "))),
    ),
    Decimal: (str, Decimal),
    torch.dtype: (lambda value: str(value).removeprefix("torch."), _dtype),
    torch.device: (str, torch.device),
}
"""Functions to text and back, by type. The name of the type is the kind."""

_FROM_TEXT: dict[str, Callable[[str], Any]] = {kind.__name__: back for kind, (_, back) in _AS_TEXT.items()}
_FROM_TEXT["path"] = Path

_FACTORIES: dict[str, Callable[[], Any]] = {
    kind.__name__: kind for kind in (int, float, list, dict, set, deque, Counter)
}
"""Allowed default factories of a defaultdict."""

_MAX_DEPTH = 200  # levels of nesting: any deeper state contains itself


def encode(state: Any, *, may_grow: bool = False) -> tuple[Json, dict[str, Any]]:
    """Split `state` into a tree for JSON and its tensors, which are not copied.

    Accepts None, bool, int, float, complex, Decimal, str, bytes, list, tuple, set, frozenset, deque, dict, Counter,
    defaultdict (of a built-in type), Tensor, Parameter, torch.dtype, torch.device, NumPy arrays and numbers, dates and
    times, paths, members of an Enum, dataclasses and named tuples, nested in any way. `decode` returns every value with
    its type and bits, with three exceptions: other subclasses of dict become a dict, a torch.Size a tuple, a Parameter
    a plain Tensor. A tensor that occurs several times, such as tied weights, is stored once and returned as one tensor;
    views that overlap in another way are returned as separate tensors. A `Shard` stands for the whole tensor, and is
    returned among the tensors.

    Args:
        state: The state to split.
        may_grow: Whether to skip values that do not exist yet, such as parameters of a lazy module before its first
            batch.

    Raises:
        CheckpointError: A value has another type; names its place and type.
    """
    encoder = _Encoder(may_grow)
    return encoder.encode(state, ()), encoder.tensors


def decode(tree: Json, tensors: Mapping[str, Any]) -> Any:
    """The inverse of `encode`. Runs no code of the classes in the state, and imports nothing.

    Raises:
        CheckpointError: The tree does not come from `encode`, a tensor is missing, or the script lacks a class.
    """
    try:
        return _decode(tree, dict(tensors))
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError, struct.error) as error:
        raise CheckpointError(f"The state was changed after it was written: {type(error).__name__}: {error}") from error


def same(state: Any, other: Any) -> bool:
    """Whether two states are bitwise equal."""
    (tree, tensors), (other_tree, others) = encode(state), encode(other)
    return (
        tree == other_tree
        and tensors.keys() == others.keys()
        and all(t.dtype == others[n].dtype and torch.equal(t, others[n].to(t.device)) for n, t in tensors.items())
    )


class _Encoder:
    def __init__(self, may_grow: bool) -> None:
        self.tensors: dict[str, Tensor | Shard] = {}
        self._may_grow = may_grow
        self._names: dict[Any, str] = {}  # identity of a tensor -> its name

    def encode(self, value: Any, path: tuple[str, ...]) -> Json:
        if len(path) > _MAX_DEPTH:
            raise CheckpointError(f"The state is nested too deeply, or contains itself: {_place(path[:4])} …")
        kind = type(value)
        if value is None or kind in (bool, int, str) or (kind is float and math.isfinite(value)):
            return value
        if kind is float:
            return {"$": "float", "bits": struct.pack(">d", value).hex()}
        if kind is list:
            return [self.encode(item, (*path, str(index))) for index, item in enumerate(value)]
        if kind in (tuple, torch.Size):
            return {"$": "tuple", "items": [self.encode(item, (*path, str(i))) for i, item in enumerate(value)]}
        if kind is Counter or (kind is defaultdict and value.default_factory in _FACTORIES.values()):
            name = "" if kind is Counter else value.default_factory.__name__
            return {"$": "counting", "factory": name, "items": self._encode_items(value, path)}
        if isinstance(value, dict):
            return self._encode_dict(value, path)
        if isinstance(value, Enum) and value.name in kind.__members__:
            return {"$": "enum", "class": self._class(kind, path), "name": value.name}
        if kind in (
            set,
            frozenset,
        ):  # in an order that does not depend on the process, so that equal states are encoded equally
            items = sorted((self.encode(item, path) for item in value), key=json.dumps)
            return {"$": kind.__name__, "items": items}
        if kind is deque:
            items = [self.encode(item, (*path, str(index))) for index, item in enumerate(value)]
            return {"$": "deque", "items": items, "maxlen": value.maxlen}
        if kind in _AS_TEXT:
            return {"$": kind.__name__, "text": _AS_TEXT[kind][0](value)}
        if isinstance(value, PurePath):
            return {"$": "path", "text": str(value)}
        if kind is Shard:
            return self._encode_shard(value, path)
        is_named_tuple = isinstance(value, tuple) and hasattr(kind, "_fields")
        if is_named_tuple or (is_dataclass(value) and kind is not type):
            names = kind._fields if is_named_tuple else [field.name for field in fields(value)]
            found = {name: self.encode(getattr(value, name), (*path, name)) for name in names if hasattr(value, name)}
            what = "namedtuple" if is_named_tuple else "dataclass"
            return {"$": what, "class": self._class(kind, path), "fields": found}
        if is_lazy(value):
            if self._may_grow:
                return None
            raise CheckpointError(
                f"{_place(path)} is a lazy parameter without a shape: pass a batch through the model first"
            )
        if kind in (Tensor, torch.nn.Parameter):
            return self._encode_tensor(value, path)
        if kind is np.ndarray or isinstance(value, np.generic):
            return self._encode_numpy(value, path)
        hint = "; gather its shards first" if isinstance(value, Tensor) and hasattr(value, "to_local") else ""
        raise CheckpointError(
            f"{_place(path)} has the type `{torch.typename(kind)}`, which a checkpoint cannot store{hint}"
        )

    def _class(self, kind: type, path: tuple[str, ...]) -> str:
        """The name by which `decode` will find a class."""
        name = f"{kind.__module__}:{kind.__qualname__}"
        if _found_class(name) is not kind:
            raise CheckpointError(
                f"{_place(path)} is of the class `{kind.__qualname__}`, which is defined in a function: a checkpoint "
                "can store it if it is defined at the top level of a file"
            )
        return name

    def _encode_dict(self, value: dict[Any, Any], path: tuple[str, ...]) -> Json:
        if all(type(key) is str for key in value) and "$" not in value:
            return {key: self.encode(item, (*path, key)) for key, item in value.items()}
        return {"$": "dict", "items": self._encode_items(value, path)}

    def _encode_items(self, value: dict[Any, Any], path: tuple[str, ...]) -> Json:
        for key in value:
            if not _is_key(key):
                raise CheckpointError(
                    f"{_place(path)} has a key of the type `{torch.typename(type(key))}`, which a checkpoint cannot store"
                )
        return [[self.encode(key, path), self.encode(v, (*path, str(key)))] for key, v in value.items()]

    def _encode_tensor(self, tensor: Tensor, path: tuple[str, ...]) -> Json:
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta or dtype_name(tensor.dtype) is None:
            raise _unsupported(tensor.dtype, f"{str(tensor.layout).removeprefix('torch.')}, {tensor.device}", path)
        tensor = tensor.detach()
        identity: Any = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        identity += (tensor.is_conj(), tensor.is_neg())
        name = self._names.get(identity) if tensor.numel() else None
        if name is None:
            name = self._names[identity] = self._add(tensor, path)
        reference = {"$": "tensor", "name": name}
        return reference if _needs_no_stride(tensor) else {**reference, "stride": list(tensor.stride())}

    def _encode_shard(self, shard: Shard, path: tuple[str, ...]) -> Json:
        if dtype_name(shard.dtype) is None:
            raise _unsupported(shard.dtype, "sharded", path)
        name = self._names.get(id(shard))
        if name is None:
            name = self._names[id(shard)] = self._add(shard, path)
        reference = {"$": "tensor", "name": name}
        if shard.stride is None or _needs_no_stride(torch.empty_strided(shard.shape, shard.stride, device="meta")):
            return reference
        return {**reference, "stride": list(shard.stride)}

    def _encode_numpy(self, value: Any, path: tuple[str, ...]) -> Json:
        try:
            tensor = torch.from_numpy(np.array(value, order="C"))  # copied: it may be read-only
        except (TypeError, ValueError):
            tensor = None
        if tensor is None or dtype_name(tensor.dtype) is None:
            raise CheckpointError(
                f"{_place(path)} is NumPy data of the type `{value.dtype}`, which a checkpoint cannot store"
            )
        return {"$": "number" if isinstance(value, np.generic) else "array", "name": self._add(tensor, path)}

    def _add(self, tensor: Tensor | Shard, path: tuple[str, ...]) -> str:
        """Add a tensor under the name of its place. Any text is a valid name, but for the one safetensors reserves."""
        plain = ".".join(path).encode(errors="backslashreplace").decode() or "tensor"
        name, number = plain, 1
        while name in self.tensors or name == "__metadata__":
            number += 1
            name = f"{plain}#{number}"
        self.tensors[name] = tensor
        return name


def _unsupported(dtype: torch.dtype, how: str, path: tuple[str, ...]) -> CheckpointError:
    what = f"{str(dtype).removeprefix('torch.')} tensor, {how}"
    return CheckpointError(f"{_place(path)} is a tensor that a checkpoint cannot store: {what}")


def _decode(tree: Json, tensors: dict[str, Any]) -> Any:
    if isinstance(tree, list):
        return [_decode(item, tensors) for item in tree]
    if not isinstance(tree, dict):
        return tree
    kind = tree.get("$")
    if kind is None:
        return {key: _decode(item, tensors) for key, item in tree.items()}
    if kind == "tuple":
        return tuple(_decode(item, tensors) for item in tree["items"])
    if kind == "dict":
        return {_decode(key, tensors): _decode(item, tensors) for key, item in tree["items"]}
    if kind == "counting":
        items = {_decode(key, tensors): _decode(item, tensors) for key, item in tree["items"]}
        return defaultdict(_FACTORIES[tree["factory"]], items) if tree["factory"] else Counter(items)
    if kind == "float":
        return struct.unpack(">d", bytes.fromhex(tree["bits"]))[0]
    if kind == "array":
        return tensors[tree["name"]].numpy()
    if kind == "number":
        return tensors[tree["name"]].numpy()[()]
    if kind in ("set", "frozenset"):
        return (set if kind == "set" else frozenset)(_decode(item, tensors) for item in tree["items"])
    if kind == "deque":
        return deque((_decode(item, tensors) for item in tree["items"]), tree["maxlen"])
    if kind in _FROM_TEXT:
        return _FROM_TEXT[kind](tree["text"])
    if kind in ("enum", "dataclass", "namedtuple"):
        return _decode_of_class(kind, tree, tensors)
    if kind != "tensor":
        raise ValueError(f"unknown kind {kind!r}")
    tensor = tensors[tree["name"]]
    if "stride" in tree and not isinstance(tensor, Shard) and tree["stride"] != list(tensor.stride()):
        if not _is_dense(tensor.shape, tree["stride"]):
            raise ValueError(f"the strides {tree['stride']} do not fit the shape {tuple(tensor.shape)}")
        if isinstance(tensor, Stored):
            tensor = tensor.strided(tree["stride"])
        else:
            tensor = torch.empty_strided(tensor.shape, tree["stride"], dtype=tensor.dtype).copy_(tensor)
        tensors[tree["name"]] = tensor  # kept, so that tied tensors stay one tensor
    return tensor


def _decode_of_class(kind: str, tree: dict[str, Json], tensors: dict[str, Tensor]) -> Any:
    found = _found_class(tree["class"])
    if found is None:
        raise ValueError(f"the script has no class `{tree['class']}`")
    if kind == "enum":
        if not issubclass(found, Enum):
            raise ValueError(f"`{tree['class']}` is no Enum")
        return found.__members__[tree["name"]]
    values = {name: _decode(item, tensors) for name, item in tree["fields"].items()}
    if kind == "namedtuple":
        if not issubclass(found, tuple):
            raise ValueError(f"`{tree['class']}` is no named tuple")
        return tuple.__new__(found, [values[name] for name in found._fields])  # type: ignore[attr-defined]
    if not is_dataclass(found):
        raise ValueError(f"`{tree['class']}` is no dataclass")
    made = object.__new__(found)  # as `copy` does: without calling `__init__`
    for name in {field.name for field in fields(found)} & values.keys():
        object.__setattr__(made, name, values[name])
    return made


def _found_class(name: str) -> type | None:
    """A class by its name, in a module that is already imported: a checkpoint never causes an import."""
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, type) else None


def _is_dense(shape: Sequence[int], stride: Sequence[int]) -> bool:
    """Whether strides are those of a contiguous tensor with permuted dimensions, and so need no extra memory."""
    expected = 1
    for step, size in sorted(zip(stride, shape, strict=True)):
        if size > 1 and step != expected:
            return False
        expected *= size
    return True


def _needs_no_stride(tensor: Tensor) -> bool:
    """Whether a tensor is contiguous, or has gaps or repetitions, which are not worth keeping.

    The strides of a dense layout such as channels_last are stored: the order of arithmetic operations depends on them.
    """
    order = sorted(range(tensor.dim()), key=tensor.stride, reverse=True)
    return tensor.is_contiguous() or not tensor.permute(order).is_contiguous()


def _is_key(key: Any) -> bool:
    if type(key) in (tuple, frozenset):
        return all(_is_key(item) for item in key)
    return (
        key is None or type(key) in (bool, int, float, str, *_AS_TEXT) or isinstance(key, Enum | PurePath | np.generic)
    )


def _place(path: tuple[str, ...]) -> str:
    return f"`{'.'.join(path)}`" if path else "The state"
