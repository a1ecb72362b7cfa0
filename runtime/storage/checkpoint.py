"""Files that are either whole or not there: checkpoints, weights, and small ones.

Everything is safetensors and JSON, so that loading cannot run code. A checkpoint is a folder:

    step-120/
    ├── model.safetensors       one file for each object that has tensors
    ├── optimizer.safetensors
    ├── state.json              all the rest of all the objects, as `encoding` puts it
    └── manifest.json           size and SHA-256 of each file, what is known about the checkpoint, and its own SHA-256

It is written beside its place as `step-120.tmp`, brought to the disk, and renamed. To remove it, it is first renamed
back to `step-120.tmp`. So a folder named `step-120` has been complete, and what ends in `.tmp` is never looked at.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from .encoding import decode, encode
from .files import sync_folder, write_synced
from .tensorfile import load_tensors, tensor_chunks

SCHEMA = 1
_MANIFEST, _STATE = "manifest.json", "state.json"
_STEP_FOLDER = re.compile(r"step-(\d+)(\.old)?")
_OBJECT_NAME = re.compile(r"\w[\w.-]*")


# Checkpoints


def write_checkpoint(final: Path, objects: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    """Write a checkpoint aside, bring it to the disk, and give it its name. The same state gives the same bytes.

    Whatever `*.tmp` an earlier crash has left in the folder is removed first. A checkpoint of that name is replaced,
    and stays whole under the name `*.old` until the new one stands. Only one process may write to a folder.

    Args:
        final: Where it goes, `…/step-<n>`. Folders above it are made.
        objects: State by name, see `encode` for what it may consist of. The names become file names.
        metadata: What else is known about it, for `manifest.json`: JSON.

    Raises:
        CheckpointError: A state that cannot be encoded, or a name that cannot be a file name.
        OSError: The disk is full or cannot be written; nothing is left behind, and other checkpoints still stand.
    """
    _check_object_names(objects)
    encoded = {name: _encode_object(name, state) for name, state in objects.items()}
    aside = final.with_name(f"{final.name}.tmp")
    replaced = final.with_name(f"{final.name}.old")
    final.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(final.parent)
    aside.mkdir()
    try:
        files = {}
        for name, (_, tensors) in encoded.items():
            if tensors:
                file = f"{name}.safetensors"
                files[file] = write_synced(aside / file, tensor_chunks(tensors))
        state = json.dumps({name: tree for name, (tree, _) in encoded.items()}, allow_nan=False)
        files[_STATE] = write_synced(aside / _STATE, [state.encode()])
        write_synced(
            aside / _MANIFEST, [_manifest_bytes({"schema": SCHEMA, "metadata": dict(metadata), "files": files})]
        )
        sync_folder(aside)
        if final.exists():
            if replaced.exists():
                remove_checkpoint(replaced)
            os.rename(final, replaced)
        os.rename(aside, final)
        sync_folder(final.parent)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    if replaced.exists():
        remove_checkpoint(replaced)


def verify_checkpoint(path: Path) -> str | None:
    """Compare a checkpoint with its manifest, every byte. None if it is sound, else what is wrong."""
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


def read_checkpoint(path: Path, device: torch.device | str = "cpu") -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a checkpoint that `verify_checkpoint` has found sound.

    Args:
        path: The checkpoint's folder.
        device: Where its tensors go. What belongs on the host of its own accord, `load_state_dict` puts there.

    Returns:
        objects: State by name, as it was written.
        metadata: What else was known about it.

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
        tensors = load_tensors(path / file, device)[0] if file in manifest["files"] else {}
        objects[name] = decode(tree, tensors)
    return objects, manifest["metadata"]


def list_checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """The checkpoints in `folder` as (step, path), newest first. What is being written or removed is not one."""
    found: dict[int, Path] = {}
    if not folder.is_dir():
        return []
    for path in sorted(folder.iterdir()):  # `step-1` comes before `step-1.old`, which counts only where it is alone
        match = _STEP_FOLDER.fullmatch(path.name)
        if match and path.is_dir():
            found.setdefault(int(match[1]), path)
    return sorted(found.items(), reverse=True)


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint; killed half-way, it leaves what no one takes for a good one."""
    aside = path.with_name(f"{path.name}.tmp")
    if aside.exists():
        shutil.rmtree(aside)
    os.rename(path, aside)
    sync_folder(path.parent)
    shutil.rmtree(aside)


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process was writing or removing in `folder`, which is never looked at."""
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
            raise CheckpointError(f"`{name}` cannot name a file: take letters, digits, `_`, `-` and `.`")
        if name.lower() in seen:  # some file systems know no capitals
            raise CheckpointError(f"`{name}` and `{seen[name.lower()]}` differ only in capitals")
        seen[name.lower()] = name


def _manifest_bytes(manifest: dict[str, Any]) -> bytes:
    """JSON for a person to read, with a last key that says whether the rest is what was written."""
    return _dump({**manifest, "sha256": hashlib.sha256(_dump(manifest)).hexdigest()})


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
        raise CheckpointError(f"`{_MANIFEST}` is not as it was written")
    if manifest["schema"] != SCHEMA:
        raise CheckpointError(f"it is of schema {manifest['schema']}, this paccel reads schema {SCHEMA}")
    return dict(manifest)


def _dump(value: Any) -> bytes:
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()
