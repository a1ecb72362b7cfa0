"""Checkpoints on disk: complete, or not there.

A checkpoint is a folder of safetensors and JSON, so loading it cannot run code:

    step-120/
    ├── model.safetensors       one file for each object that has tensors
    ├── optimizer.safetensors
    ├── state.json              everything else of all objects, as `encoding` writes it
    └── manifest.json           size and SHA-256 of each file, metadata, and its own SHA-256

If several processes write one, each writes its parts of the tensors: see `parts`.

A checkpoint is written as `step-120.tmp`, flushed to disk, and renamed. To be removed, it is first renamed back to
`step-120.tmp`. So a folder named `step-120` is complete, and names that end in `.tmp` are never read.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from torch import Tensor

from ..errors import CheckpointError
from . import files
from .encoding import decode, encode
from .manifest import (
    INDEX_FILE,
    MAX_STATE,
    OBJECT_NAME,
    SCHEMA,
    SHARDED_SCHEMA,
    STATE,
    entry_of,
    problem_of_file,
    read_json,
    read_manifest,
    write_manifest,
)
from .parts import index_name, problem_of_part, read_index, read_indexes, write_part
from .stored import in_memory, stored
from .tensorfile import load_tensors, tensor_chunks

T = TypeVar("T")
Encoded = dict[str, tuple[Any, dict[str, Any]]]
"""What `encode` makes of each object: a tree, and tensors or shards by name."""

_STEP_FOLDER = re.compile(r"step-(\d+)(\.old)?")


class Processes(Protocol):
    """The processes that write a checkpoint together."""

    num_processes: int
    rank: int

    def on_main(self, function: Callable[[], T]) -> T:
        """Run `function` on the main process only; its error is raised on all. Collective."""

    def on_all(self, function: Callable[[], T]) -> list[T]:
        """Run `function` on each process; an error on one is raised on all. Collective."""


def encode_objects(objects: Mapping[str, Any], *, may_grow: bool = False) -> Encoded:
    """Encode the state of each object, for `write_checkpoint`.

    Args:
        objects: State by name; `encode` says what it may consist of. The names become file names.
        may_grow: Whether to skip what is not there yet, as `encode` does.

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
        if not OBJECT_NAME.fullmatch(name):
            raise CheckpointError(f"`{name}` cannot be a file name: use letters, digits, `_`, `-` and `.`")
        if name.lower() in seen:  # some file systems ignore case
            raise CheckpointError(f"`{name}` and `{seen[name.lower()]}` differ only in upper and lower case")
        seen[name.lower()] = name


def write_checkpoint(final: Path, encoded: Encoded, metadata: Mapping[str, Any]) -> None:
    """Write a checkpoint under a temporary name, flush it to disk, and rename it. The same state makes the same bytes.

    First removes `*.tmp` that an earlier crash left in the folder. A checkpoint of the same name is kept as `*.old`
    until the new one is complete. Only one process may write to a folder.

    Args:
        final: The checkpoint, `…/step-<n>`. Folders above it are created.
        encoded: State by name.
        metadata: JSON for `manifest.json`.

    Raises:
        OSError: The disk is full or not writable; nothing is left behind, and other checkpoints are unchanged.
    """
    temporary = _begin(final)
    try:
        contents = {f"{name}.safetensors": tensor_chunks(tensors) for name, (_, tensors) in encoded.items() if tensors}
        written = {name: files.durable_write(temporary / name, chunks) for name, chunks in contents.items()}
        _finish(final, SCHEMA, encoded, written, metadata)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_sharded(final: Path, encoded: Encoded, metadata: Mapping[str, Any], processes: Processes) -> None:
    """Write a checkpoint from all processes: each writes its shards, the main process everything else. Collective.

    It is complete once the main process has found the indexes of all processes in the folder, which all must see.

    Args:
        final: The checkpoint, `…/step-<n>`, in a folder that all processes see.
        encoded: Every process passes all of its shards; tensors and trees are taken from the main process.
        metadata: JSON for `manifest.json`.
        processes: The processes.

    Raises:
        CheckpointError: The shards of all processes do not make up the tensors.
        OSError: The disk of one is full or not writable; the others raise their agreement's own error. Nothing is left
            behind.
    """
    rank, count = processes.rank, processes.num_processes
    temporary = final.with_name(f"{final.name}.tmp")
    tensors = {name: tensors for name, (_, tensors) in encoded.items()}
    processes.on_main(lambda: _begin(final))
    try:
        processes.on_all(lambda: write_part(temporary, tensors, rank, count))
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


