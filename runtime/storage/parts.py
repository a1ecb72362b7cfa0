"""The parts of a checkpoint that several processes write: each writes its shards to its own files, and an index.

    model-00001-of-00002.safetensors
    index-00001-of-00002.json           which part of which tensor is where, and the SHA-256 of its blocks

The headers of the safetensors files have the same in PyTorch's format: its `HuggingFaceStorageReader` can read them.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from . import files
from .manifest import MAX_STATE, TENSOR_FILE, changed, problem_of_size, read_json
from .shards import Shard, problem_of
from .stored import Piece
from .tensorfile import dtype_named, part_chunks, piece_of

_CHUNK = 1 << 20  # bytes that are hashed at once


def index_name(rank: int, count: int) -> str:
    return f"index-{rank + 1:05}-of-{count:05}.json"


def write_part(folder: Path, tensors: Mapping[str, Mapping[str, Tensor | Shard]], rank: int, count: int) -> None:
    """Write the part that one process has of the tensors of each object, then the index.

    Args:
        folder: The unfinished checkpoint.
        tensors: By object and name. The main process writes those that are not sharded.
        rank: Of this process.
        count: How many processes write.
    """
    index: dict[str, Any] = {}
    for name, of_object in tensors.items():
        own = {key: part for key, tensor in of_object.items() if (part := _own_part(tensor, rank)) is not None}
        if own:
            file = f"{name}-{rank + 1:05}-of-{count:05}.safetensors"
            offsets = {key: {"saved_offsets": list(part.offset)} for key, part in own.items()}
            metadata = {"format": "pt", "DCP_VERSION": "1.0", "DCP_SHARDING_INFO": json.dumps(offsets)}
            entries: dict[str, dict[str, Any]] = {}
            chunks = part_chunks(own, metadata, entries)
            header = next(chunks)
            size = files.durable_write(folder / file, chain([header], chunks), hashes=False)["size"]
            header_hash = hashlib.sha256(header).hexdigest()
            index[name] = {"file": file, "size": size, "header": [len(header), header_hash], "tensors": entries}
    files.durable_write(folder / index_name(rank, count), [files.json_bytes(index, indent=None)])


def _own_part(tensor: Tensor | Shard, rank: int) -> Shard | None:
    """What one process writes of a tensor; None if it is for others to write."""
    if not isinstance(tensor, Shard):
        whole = Shard(tuple(tensor.shape), tensor.dtype, (0,) * tensor.dim(), tensor, lambda: tensor)
        return whole if rank == 0 else None
    has_some = tensor.part is not None and (tensor.part.numel() > 0 or (rank == 0 and 0 in tensor.shape))
    return tensor if has_some else None


def read_indexes(folder: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """By object and tensor: its shape, type and pieces.

    Raises:
        CheckpointError: An index is no index of a checkpoint, or the parts do not make up the tensors.
    """
    found: dict[str, dict[str, tuple[tuple[int, ...], torch.dtype, list[Piece]]]] = defaultdict(dict)
    for index in names:
        try:
            for name, entry in read_index(folder / index).items():
                if not TENSOR_FILE.fullmatch(entry["file"]):
                    raise ValueError(f"`{entry['file']}` is no file of a checkpoint")
                for key, part in entry["tensors"].items():
                    shape, dtype = tuple(part["shape"]), dtype_named(part["dtype"])
                    piece = piece_of(folder / entry["file"], part)
                    before = found[name].setdefault(key, (shape, dtype, []))
                    if before[:2] != (shape, dtype):
                        raise ValueError(f"`{key}` of `{name}` has two shapes or types")
                    before[2].append(piece)
        except CheckpointError:
            raise
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(f"`{index}` is no index of a checkpoint: {error}") from error
    for name, tensors in found.items():
        for key, (shape, _, pieces) in tensors.items():
            if problem := problem_of([piece.box for piece in pieces], shape):
                raise CheckpointError(f"`{key}` of `{name}`, with shape {shape}, is not whole: {problem}")
    return found


def read_index(file: Path) -> dict[str, Any]:
    """An index, by object: the `file` with its tensors, its `size`, its `header` (length and hash), its `tensors`."""
    return read_json(file, MAX_STATE)


def problem_of_part(folder: Path, entry: Mapping[str, Any]) -> str | None:
    """How the file of one process differs from its entry in the index; None if it is the same."""
    file = folder / entry["file"]
    if problem := problem_of_size(file, entry["size"]):
        return problem
    blocks = [tuple(entry["header"])]  # length and hash of each
    for part in sorted(entry["tensors"].values(), key=lambda part: int(part["start"])):
        size, itemsize = part["size"], dtype_named(part["dtype"]).itemsize
        left, row = torch.Size(size).numel() * itemsize, torch.Size(size[1:]).numel() * itemsize
        for digest in part["sha256"]:
            blocks.append((min(left, part["rows"] * row), digest))
            left -= blocks[-1][0]
    with file.open("rb") as content:
        for length, expected in blocks:
            hasher = hashlib.sha256()
            for start in range(0, length, _CHUNK):
                hasher.update(content.read(min(_CHUNK, length - start)))
            if hasher.hexdigest() != expected:
                return changed(file)
        if content.read(1):
            return f"`{file.name}` is longer than its index says"
    return None
