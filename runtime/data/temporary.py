"""Temporary names for files that several processes may write to one folder, also from several machines."""

import os
import platform
from pathlib import Path


def temporary(path: Path) -> Path:
    """Where this process writes a file before it renames it to `path`."""
    return path.with_name(f"{path.name}.{platform.node()}-{os.getpid()}.tmp")


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files of processes on this machine that were killed while they wrote."""
    for path in folder.glob(f"*.{platform.node()}-*.tmp"):
        process = path.stem.rpartition("-")[2]
        if process.isdecimal() and not _is_running(int(process)):
            path.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    """Whether another process has this number."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True
