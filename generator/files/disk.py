"""Durable writes and the project's lock. Each operation is one function, so that tests can make any of them fail."""

import contextlib
import errno
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ..errors import PreconditionError
from .tree import STATE_DIR, set_mode

MAX_THREADS = 8
_POLL = 0.2  # seconds


def write_file(path: Path, content: bytes, mode: int, later: bool = False) -> None:
    """Write a new file and flush it to the disk, or let `settle_all` do that `later`."""
    with open(path, "xb") as file:
        file.write(content)
        set_mode(path, mode)
        if not later or os.name == "nt":
            file.flush()
            os.fsync(file.fileno())


def write_whole(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Create or replace a file of paccel. Whatever happens, it holds either the old or the new content."""
    aside = path.with_name(f".{path.name}.new")
    remove_file(aside)
    try:
        write_file(aside, content, mode)
        replace_file(aside, path)
    except BaseException:
        remove_file(aside)
        raise
    settle(path.parent)


def replace_file(source: Path, target: Path) -> None:
    """Replace `target` by `source` atomically; if they are on different disks, copy it next to `target` first."""
    try:
        os.replace(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        aside = target.with_name(f".{target.name}.paccel")
        aside.unlink(missing_ok=True)
        write_file(aside, source.read_bytes(), source.stat().st_mode & 0o7777)
        os.replace(aside, target)
        source.unlink()


def rename(source: Path, target: Path) -> None:
    """Rename a file or folder on one disk."""
    os.rename(source, target)


def remove_file(path: Path) -> None:
    """Remove a file, if it exists."""
    path.unlink(missing_ok=True)


def make_folder(path: Path, mode: int = 0o755) -> None:
    """Create a folder with this mode, or set the mode of an existing one."""
    path.mkdir(exist_ok=True)
    set_mode(path, mode)


def remove_empty_folder(path: Path) -> bool:
    """Remove a folder if it is empty, and return whether it was.

    Raises:
        OSError: The folder is empty, but cannot be removed.
    """
    try:
        path.rmdir()
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT, errno.ENOTDIR}:
            raise
        return False
    return True


def remove_folder(path: Path) -> None:
    """Remove a folder with everything in it, if it exists."""
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def settle(path: Path) -> None:
    """Flush a file's content, or the renames in a folder, so that they survive a power failure (not on Windows)."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def settle_all(paths: Iterable[Path]) -> None:
    """Flush files and folders in parallel, so that the disk waits once for many of them.

    Raises:
        OSError: One of them could not be flushed.
    """
    waiting = [*paths]
    errors: list[OSError] = []

    def work() -> None:
        while waiting:
            with contextlib.suppress(IndexError):  # another thread took the last one
                path = waiting.pop()
                try:
                    settle(path)
                except OSError as error:
                    errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(min(len(waiting), MAX_THREADS))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def settle_tree(root: Path) -> None:
    """Flush a folder and everything in it.

    Raises:
        OSError: A file or folder could not be flushed.
    """
    settle_all(Path(folder, name) for folder, _, names in os.walk(root, onerror=_raise) for name in ("", *names))


def _raise(error: OSError) -> None:
    raise error


def locked(root: Path) -> contextlib.AbstractContextManager[None]:
    """Lock the project against other commands. The lock also ends if the process is killed.

    Raises:
        PreconditionError: Another process holds the lock, or the folder cannot be locked.
    """
    return locked_folder(root / STATE_DIR, f"Another paccel command is working in `{root}`: wait until it has finished")


@contextlib.contextmanager
def locked_folder(folder: Path, busy: str, tell: Callable[[str], None] | None = None) -> Iterator[None]:
    """Lock a folder for this process.

    Args:
        folder: The folder. Only other calls of this function respect the lock.
        busy: The message if another process holds the lock.
        tell: Called with `busy` before waiting for the lock. None: raise instead of waiting.

    Raises:
        PreconditionError: Another process holds the lock, or the folder cannot be locked.
    """
    descriptor = _hold(folder)
    if descriptor is None:
        if tell is None:
            raise PreconditionError(busy)
        tell(busy)
    while descriptor is None:
        time.sleep(_POLL)
        descriptor = _hold(folder)
    try:
        yield
    finally:
        os.close(descriptor)


def _hold(folder: Path) -> int | None:
    """Return a file descriptor that locks a folder until it is closed; None if another process holds the lock."""
    if os.name == "nt":
        flags = os.O_CREAT | os.O_EXCL | getattr(os, "O_TEMPORARY", 0)  # Windows removes the file with the process
        try:
            return os.open(folder.with_name(f"{folder.name}.lock"), flags)
        except OSError:
            return None
    import fcntl  # not on Windows

    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise PreconditionError(f"`{folder}` cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            return None
        raise PreconditionError(f"`{folder}` cannot be locked: {error.strerror}") from error
    return descriptor
