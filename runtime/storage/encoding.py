"""State as JSON and tensors, and back, bit for bit: the content of a checkpoint.

What JSON can express stays as it is. The rest is an object whose key `$` says what it stands for:

    {"$": "tensor", "name": "optimizer.state.0.exp_avg", "stride": [1, 8]}     stride where it is not contiguous
    {"$": "array" | "number", "name": …}                                       NumPy's, stored as tensors
    {"$": "tuple", "items": […]}
    {"$": "float", "bits": "7ff8000000000000"}                                 NaN and infinities
    {"$": "dict", "items": [[key, value], …]}                                  where not all keys are strings
"""

import math
import struct
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import CheckpointError
from .tensorfile import dtype_name

Json = Any
"""None, bool, int, float, str, and lists and dicts of them."""

_MAX_DEPTH = 200  # levels of nesting: deeper than any real state, so it contains itself


def encode(state: Any) -> tuple[Json, dict[str, Tensor]]:
    """Split `state` into a tree for JSON and its tensors, which are not copied.

    Accepts None, bool, int, float, str, list, tuple, dict, Tensor, Parameter, NumPy arrays and numbers, nested in any
    way. `decode` returns every value with its type and bits, except for these: a subclass of dict as a dict, a
    torch.Size as a tuple, a Parameter as a plain Tensor. A tensor that occurs several times, such as tied weights, is
    stored once and returned as one; views that overlap in another way are returned apart.

    Raises:
        CheckpointError: A value has another type; names its place and type.
    """
    encoder = _Encoder()
    return encoder.encode(state, ()), encoder.tensors


def decode(tree: Json, tensors: dict[str, Tensor]) -> Any:
    """Put together what `encode` has split.

    Raises:
        CheckpointError: The tree does not come from `encode`, or a tensor is missing.
    """
    try:
        return _decode(tree, dict(tensors))
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, struct.error) as error:
        raise CheckpointError(f"The state was changed after it was written: {type(error).__name__}: {error}") from error


class _Encoder:
    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
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
        if isinstance(value, dict):
            return self._encode_dict(value, path)
        if kind in (Tensor, torch.nn.Parameter):
            return self._encode_tensor(value, path)
        if kind is np.ndarray or isinstance(value, np.generic):
            return self._encode_numpy(value, path)
        hint = "; gather its shards first" if isinstance(value, Tensor) and hasattr(value, "to_local") else ""
        raise CheckpointError(
            f"{_place(path)} has the type `{torch.typename(kind)}`, which a checkpoint cannot store{hint}"
        )

    def _encode_dict(self, value: dict[Any, Any], path: tuple[str, ...]) -> Json:
        if all(type(key) is str for key in value) and "$" not in value:
            return {key: self.encode(item, (*path, key)) for key, item in value.items()}
        for key in value:
            if not _is_scalar(key):
                raise CheckpointError(
                    f"{_place(path)} has a key of the type `{torch.typename(type(key))}`, which a checkpoint cannot store"
                )
        return {
            "$": "dict",
            "items": [[self.encode(key, path), self.encode(v, (*path, str(key)))] for key, v in value.items()],
        }

    def _encode_tensor(self, tensor: Tensor, path: tuple[str, ...]) -> Json:
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta or dtype_name(tensor.dtype) is None:
            what = f"{str(tensor.dtype).removeprefix('torch.')} tensor, {str(tensor.layout).removeprefix('torch.')}"
            raise CheckpointError(f"{_place(path)} is a tensor that a checkpoint cannot store: {what}, {tensor.device}")
        tensor = tensor.detach()
        identity: Any = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        identity += (tensor.is_conj(), tensor.is_neg())
        name = self._names.get(identity) if tensor.numel() else None
        if name is None:
            name = self._names[identity] = self._add(tensor, path)
        reference = {"$": "tensor", "name": name}
        return reference if _is_usual(tensor) else {**reference, "stride": list(tensor.stride())}

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

    def _add(self, tensor: Tensor, path: tuple[str, ...]) -> str:
        """Name a tensor by its place. Any text is a valid name, except one that the format reserves."""
        plain = ".".join(path).encode(errors="backslashreplace").decode() or "tensor"
        name, number = plain, 1
        while name in self.tensors or name == "__metadata__":
            number += 1
            name = f"{plain}#{number}"
        self.tensors[name] = tensor
        return name


def _decode(tree: Json, tensors: dict[str, Tensor]) -> Any:
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
    if kind == "float":
        return struct.unpack(">d", bytes.fromhex(tree["bits"]))[0]
    if kind == "array":
        return tensors[tree["name"]].numpy()
    if kind == "number":
        return tensors[tree["name"]].numpy()[()]
    if kind != "tensor":
        raise ValueError(f"unknown kind {kind!r}")
    tensor = tensors[tree["name"]]
    if "stride" in tree and tree["stride"] != list(tensor.stride()):
        strided = torch.empty_strided(tensor.shape, tree["stride"], dtype=tensor.dtype)
        tensor = tensors[tree["name"]] = strided.copy_(tensor)  # kept, as tied tensors stay one
    return tensor


def _is_usual(tensor: Tensor) -> bool:
    """Whether to store no strides: contiguous, or with gaps or repetitions, which are not worth it.

    A dense layout such as channels_last is stored, because the order of arithmetic operations depends on it.
    """
    order = sorted(range(tensor.dim()), key=tensor.stride, reverse=True)
    return tensor.is_contiguous() or not tensor.permute(order).is_contiguous()


def _is_scalar(key: Any) -> bool:
    if type(key) is tuple:
        return all(_is_scalar(item) for item in key)
    return key is None or type(key) in (bool, int, float, str)


def _place(path: tuple[str, ...]) -> str:
    return f"`{'.'.join(path)}`" if path else "The state"
