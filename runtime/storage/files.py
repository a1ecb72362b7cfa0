"""Atomic and durable writes: a file is on disk completely or not at all."""

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .tensorfile import Buffer

_CANNOT_SYNC = {  # errors of file systems that cannot sync a folder, such as network shares and FUSE mounts
    getattr(errno, name)
    for name in ("EINVAL", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "ENOTTY", "EPERM", "EACCES", "EBADF", "EISDIR")
    if hasattr(errno, name)
}

# The runtime writes only through these functions; checkpoints also use `os.rename` and `shutil.rmtree`

Seal = Callable[[str], tuple[int, bytes]]
"""Takes the SHA-256 of the written content, returns an offset in the file and the bytes to write there."""


def atomic_write(path: Path, data: bytes | Iterable[Buffer], seal: Seal | None = None) -> None:
    """Create or replace a file: a reader, or a crash, finds either the old content or the new.

    Processes of one launch may write to the same path at the same time: one of them wins.

    Args:
        path: The file; folders above it are created.
        data: The content, or its chunks.
        seal: Changes bytes once everything is written.

    Raises:
        OSError: It cannot be written; names the file.
    """
    temporary = path.with_name(f"{path.name}.{os.environ.get('RANK', '0')}.tmp")  # one for each process of a launch
    with _naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            durable_write(temporary, [data] if isinstance(data, bytes) else data, seal=seal)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def durable_write(
    path: Path, chunks: Iterable[Buffer], *, hashes: bool = True, seal: Seal | None = None
) -> dict[str, Any]:
    """Write a file and flush it to disk. Returns its size in bytes and, with `hashes`, its SHA-256 before the seal.

    Raises:
        OSError: It cannot be written; names the file.
    """
    digest, size = hashlib.sha256(), 0
    with _naming(path), path.open("wb") as file:
        for chunk in chunks:
            file.write(chunk)
            size += len(chunk)
            if hashes:
                digest.update(chunk)
        if seal is not None:
            place, content = seal(digest.hexdigest())
            file.seek(place)
            file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return {"size": size, "sha256": digest.hexdigest()} if hashes else {"size": size}


def append(path: Path, data: bytes) -> None:
    """Append to a file: all of the data or, on an error, nothing.

    Raises:
        OSError: It cannot be written; names the file.
    """
    with _naming(path), path.open("ab", buffering=0) as file:  # a buffer would be written again on close
        start = file.seek(0, os.SEEK_END)
        try:
            while rest := data[file.tell() - start :]:  # a full disk takes a part, and the next write fails
                file.write(rest)
        except OSError:
            os.truncate(path, start)
            raise


def sync_folder(folder: Path) -> None:
    """Flush the entries of a folder to disk, if the file system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the name of the file into an OSError, as one of a full disk has none."""
    try:
        yield
    except OSError as error:
        if error.filename2 is None and (error.filename is None or str(error.filename).endswith(".tmp")):
            error.filename = str(path)
        raise


def json_bytes(value: Any, indent: int | None = 2) -> bytes:
    """JSON with a final newline, on one line without `indent`. Values that JSON does not have become text.

    Raises:
        ValueError: A number is not finite.
    """
    return (json.dumps(value, indent=indent, allow_nan=False, default=str) + "\n").encode()
