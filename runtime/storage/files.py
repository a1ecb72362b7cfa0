"""Files that are on disk whole or not at all."""

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .tensorfile import Buffer

_NO_SUCH_THING = {  # what file systems say that cannot sync a folder, as network shares and FUSE mounts
    getattr(errno, name)
    for name in ("EINVAL", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "ENOTTY", "EPERM", "EACCES", "EBADF", "EISDIR")
    if hasattr(errno, name)
}

# All writes of the runtime go through these, besides `os.rename` and `shutil.rmtree` for checkpoints


Seal = Callable[[str], tuple[int, bytes]]
"""From the SHA-256 of all that was written to a place in the file and what to write there."""


def atomic_write(path: Path, data: bytes | Iterable[Buffer], seal: Seal | None = None) -> None:
    """Create or replace a file, so that a reader, or a crash, finds either the old content or the new.

    Processes of one launch may write to the same path at the same time: one of them wins.

    Args:
        path: The file; folders above it are created.
        data: The content, or its parts.
        seal: What to change once all is written.

    Raises:
        OSError: It cannot be written; names the file.
    """
    with naming(path):
        _atomic_write(path, data, seal)


def _atomic_write(path: Path, data: bytes | Iterable[Buffer], seal: Seal | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.environ.get('RANK', '0')}.tmp")  # one for each process of a launch
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
    """Write a file and flush it to disk. Returns its size in bytes and, if it `hashes`, its SHA-256, without the seal.

    Raises:
        OSError: It cannot be written; names the file.
    """
    digest, size = hashlib.sha256(), 0
    with naming(path), path.open("wb") as file:
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
    """Add to the end of a file, all of it or nothing.

    Raises:
        OSError: It cannot be written; names the file.
    """
    with naming(path), path.open("ab", buffering=0) as file:  # a buffer would be written once more when it is closed
        start = file.seek(0, os.SEEK_END)
        try:
            while rest := data[file.tell() - start :]:  # a disk that fills up takes a part, and the next write fails
                file.write(rest)
        except OSError:
            os.truncate(path, start)
            raise


def sync_folder(folder: Path) -> None:
    """Flush to disk which files a folder has, on a file system that can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _NO_SUCH_THING:
            raise


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an OSError name the file that was to be written, which those of a full disk do not."""
    try:
        yield
    except OSError as error:
        if error.filename2 is None and (error.filename is None or str(error.filename).endswith(".tmp")):
            error.filename = str(path)
        raise


def json_bytes(value: Any, indent: int | None = 2) -> bytes:
    """A line of JSON, or several; what JSON does not know becomes text.

    Raises:
        ValueError: A number in it is not finite.
    """
    return (json.dumps(value, indent=indent, allow_nan=False, default=str) + "\n").encode()
