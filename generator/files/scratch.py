"""Temporary folders that are gone afterwards, also when Ctrl-C comes in the middle."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def scratch_dir() -> Iterator[Path]:
    """Make a folder in the system's temporary directory, and remove it at the end of the block."""
    path = Path(tempfile.mkdtemp(prefix="paccel-"))
    try:
        yield path
    finally:
        remove(path)


def remove(path: Path) -> None:
    """Remove a folder and what is in it; a Ctrl-C meanwhile is raised when that is done."""
    try:
        shutil.rmtree(path)
    except KeyboardInterrupt:
        shutil.rmtree(path, ignore_errors=True)
        raise
    except PermissionError:  # git's objects are read-only, and Windows does not delete such files
        for file in path.rglob("*"):
            file.chmod(0o700)
        shutil.rmtree(path)
