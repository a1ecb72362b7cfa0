"""Checkpoints on disk: whole or not there.

A checkpoint is a folder of safetensors and JSON, so loading it cannot run code:

    step-120/
    ├── model.safetensors       one file for each object that has tensors
    ├── optimizer.safetensors
    ├── state.json              everything else of all objects, as `encoding` writes it
    └── manifest.json           size and SHA-256 of each file, metadata, and its own SHA-256

It is written as `step-120.tmp`, flushed to disk, and renamed. To be removed, it is first renamed back to `step-120.tmp`.
So a folder named `step-120` is complete, and names that end in `.tmp` are never read.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import CheckpointError
from . import files
from .encoding import decode, encode
from .tensorfile import load_tensors, tensor_chunks

SCHEMA = 1
_MANIFEST, _STATE = "manifest.json", "state.json"
_STEP_FOLDER = re.compile(r"step-(\d+)(\.old)?")
_OBJECT_NAME = re.compile(r"\w[\w.-]*")
_FILE_NAME = re.compile(rf"{re.escape(_STATE)}|{_OBJECT_NAME.pattern}\.safetensors")
_MOST_MANIFEST, _MOST_STATE = 1 << 26, 1 << 31  # bytes


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
    encoded = encode_objects(objects)
    temporary, old = (final.with_name(f"{final.name}.{ending}") for ending in ("tmp", "old"))
    final.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(final.parent)
    temporary.mkdir()
    try:
        contents = {f"{name}.safetensors": tensor_chunks(tensors) for name, (_, tensors) in encoded.items() if tensors}
        state = json.dumps({name: tree for name, (tree, _) in encoded.items()}, allow_nan=False)
        contents[_STATE] = iter([state.encode()])
        written = {name: files.durable_write(temporary / name, chunks) for name, chunks in contents.items()}
        manifest = {"schema": SCHEMA, "metadata": dict(metadata), "files": written}
        files.durable_write(temporary / _MANIFEST, [_manifest_bytes(manifest)])
        files.sync_folder(temporary)
        if final.exists():
            if old.exists():
                remove_checkpoint(old)
            os.rename(final, old)
        os.rename(temporary, final)
        files.sync_folder(final.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    if old.exists():
        remove_checkpoint(old)


def verify_checkpoint(path: Path) -> str | None:
    """Compare every byte of a checkpoint with its manifest. Returns None if it is valid, else what is wrong."""
    try:
        manifest = _read_manifest(path)
        for name, expected in manifest["files"].items():
            file = path / name
            if not file.is_file():
                return f"`{name}` is {'no regular file' if file.exists() else 'missing'}"
            size = file.stat().st_size
            if size != expected["size"]:
                return f"`{name}` has {size} bytes instead of {expected['size']}"
            with file.open("rb") as content:
                if hashlib.file_digest(content, "sha256").hexdigest() != expected["sha256"]:
                    return f"`{name}` has the right size and the wrong content"
    except CheckpointError as error:
        return str(error)
    except OSError as error:
        return f"it cannot be read: {error}"
    return None


def read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a checkpoint that `verify_checkpoint` has found valid.

    Returns:
        objects: State by name, as it was written, with its tensors on the host.
        metadata: As given to `write_checkpoint`.

    Raises:
        CheckpointError: It cannot be read.
    """
    manifest = _read_manifest(path)
    objects = {}
    trees = _read_json(path / _STATE, _MOST_STATE)
    for name, tree in trees.items():
        file = f"{name}.safetensors"
        tensors = load_tensors(path / file)[0] if file in manifest["files"] else {}
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


def encode_objects(objects: Mapping[str, Any], *, may_grow: bool = False) -> dict[str, tuple[Any, dict[str, Tensor]]]:
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
    if manifest.get("schema") != SCHEMA:
        raise CheckpointError(f"its schema is {manifest.get('schema')}, and this paccel reads schema {SCHEMA}")
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