def _join_parts(final: Path, encoded: Encoded, metadata: Mapping[str, Any], count: int) -> None:
    """Check that the parts in the temporary folder make up all tensors, and finish the checkpoint."""
    temporary = final.with_name(f"{final.name}.tmp")
    names = [index_name(rank, count) for rank in range(count)]
    missing = [rank for rank, name in enumerate(names) if not (temporary / name).is_file()]
    if missing:
        raise CheckpointError(
            f"`{temporary}` has no part of process {', '.join(map(str, missing))}: all processes must see one folder"
        )
    found = read_indexes(temporary, names)
    for name, (_, tensors) in encoded.items():
        for key, tensor in tensors.items():
            if key not in found.get(name, {}):
                raise CheckpointError(f"no process has a part of `{key}` of `{name}`, with shape {tuple(tensor.shape)}")
    _finish(final, SHARDED_SCHEMA, encoded, {name: entry_of(temporary / name) for name in names}, metadata)


def _finish(
    final: Path, schema: int, encoded: Encoded, written: Mapping[str, Any], metadata: Mapping[str, Any]
) -> None:
    """Add state and manifest to the files in the temporary folder, and rename it to its final name."""
    temporary, old = (final.with_name(f"{final.name}.{ending}") for ending in ("tmp", "old"))
    state = json.dumps({name: tree for name, (tree, _) in encoded.items()}, allow_nan=False)
    written = {**written, STATE: files.durable_write(temporary / STATE, [state.encode()])}
    write_manifest(temporary, schema, written, metadata)
    files.sync_folder(temporary)
    if final.exists():
        if old.exists():
            remove_checkpoint(old)
        os.rename(final, old)
    os.rename(temporary, final)
    files.sync_folder(final.parent)
    if old.exists():
        remove_checkpoint(old)


def verify_checkpoint(path: Path, rank: int = 0, count: int = 1) -> str | None:
    """Compare every byte of a checkpoint with its manifest. Returns None if it is valid, else what is wrong.

    Args:
        path: The checkpoint.
        rank: Of this process, if several share the work: each checks some of the files.
        count: How many processes share it.
    """
    try:
        manifest = read_manifest(path)
        indexes = {name: entry for name, entry in manifest["files"].items() if INDEX_FILE.fullmatch(name)}
        others = sorted((name, entry) for name, entry in manifest["files"].items() if name not in indexes)
        for name, entry in [*indexes.items(), *others[rank::count]]:
            if problem := problem_of_file(path / name, entry):
                return problem
        parts = [part for name in indexes for part in read_index(path / name).values()]
        read_indexes(path, indexes)
        for part in parts[rank::count]:
            if problem := problem_of_part(path, part):
                return problem
    except CheckpointError as error:
        return str(error)
    except OSError as error:
        return f"it cannot be read: {error}"
    except (LookupError, TypeError, ValueError) as error:
        return f"an index is no index of a checkpoint: {error}"
    return None


def read_checkpoint(path: Path, *, lazily: bool = False) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a checkpoint that `verify_checkpoint` has found valid.

    Args:
        path: The checkpoint.
        lazily: Whether large tensors stay in their files, as `Stored`, until they are needed.

    Returns:
        objects: State by name, as it was written, with its tensors on the host.
        metadata: As it was passed to `write_checkpoint`.

    Raises:
        CheckpointError: It cannot be read.
    """
    manifest = read_manifest(path)
    objects = {}
    trees = read_json(path / STATE, MAX_STATE)
    indexed = read_indexes(path, filter(INDEX_FILE.fullmatch, manifest["files"]))
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
    """The metadata of a checkpoint, as it was passed to `write_checkpoint`.

    Raises:
        CheckpointError: It cannot be read.
    """
    metadata: dict[str, Any] = read_manifest(path)["metadata"]
    return metadata


def list_checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """The checkpoints in `folder` as (step, path), newest first, without those that are being written or removed."""
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
