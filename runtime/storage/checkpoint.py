"""Checkpoints on disk: whole or not there.

A checkpoint is a folder of safetensors and JSON, so loading it cannot run code:

    step-120/
    ├── model.safetensors       one file for each object that has tensors
    ├── optimizer.safetensors
    ├── state.json              everything else of all objects, as `encoding` writes it
    └── manifest.json           size and SHA-256 of each file, metadata, and its own SHA-256

Where several processes write one, each writes its parts of the tensors to files of its own, and an index of them:

    ├── model-00001-of-00002.safetensors
    ├── index-00001-of-00002.json           which part of which tensor is where, and the SHA-256 of its blocks

The headers of these files also say it in the words of PyTorch's `HuggingFaceStorageReader`, which can read them.

A checkpoint is written as `step-120.tmp`, flushed to disk, and renamed. To be removed, it is first renamed back to
`step-120.tmp`. So a folder named `step-120` is complete, and names that end in `.tmp` are never read.
"""

import hashlib
import json
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from ..errors import CheckpointError
from . import files
from .encoding import decode, encode
from .shards import Shard, problem_of
from .stored import Piece, in_memory, stored
from .tensorfile import dtype_named, load_tensors, part_chunks, piece_of, tensor_chunks

T = TypeVar("T")
Encoded = dict[str, tuple[Any, dict[str, Any]]]
"""What `encode` makes of each object: a tree, and tensors or shards by name."""

SCHEMA, SHARDED_SCHEMA = 1, 2
_MANIFEST, _STATE = "manifest.json", "state.json"
_STEP_FOLDER = re.compile(r"step-(\d+)(\.old)?")
_OBJECT_NAME = re.compile(r"\w[\w.-]*")
_TENSOR_FILE = re.compile(rf"{_OBJECT_NAME.pattern}\.safetensors")
_INDEX_FILE = re.compile(r"index-\d+-of-\d+\.json")
_FILE_NAME = re.compile(rf"{re.escape(_STATE)}|{_INDEX_FILE.pattern}|{_TENSOR_FILE.pattern}")
_MOST_MANIFEST, _MOST_STATE = 1 << 26, 1 << 31  # bytes
_PIECE = 1 << 20  # bytes that are hashed at once


class Processes(Protocol):
    """Those that write a checkpoint together."""

    num_processes: int
    rank: int

    def on_main(self, function: Callable[[], T]) -> T:
        """Run `function` on the main process only; what fails there is raised on all. Collective."""

    def on_all(self, function: Callable[[], T]) -> list[T]:
        """Run `function` on each process; what fails on one is raised on all. Collective."""


