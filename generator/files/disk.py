"""Every change that an upgrade makes on the disk, one function each: so that tests can fail or kill any one of them."""

import contextlib
import errno
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..errors import PreconditionError
from .tree import STATE_DIR

MAX_THREADS = 8


def write_file(path: Path, content: bytes, mode: int, later: bool = False) -> None:
    """Write a new file that is on the disk, not in a cache, when this returns, or `later`: after `settle_all`."""
    with open(path, "xb") as file:
        file.write(content)
        os.chmod(path, mode)
        if not later or os.name == "nt":
            file.flush()
            os.fsync(file.fileno())


def replace_file(source: Path, target: Path) -> None:
    """Put `source` in the place of `target`, all at once; copied first where `target` is on another disk."""
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


def rename_folder(source: Path, target: Path) -> None:
    os.rename(source, target)


def remove_file(path: Path) -> None:
    path.unlink(missing_ok=True)


def make_folder(path: Path, mode: int = 0o755) -> None:
    path.mkdir(exist_ok=True)
    path.chmod(mode)


def remove_empty_folder(path: Path) -> bool:
    """Remove a folder if it is empty; say whether it was."""
    try:
        path.rmdir()
    except OSError:
        return False
    return True


def remove_folder(path: Path) -> None:
    """Remove a folder with all that is in it; nothing if there is none."""
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        import shutil  # seldom needed

        shutil.rmtree(path)


def settle(path: Path) -> None:
    """Make a file's content, or what was renamed in a folder, outlast a power cut, where the system offers it."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def settle_all(paths: Iterable[Path]) -> None:
    """Settle files and folders side by side: the disk then waits once for many of them, not for one after the other.

    Raises:
        OSError: One of them could not be settled.
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


@contextlib.contextmanager
def locked(root: Path) -> Iterator[None]:
    """Keep other upgrades of the project out; the lock goes with the process, however it ends.

    Raises:
        PreconditionError: Another process holds it.
    """
    busy = PreconditionError(f"Another paccel is at work in `{root}`: wait until it is done")
    if os.name == "nt":
        flags = os.O_CREAT | os.O_EXCL | getattr(os, "O_TEMPORARY", 0)  # Windows removes it with the process
        try:
            descriptor = os.open(root / STATE_DIR / "lock", flags)
        except OSError as error:
            raise busy from error
        try:
            yield
        finally:
            os.close(descriptor)
        return
    import fcntl

    descriptor = os.open(root / STATE_DIR, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise busy from error
        yield
    finally:
        os.close(descriptor)
