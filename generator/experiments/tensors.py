"""Compare two checkpoints byte for byte: which tensor differs first, and by how much. Reads safetensors without torch."""

import json
import math
import struct
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from ..errors import PreconditionError

_CHUNK = 1 << 20
_MAX_HEADER = 1 << 28  # bytes
_MAX_VALUES = 1 << 20  # of a tensor that are read to say by how much it differs
_CODES = {"F32": "f", "F64": "d", "I64": "q", "I32": "i", "I16": "h", "I8": "b", "U8": "B", "BOOL": "B"}


class Tensor(NamedTuple):
    """A tensor's type, and its place in a file, in bytes."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int


class Comparison(NamedTuple):
    """The result of a comparison.

    Attributes:
        tensors: The number of equal tensors.
        size: The bytes of these tensors.
        difference: The first difference, in words; None if there is none.
    """

    tensors: int
    size: int
    difference: str | None


def compare_checkpoints(run: Path, replay: Path) -> Comparison:
    """Compare all tensors and other state of two checkpoints, models first.

    Raises:
        PreconditionError: One of them cannot be read.
    """
    names = sorted({path.name for folder in (run, replay) for path in folder.glob("*.safetensors")}, key=_models_first)
    tensors = size = 0
    for name in names:
        if missing := [folder for folder in (run, replay) if not (folder / name).is_file()]:
            return Comparison(
                tensors, size, f"`{name}` is missing in {'the run' if missing == [run] else 'the replay'}"
            )
        found = compare_tensors(run / name, replay / name)
        tensors, size = tensors + found.tensors, size + found.size
        if found.difference:
            return Comparison(tensors, size, found.difference)
    return Comparison(tensors, size, _compare_state(run / "state.json", replay / "state.json"))


def compare_tensors(run: Path, replay: Path) -> Comparison:
    """Compare two safetensors files, in the order of the first one.

    Raises:
        PreconditionError: One of them cannot be read.
    """
    tensors = size = 0
    name = run.name.removesuffix(".safetensors")
    try:
        with run.open("rb") as own, replay.open("rb") as other:
            ours, theirs = _header(own), _header(other)
            for key in ours.keys() | theirs.keys():
                if key not in ours or key not in theirs:
                    where = "run" if key not in ours else "replay"
                    return Comparison(tensors, size, f"`{key}` of `{name}` is missing in the {where}")
            for key, tensor in sorted(ours.items(), key=lambda item: item[1].start):
                if (tensor.dtype, tensor.shape) != (theirs[key].dtype, theirs[key].shape):
                    kinds = [f"{t.dtype} {list(t.shape)}" for t in (tensor, theirs[key])]
                    return Comparison(tensors, size, f"`{key}` of `{name}` is {kinds[0]}, and {kinds[1]} in the replay")
                if not _same(own, other, tensor, theirs[key]):
                    return Comparison(
                        tensors, size, f"`{key}` of `{name}`{_by_how_much(own, other, tensor, theirs[key])}"
                    )
                tensors, size = tensors + 1, size + tensor.size
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PreconditionError(f"`{run}` and its replay cannot be compared: {error}") from error
    return Comparison(tensors, size, None)


def tensors_of(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file by name.

    Raises:
        PreconditionError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return _header(file)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PreconditionError(f"`{path}` cannot be read: {error}") from error


def step_of(path: Path) -> int | None:
    """Return the step at which a weight file was written; None if it is not recorded."""
    try:
        with path.open("rb") as file:
            return int(_json_header(file)["__metadata__"]["step"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _models_first(name: str) -> tuple[bool, bool, str]:
    return name != "model.safetensors", name.startswith("optimizer"), name


def _json_header(file: BinaryIO) -> Any:
    """Read the header of a safetensors file: the length of the JSON in 8 bytes, then the JSON."""
    length = int.from_bytes(file.read(8), "little")
    if length > _MAX_HEADER:
        raise ValueError("it is not a safetensors file")
    return json.loads(file.read(length))


def _header(file: BinaryIO) -> dict[str, Tensor]:
    content = _json_header(file)
    data = file.tell()
    found = {}
    for name, about in content.items():
        if name != "__metadata__":
            start, stop = about["data_offsets"]
            found[name] = Tensor(about["dtype"], tuple(about["shape"]), data + start, stop - start)
    return found


def _same(own: BinaryIO, other: BinaryIO, ours: Tensor, theirs: Tensor) -> bool:
    return all(a == b for a, b in zip(_chunks(own, ours), _chunks(other, theirs), strict=True))


def _chunks(file: BinaryIO, tensor: Tensor) -> Iterator[bytes]:
    for start in range(0, tensor.size, _CHUNK):
        file.seek(tensor.start + start)
        yield file.read(min(_CHUNK, tensor.size - start))


def _by_how_much(own: BinaryIO, other: BinaryIO, ours: Tensor, theirs: Tensor) -> str:
    """Say how many values differ, and by how much at most; empty if the tensor cannot be read as numbers."""
    a, b = _values(own, ours), _values(other, theirs)
    differing = [(x, y) for x, y in zip(a, b, strict=True) if x != y and not (math.isnan(x) and math.isnan(y))]
    if not differing:
        return ""
    most = max((abs(x - y) for x, y in differing if math.isfinite(x - y)), default=math.nan)
    return f": {len(differing)} of {len(a)} values differ, by {most:.2g} at most"


def _values(file: BinaryIO, tensor: Tensor) -> "array[Any] | list[float]":
    file.seek(tensor.start)
    if tensor.dtype in _CODES:
        values = array(_CODES[tensor.dtype])
        content = file.read(min(tensor.size, _MAX_VALUES * values.itemsize))
        values.frombytes(content)
        return values
    content = file.read(min(tensor.size, 2 * _MAX_VALUES))
    if tensor.dtype == "F16":
        return list(struct.unpack(f"<{len(content) // 2}e", content))
    if tensor.dtype == "BF16":  # the upper half of a float32
        wide = b"".join(b"\0\0" + content[i : i + 2] for i in range(0, len(content), 2))
        return list(struct.unpack(f"<{len(content) // 2}f", wide))
    return []


def _compare_state(run: Path, replay: Path) -> str | None:
    try:
        ours, theirs = (json.loads(path.read_bytes()) for path in (run, replay))
    except (OSError, ValueError) as error:
        raise PreconditionError(f"`{run}` and its replay cannot be compared: {error}") from error
    return _first_difference("", ours, theirs)


def _first_difference(place: str, ours: Any, theirs: Any) -> str | None:
    """Return the first difference between two JSON values, in words; None if there is none."""
    if isinstance(ours, dict) and isinstance(theirs, dict) and ours.keys() == theirs.keys():
        pairs = [(f"{place}.{key}" if place else str(key), ours[key], theirs[key]) for key in ours]
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        pairs = [(f"{place}[{i}]", *both) for i, both in enumerate(zip(ours, theirs, strict=True))]
    else:
        same = ours == theirs and type(ours) is type(theirs)
        return None if same else f"`{place}` of the state is {_short(ours)}, and {_short(theirs)} in the replay"
    return next((found for pair in pairs if (found := _first_difference(*pair)) is not None), None)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