def write_checkpoint(final: Path, objects: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    """Write a checkpoint under a temporary name, flush it to disk, and rename it. The same state makes the same bytes.

    First removes `*.tmp` that an earlier crash left in the folder. A checkpoint of the same name is kept as `*.old`
    until the new one is complete. Only one process may write to a folder.

    Args:
        final: The checkpoint, `…/step-<n>`. Folders above it are created.
        objects: State by name; `encode` says what it may consist of. The names become file names.
        metadata: JSON for `manifest.json`.

    Raises:
        CheckpointError: A state cannot be encoded, or a name cannot be a file name.
        OSError: The disk is full or not writable; nothing is left behind, and other checkpoints are unchanged.
    """
    write_encoded(final, encode_objects(objects), metadata)


def write_encoded(final: Path, encoded: Encoded, metadata: Mapping[str, Any]) -> None:
    """`write_checkpoint` of what is encoded."""
    temporary = _begin(final)
    try:
        contents = {f"{name}.safetensors": tensor_chunks(tensors) for name, (_, tensors) in encoded.items() if tensors}
        written = {name: files.durable_write(temporary / name, chunks) for name, chunks in contents.items()}
        _finish(final, SCHEMA, encoded, written, metadata)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_sharded(final: Path, encoded: Encoded, metadata: Mapping[str, Any], processes: Processes) -> None:
    """Write a checkpoint by all processes, each its shards, and the main one all else. Collective.

    It counts once the main process has found the indexes of all in the folder, which all must see.

    Args:
        final: The checkpoint, `…/step-<n>`, in a folder that all processes see.
        encoded: Every process passes all of its shards; tensors and trees are the main process's.
        metadata: JSON for `manifest.json`.
        processes: Those that write.

    Raises:
        CheckpointError: The shards of all processes do not make up the tensors.
        OSError: The disk of one is full or not writable; on the others, the agreement's own error. Nothing is left behind.
    """
    rank, count = processes.rank, processes.num_processes
    temporary = final.with_name(f"{final.name}.tmp")
    processes.on_main(lambda: _begin(final))
    try:
        processes.on_all(lambda: _write_part(temporary, encoded, rank, count))
        processes.on_main(lambda: _join_parts(final, encoded, metadata, count))
    except BaseException:
        if rank == 0:
            shutil.rmtree(temporary, ignore_errors=True)
        raise


def _begin(final: Path) -> Path:
    temporary = final.with_name(f"{final.name}.tmp")
    final.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(final.parent)
    temporary.mkdir()
    return temporary


def _finish(
    final: Path, schema: int, encoded: Encoded, written: Mapping[str, Any], metadata: Mapping[str, Any]
) -> None:
    """Add to the tensors in the temporary folder all else, and give it its name."""
    temporary, old = (final.with_name(f"{final.name}.{ending}") for ending in ("tmp", "old"))
    state = json.dumps({name: tree for name, (tree, _) in encoded.items()}, allow_nan=False)
    written = {**written, _STATE: files.durable_write(temporary / _STATE, [state.encode()])}
    manifest = {"schema": schema, "metadata": dict(metadata), "files": written}
    files.durable_write(temporary / _MANIFEST, [_manifest_bytes(manifest)])
    files.sync_folder(temporary)
    if final.exists():
        if old.exists():
            remove_checkpoint(old)
        os.rename(final, old)
    os.rename(temporary, final)
    files.sync_folder(final.parent)
    if old.exists():
        remove_checkpoint(old)


def _write_part(temporary: Path, encoded: Encoded, rank: int, count: int) -> None:
    """Write what one process has of each object, and, last, an index of it."""
    ending, index = f"{rank + 1:05}-of-{count:05}", {}
    for name, (_, tensors) in encoded.items():
        own = {key: part for key, tensor in tensors.items() if (part := _own_part(tensor, rank)) is not None}
        if own:
            file = f"{name}-{ending}.safetensors"
            offsets = {key: {"saved_offsets": list(part.offset)} for key, part in own.items()}
            header = {"format": "pt", "DCP_VERSION": "1.0", "DCP_SHARDING_INFO": json.dumps(offsets)}
            parts: dict[str, dict[str, Any]] = {}
            chunks = part_chunks(own, header, parts)
            start = next(chunks)
            size = files.durable_write(temporary / file, chain([start], chunks), hashes=False)["size"]
            header_hash = hashlib.sha256(start).hexdigest()
            index[name] = {"file": file, "size": size, "header": [len(start), header_hash], "tensors": parts}
    files.durable_write(temporary / f"index-{ending}.json", [files.json_bytes(index, indent=None)])


def _own_part(tensor: Tensor | Shard, rank: int) -> Shard | None:
    """What one process writes of a tensor; the main one writes what is not sharded."""
    if not isinstance(tensor, Shard):
        whole = Shard(tuple(tensor.shape), tensor.dtype, (0,) * tensor.dim(), tensor, lambda: tensor)
        return whole if rank == 0 else None
    has_some = tensor.part is not None and (tensor.part.numel() > 0 or (rank == 0 and 0 in tensor.shape))
    return tensor if has_some else None


def _join_parts(final: Path, encoded: Encoded, metadata: Mapping[str, Any], count: int) -> None:
    """Check that the parts in the temporary folder make up all tensors, and give it its name."""
    temporary = final.with_name(f"{final.name}.tmp")
    names = [f"index-{rank + 1:05}-of-{count:05}.json" for rank in range(count)]
    missing = [number for number, name in enumerate(names) if not (temporary / name).is_file()]
    if missing:
        raise CheckpointError(
            f"`{temporary}` has no part of process {', '.join(map(str, missing))}: all processes must see one folder"
        )
    found = _read_indexes(temporary, names)
    for name, (_, tensors) in encoded.items():
        for key, tensor in tensors.items():
            if key not in found.get(name, {}):
                raise CheckpointError(f"no process has a part of `{key}` of `{name}`, with shape {tuple(tensor.shape)}")
    written = {name: _size_and_hash(temporary / name) for name in names}
    _finish(final, SHARDED_SCHEMA, encoded, written, metadata)


def _size_and_hash(file: Path) -> dict[str, Any]:
    with file.open("rb") as content:
        return {"size": file.stat().st_size, "sha256": hashlib.file_digest(content, "sha256").hexdigest()}


def _read_indexes(path: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """By object and tensor: its shape, type and pieces.

    Raises:
        CheckpointError: An index is no index of a checkpoint, or the parts do not make up the tensors.
    """
    found: dict[str, dict[str, tuple[tuple[int, ...], torch.dtype, list[Piece]]]] = defaultdict(dict)
    for index_name in names:
        try:
            for name, entry in _read_json(path / index_name, _MOST_STATE).items():
                if not _TENSOR_FILE.fullmatch(entry["file"]):
                    raise ValueError(f"`{entry['file']}` is no file of a checkpoint")
                for key, part in entry["tensors"].items():
                    shape, dtype = tuple(part["shape"]), dtype_named(part["dtype"])
                    piece = piece_of(path / entry["file"], part)
                    before = found[name].setdefault(key, (shape, dtype, []))
                    if before[:2] != (shape, dtype):
                        raise ValueError(f"`{key}` of `{name}` has two shapes or types")
                    before[2].append(piece)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"`{index_name}` is no index of a checkpoint: {error}") from error
    for name, tensors in found.items():
        for key, (shape, _, pieces) in tensors.items():
            if problem := problem_of([piece.box for piece in pieces], shape):
                raise CheckpointError(f"`{key}` of `{name}`, with shape {shape}, is not whole: {problem}")
    return found


def verify_checkpoint(path: Path, rank: int = 0, count: int = 1) -> str | None:
    """Compare every byte of a checkpoint with its manifest. Returns None if it is valid, else what is wrong.

    Args:
        path: The checkpoint.
        rank: Which of `count` processes this is, that each look at some of the files.
        count: How many there are.
    """
    try:
        manifest = _read_manifest(path)
        indexes = {name: entry for name, entry in manifest["files"].items() if _INDEX_FILE.fullmatch(name)}
        others = sorted((name, entry) for name, entry in manifest["files"].items() if name not in indexes)
        for name, expected in [*indexes.items(), *others[rank::count]]:
            if problem := _compare(path / name, expected):
                return problem
        parts = [(name, part) for name in indexes for part in _read_json(path / name, _MOST_STATE).values()]
        _read_indexes(path, indexes)
        for _, part in parts[rank::count]:
            if problem := _compare_part(path / part["file"], part):
                return problem
    except CheckpointError as error:
        return str(error)
    except OSError as error:
        return f"it cannot be read: {error}"
    except (LookupError, TypeError, ValueError) as error:
        return f"an index is no index of a checkpoint: {error}"
    return None


def _compare(file: Path, expected: Mapping[str, Any]) -> str | None:
    if problem := _compare_size(file, expected["size"]):
        return problem
    with file.open("rb") as content:
        if hashlib.file_digest(content, "sha256").hexdigest() != expected["sha256"]:
            return f"`{file.name}` has the right size and the wrong content"
    return None


def _compare_size(file: Path, expected: int) -> str | None:
    if not file.is_file():
        return f"`{file.name}` is {'no regular file' if file.exists() else 'missing'}"
    size = file.stat().st_size
    return None if size == expected else f"`{file.name}` has {size} bytes instead of {expected}"


def _compare_part(file: Path, part: Mapping[str, Any]) -> str | None:
    """Compare the file of one process with its index, block by block."""
    if problem := _compare_size(file, part["size"]):
        return problem
    blocks = [(part["header"][0], part["header"][1])]
    for entry in sorted(part["tensors"].values(), key=lambda entry: int(entry["start"])):
        size, itemsize = entry["size"], dtype_named(entry["dtype"]).itemsize
        left, row = torch.Size(size).numel() * itemsize, torch.Size(size[1:]).numel() * itemsize
        for digest in entry["sha256"]:
            blocks.append((min(left, entry["rows"] * row), digest))
            left -= blocks[-1][0]
    with file.open("rb") as content:
        for length, expected in blocks:
            digest = hashlib.sha256()
            for start in range(0, length, _PIECE):
                digest.update(content.read(min(_PIECE, length - start)))
            if digest.hexdigest() != expected:
                return f"`{file.name}` has the right size and the wrong content"
        if content.read(1):
            return f"`{file.name}` has more than its index says"
    return None


def read_checkpoint(path: Path, *, lazily: bool = False) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a checkpoint that `verify_checkpoint` has found valid.

    Args:
        path: The checkpoint.
        lazily: Whether large tensors stay in their files, as `Stored`, until they are needed.

    Returns:
        objects: State by name, as it was written, with its tensors on the host.
        metadata: As given to `write_checkpoint`.

    Raises:
        CheckpointError: It cannot be read.
    """
    manifest = _read_manifest(path)
    objects = {}
    trees = _read_json(path / _STATE, _MOST_STATE)
    indexed = _read_indexes(path, filter(_INDEX_FILE.fullmatch, manifest["files"]))
    for name, tree in trees.items():
        tensors: dict[str, Tensor] = {}
        if manifest["schema"] == SHARDED_SCHEMA:
            tensors = {n: stored(pieces, shape, dtype) for n, (shape, dtype, pieces) in indexed.get(name, {}).items()}
            if not lazily:
                tensors = {n: in_memory(tensor) for n, tensor in tensors.items()}
        elif f"{name}.safetensors" in manifest["files"]:
            tensors = load_tensors(path / f"{name}.safetensors", lazily=lazily)[0]
        objects[name] = decode(tree, tensors)
    return objects, manifest["metadata"]


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata of a checkpoint, as given to `write_checkpoint`.

    Raises:
        CheckpointError: It cannot be read.
    """
    metadata: dict[str, Any] = _read_manifest(path)["metadata"]
    return metadata


def list_checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """The checkpoints in `folder` as (step, path), newest first, without those being written or removed."""
    found: dict[int, Path] = {}
    for path in sorted(folder.glob("step-*")):  # `step-1` precedes `step-1.old`, which counts only without it
        match = _STEP_FOLDER.fullmatch(path.name)
        if match and path.is_dir():
            found.setdefault(int(match[1]), path)
    return sorted(found.items(), reverse=True)


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint so that a kill half-way leaves nothing that looks like one."""
    temporary = path.with_name(f"{path.name}.tmp")
    if temporary.exists():
        shutil.rmtree(temporary)
    os.rename(path, temporary)
    files.sync_folder(path.parent)
    shutil.rmtree(temporary)


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process was writing or removing in `folder`."""
    for path in folder.glob("*.tmp"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def encode_objects(objects: Mapping[str, Any], *, may_grow: bool = False) -> Encoded:
    """`encode` of each, as `write_checkpoint` stores it.

    Raises:
        CheckpointError: A state cannot be encoded, or a name cannot be a file name.
    """
    _check_object_names(objects)
    encoded = {}
    for name, state in objects.items():
        try:
            encoded[name] = encode(state, may_grow=may_grow)
        except CheckpointError as error:
            raise CheckpointError(f"`{name}` cannot be saved: {error}") from error
    return encoded


def _check_object_names(names: Iterable[str]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        if not _OBJECT_NAME.fullmatch(name):
            raise CheckpointError(f"`{name}` cannot be a file name: use letters, digits, `_`, `-` and `.`")
        if name.lower() in seen:  # some file systems ignore case
            raise CheckpointError(f"`{name}` and `{seen[name.lower()]}` differ only in upper and lower case")
        seen[name.lower()] = name


def _manifest_bytes(manifest: dict[str, Any]) -> bytes:
    """Readable JSON whose last key is the hash of the rest."""
    return files.json_bytes({**manifest, "sha256": hashlib.sha256(files.json_bytes(manifest)).hexdigest()})


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise CheckpointError(f"no folder `{path}`")
    manifest = _read_json(path / _MANIFEST, _MOST_MANIFEST)
    manifest.pop("sha256", None)
    try:
        is_whole = _manifest_bytes(manifest) == (path / _MANIFEST).read_bytes()
    except (ValueError, RecursionError):
        is_whole = False
    if not is_whole:
        raise CheckpointError(f"`{_MANIFEST}` was changed after it was written")
    if manifest.get("schema") not in (1, SHARDED_SCHEMA):
        raise CheckpointError(
            f"its schema is {manifest.get('schema')}, and this paccel reads schemas 1 to {SHARDED_SCHEMA}"
        )
    entries = manifest.get("files")
    if not isinstance(entries, dict) or not isinstance(manifest.get("metadata"), dict) or _STATE not in entries:
        raise CheckpointError(f"`{_MANIFEST}` does not list the files and metadata of a checkpoint")
    for name, entry in entries.items():
        if not _FILE_NAME.fullmatch(name):
            raise CheckpointError(f"`{_MANIFEST}` lists `{name}`, which is no file of a checkpoint")
        if not isinstance(entry, dict) or [type(entry.get(key)) for key in ("size", "sha256")] != [int, str]:
            raise CheckpointError(f"`{_MANIFEST}` has no size and hash of `{name}`")
    return manifest


def _read_json(file: Path, most: int) -> dict[str, Any]:
    """A JSON object from a regular file of at most so many bytes, so that no pipe or device is waited for."""
    if not file.exists():
        raise CheckpointError(f"`{file.name}` is missing")
    try:
        if not file.is_file() or file.stat().st_size > most:
            raise CheckpointError(f"`{file.name}` cannot be read: it is no regular file of at most {most >> 20} MiB")
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"`{file.name}` cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"`{file.name}` cannot be read: it holds no JSON object")
    return content
