"""Tensors as the bytes of a safetensors file.

The writer of `safetensors` needs all tensors on the host at once, refuses tensors that share memory, and orders
metadata at random. This one writes one tensor at a time, and the same values make the same bytes. `safetensors` reads
them.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import CheckpointError
from .shards import Box, Shard
from .stored import SMALL, Piece, as_bytes, rows_of_a_block, stored

Buffer = bytes | memoryview


@cache
def dtype_name(dtype: torch.dtype) -> str | None:
    """The name of a dtype in a safetensors file; None if the installed `safetensors` cannot write and read it."""
    try:
        content = safetensors.torch.save({"x": torch.empty(2, dtype=dtype)})
        name: str = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["x"]["dtype"]
        return name if safetensors.torch.load(content)["x"].dtype == dtype else None
    except Exception:  # the library raises various types
        return None


def tensor_chunks(tensors: Mapping[str, Tensor | Shard], metadata: Mapping[str, str] | None = None) -> Iterator[Buffer]:
    """Yield the content of a file: the header, then the values of each tensor, one at a time on the host.

    Args:
        tensors: By name, on any device, with any strides, sharing memory or not; each dtype has a `dtype_name`. Shards
            are gathered one at a time: collective.
        metadata: Text for the header.
    """
    content, starts = _header(tensors, metadata)
    yield content
    for name in starts:
        tensor = tensors[name]
        whole = tensor.gather() if isinstance(tensor, Shard) else tensor
        if whole.numel():
            yield as_bytes(_flat(whole))


def part_chunks(
    tensors: Mapping[str, Shard], metadata: Mapping[str, str], index: dict[str, dict[str, Any]]
) -> Iterator[Buffer]:
    """Yield the content of a file with this process's parts of tensors, one part at a time on the host.

    Args:
        tensors: By name, each with a part.
        metadata: Text for the header.
        index: Receives an entry for each name: which part of the tensor is where in the file, and the hashes of its
            blocks.
    """
    parts = {name: shard.part for name, shard in tensors.items() if shard.part is not None}
    content, starts = _header(parts, metadata)
    yield content
    for name, start in starts.items():
        shard, part = tensors[name], parts[name]
        rows = rows_of_a_block(part.shape, part.element_size())
        hashes: list[str] = []
        index[name] = {
            "dtype": dtype_name(part.dtype),
            "shape": list(shard.shape),
            "offset": list(shard.offset),
            "size": list(part.shape),
            "start": len(content) + start,
            "rows": rows,
            "sha256": hashes,
        }
        if part.numel() == 0:
            continue
        values = as_bytes(_flat(part))
        block = rows * (part.nbytes // (part.shape[0] if part.dim() else 1))
        for first in range(0, len(values), block):
            piece = values[first : first + block]
            hashes.append(hashlib.sha256(piece).hexdigest())
            yield piece


def _header(tensors: Mapping[str, Tensor | Shard], metadata: Mapping[str, str] | None) -> tuple[bytes, dict[str, int]]:
    """The header of a file, and the offset of each tensor after it, in the order of the file."""
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    in_order = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))  # largest first: all are aligned
    start, starts = 0, {}
    for name in in_order:
        tensor = tensors[name]
        starts[name], end = start, start + tensor.nbytes
        header[name] = {"dtype": dtype_name(tensor.dtype), "shape": list(tensor.shape), "data_offsets": [start, end]}
        start = end
    content = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    content += b" " * (-len(content) % 8)
    return len(content).to_bytes(8, "little") + content, starts


def _flat(tensor: Tensor) -> Tensor:
    flat = tensor.detach().cpu().resolve_conj().resolve_neg().reshape(-1)
    if flat.numel() and flat.stride(0) != 1:  # PyTorch calls a single value with any stride contiguous
        flat = flat.clone(memory_format=torch.contiguous_format)
    return flat


def load_tensors(path: Path, *, lazily: bool = False, at_once: int = SMALL) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and the metadata of a file, on the host.

    Args:
        path: The file.
        lazily: Whether large tensors stay in the file, as `Stored`, until they are needed.
        at_once: Bytes up to which a tensor is read now, even if `lazily`.

    Raises:
        CheckpointError: The file is missing, damaged or no regular file, such as a pipe or a device.
    """
    if path.exists() and not path.is_file():
        raise CheckpointError(f"`{path}` cannot be read: it is no regular file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            left = _stored_tensors(path, at_once) if lazily else {}
            # Copied, because `safetensors` maps the file, which may be removed during training, and because its tensors
            # are not aligned like others, which changes the order in which sums are computed
            return {
                name: left[name] if name in left else file.get_tensor(name).clone()
                for name in file.keys()  # noqa: SIM118
            }, metadata
    except CheckpointError:
        raise
    except (OSError, SafetensorError, RuntimeError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise CheckpointError(f"`{path}` cannot be read: {error}") from error


def _stored_tensors(path: Path, at_once: int) -> dict[str, Tensor]:
    """The tensors of more than `at_once` bytes in a file whose header `safetensors` has validated."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    found = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        if end - start > at_once:
            shape, dtype = entry["shape"], dtype_named(entry["dtype"])
            piece = Piece(path, 8 + length + start, Box.whole(shape), rows_of_a_block(shape, dtype.itemsize))
            found[name] = stored([piece], shape, dtype, at_once=at_once)
    return found


def piece_of(path: Path, part: Mapping[str, Any]) -> Piece:
    """The part of a tensor that `part_chunks` has written, by its entry in the index.

    Raises:
        ValueError: The entry is invalid.
    """
    box, start, rows = Box(tuple(part["offset"]), tuple(part["size"])), part["start"], part["rows"]
    if any(type(number) is not int or number < 0 for number in (*box.offset, *box.size, start, rows - 1)):
        raise ValueError(f"it has a part of the size {list(box.size)} at {list(box.offset)}, in blocks of {rows} rows")
    blocks = -(-(box.size[0] if box.size else 1) // rows) if box.numel else 0
    if len(part["sha256"]) != blocks:
        raise ValueError(f"it has {len(part['sha256'])} hashes of {blocks} blocks")
    return Piece(path, start, box, rows, tuple(part["sha256"]))


_DTYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.bool),
    *(torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.uint16, torch.uint32, torch.uint64),
    *(torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz, torch.float8_e8m0fnu),
)


@cache
def dtype_named(name: str) -> torch.dtype:
    """The inverse of `dtype_name`.

    Raises:
        ValueError: No dtype has this name.
    """
    for dtype in _DTYPES:
        if dtype_name(dtype) == name:
            return dtype
    raise ValueError(f"the type `{name}` is unknown")
