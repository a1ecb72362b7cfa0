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
    _check_object_names(objects)
    encoded = {name: _encode_object(name, state) for name, state in objects.items()}
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
                return f"`{name}` is missing"
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
    try:
        trees = json.loads((path / _STATE).read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"`{path / _STATE}` cannot be read: {error}") from error
    for name, tree in trees.items():
        file = f"{name}.safetensors"
        tensors = load_tensors(path / file)[0] if file in manifest["files"] else {}
        objects[name] = decode(tree, tensors)
    return objects, manifest["metadata"]


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


def _encode_object(name: str, state: Any) -> tuple[Any, dict[str, Tensor]]:
    """`encode`, with the object's name in the error."""
    try:
        return encode(state)
    except CheckpointError as error:
        raise CheckpointError(f"`{name}` cannot be saved: {error}") from error


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
    file = path / _MANIFEST
    try:
        content = file.read_bytes()
        manifest = json.loads(content)
        del manifest["sha256"]
    except FileNotFoundError:
        raise CheckpointError(f"`{_MANIFEST}` is missing" if path.is_dir() else f"no folder `{path}`") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"`{_MANIFEST}` cannot be read: {error}") from error
    if _manifest_bytes(manifest) != content:
        raise CheckpointError(f"`{_MANIFEST}` was changed after it was written")
    if manifest["schema"] != SCHEMA:
        raise CheckpointError(f"its schema is {manifest['schema']}, and this paccel reads schema {SCHEMA}")
    return dict(manifest)
