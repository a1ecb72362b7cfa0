"""The manifest of a checkpoint: size and SHA-256 of each file, metadata, and its own SHA-256."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from . import files

SCHEMA, SHARDED_SCHEMA = 1, 2
STATE = "state.json"
OBJECT_NAME = re.compile(r"\w[\w.-]*")
TENSOR_FILE = re.compile(rf"{OBJECT_NAME.pattern}\.safetensors")
INDEX_FILE = re.compile(r"index-\d+-of-\d+\.json")
MAX_STATE = 1 << 31  # bytes

_MANIFEST, _MAX_MANIFEST = "manifest.json", 1 << 26  # bytes
_FILE_NAME = re.compile(rf"{re.escape(STATE)}|{INDEX_FILE.pattern}|{TENSOR_FILE.pattern}")


def write_manifest(folder: Path, schema: int, written: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    """Write the manifest of a checkpoint whose other files are `written`, with size and hash of each."""
    manifest = {"schema": schema, "metadata": dict(metadata), "files": written}
    files.durable_write(folder / _MANIFEST, [manifest_bytes(manifest)])


def manifest_bytes(manifest: Mapping[str, Any]) -> bytes:
    """Readable JSON whose last key is the hash of the rest."""
    return files.json_bytes({**manifest, "sha256": hashlib.sha256(files.json_bytes(manifest)).hexdigest()})


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a checkpoint: `schema`, `metadata`, and `files` with `size` and `sha256` by name.

    Raises:
        CheckpointError: It is missing, damaged, or of a later version of paccel.
    """
    if not path.is_dir():
        raise CheckpointError(f"no folder `{path}`")
    manifest = read_json(path / _MANIFEST, _MAX_MANIFEST)
    manifest.pop("sha256", None)
    try:
        is_unchanged = manifest_bytes(manifest) == (path / _MANIFEST).read_bytes()
    except (ValueError, RecursionError):
        is_unchanged = False
    if not is_unchanged:
        raise CheckpointError(f"`{_MANIFEST}` was changed after it was written")
    if manifest.get("schema") not in (1, SHARDED_SCHEMA):
        raise CheckpointError(
            f"its schema is {manifest.get('schema')}, and this paccel reads schemas 1 to {SHARDED_SCHEMA}"
        )
    entries = manifest.get("files")
    if not isinstance(entries, dict) or not isinstance(manifest.get("metadata"), dict) or STATE not in entries:
        raise CheckpointError(f"`{_MANIFEST}` does not list the files and metadata of a checkpoint")
    for name, entry in entries.items():
        if not _FILE_NAME.fullmatch(name):
            raise CheckpointError(f"`{_MANIFEST}` lists `{name}`, which is no file of a checkpoint")
        if not isinstance(entry, dict) or [type(entry.get(key)) for key in ("size", "sha256")] != [int, str]:
            raise CheckpointError(f"`{_MANIFEST}` has no size and hash of `{name}`")
    return manifest


def entry_of(file: Path) -> dict[str, Any]:
    """Size in bytes and SHA-256 of a file."""
    with file.open("rb") as content:
        return {"size": file.stat().st_size, "sha256": hashlib.file_digest(content, "sha256").hexdigest()}


def problem_of_file(file: Path, entry: Mapping[str, Any]) -> str | None:
    """How a file differs from its entry in the manifest; None if it is the same."""
    if problem := problem_of_size(file, entry["size"]):
        return problem
    return None if entry_of(file)["sha256"] == entry["sha256"] else changed(file)


def problem_of_size(file: Path, expected: int) -> str | None:
    """Why a file is not a regular one of so many bytes; None if it is."""
    if not file.is_file():
        return f"`{file.name}` is {'no regular file' if file.exists() else 'missing'}"
    size = file.stat().st_size
    return None if size == expected else f"`{file.name}` has {size} bytes instead of {expected}"


def changed(file: Path) -> str:
    return f"`{file.name}` has the right size and the wrong content"


def read_json(file: Path, max_bytes: int) -> dict[str, Any]:
    """A JSON object from a regular file of limited size; never waits for a pipe or a device.

    Raises:
        CheckpointError: The file is missing, too large, or holds something else.
    """
    if not file.exists():
        raise CheckpointError(f"`{file.name}` is missing")
    try:
        if not file.is_file() or file.stat().st_size > max_bytes:
            raise CheckpointError(
                f"`{file.name}` cannot be read: it is no regular file of at most {max_bytes >> 20} MiB"
            )
        content = json.loads(file.read_bytes())
    except CheckpointError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"`{file.name}` cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"`{file.name}` cannot be read: it holds no JSON object")
    return content
