"""Temporary folders that are always removed, even after Ctrl-C."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def scratch_dir() -> Iterator[Path]:
    """Create a temporary folder, and remove it at the end of the block."""
    path = Path(tempfile.mkdtemp(prefix="paccel-"))
    try:
        yield path
    finally:
        remove(path)


def remove(path: Path) -> None:
    """Remove a folder with everything in it. A Ctrl-C meanwhile is raised after the removal."""
    try:
        shutil.rmtree(path)
    except KeyboardInterrupt:
        shutil.rmtree(path, ignore_errors=True)
        raise
    except PermissionError:  # git's objects are read-only, and Windows does not delete read-only files
        for file in path.rglob("*"):
            file.chmod(0o700)
        shutil.rmtree(path)
