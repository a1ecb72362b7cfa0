"""Files that are on disk whole or not at all."""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .tensorfile import Buffer

# All writes of the runtime go through these, besides `os.rename` and `shutil.rmtree` for checkpoints


def atomic_write(path: Path, data: bytes | Iterable[Buffer]) -> None:
    """Create or replace a file, so that a reader, or a crash, finds either the old content or the new.

    Processes of one launch may write to the same path at the same time: one of them wins.

    Args:
        path: The file; folders above it are created.
        data: The content, or its parts.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.environ.get('RANK', '0')}.tmp")  # one for each process of a launch
    try:
        durable_write(temporary, [data] if isinstance(data, bytes) else data)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def durable_write(path: Path, chunks: Iterable[Buffer]) -> dict[str, Any]:
    """Write a file and flush it to disk. Returns its size in bytes and its SHA-256."""
    digest, size = hashlib.sha256(), 0
    with path.open("wb") as file:
        for chunk in chunks:
            file.write(chunk)
            digest.update(chunk)
            size += len(chunk)
        file.flush()
        os.fsync(file.fileno())
    return {"size": size, "sha256": digest.hexdigest()}


def sync_folder(folder: Path) -> None:
    """Flush to disk which files a folder has."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def json_bytes(value: Any, indent: int | None = 2) -> bytes:
    """A line of JSON, or several; what JSON does not know becomes text.

    Raises:
        ValueError: A number in it is not finite.
    """
    return (json.dumps(value, indent=indent, allow_nan=False, default=str) + "\n").encode()
