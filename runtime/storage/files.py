"""Files that are there whole or not at all."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .tensorfile import Buffer

# Small files


def atomic_write(path: Path, data: bytes) -> None:
    """Replace the content of `path`, or create it, so that a reader and a crash find the old content or the new.

    Processes of one launch may write the same path at once: one of them wins.
    """
    replace_atomically(path, [data])


# Everything that touches the disk goes through these, and `os.rename` and `shutil.rmtree`


def replace_atomically(path: Path, chunks: Iterable[Buffer]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{os.environ.get('RANK', '0')}.tmp")  # one for each process of a launch
    try:
        write_synced(aside, chunks)
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_synced(path: Path, chunks: Iterable[Buffer]) -> dict[str, Any]:
    """Write a file and bring it to the disk. Returns its size in bytes and its SHA-256."""
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
    """Bring to the disk which files a folder has."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
