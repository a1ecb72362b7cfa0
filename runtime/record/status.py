"""`status.json`: the state of a run, and which process writes it.

On its own machine, the process is looked up. On another one it is known by its heartbeat: the process rewrites the file
every 15 seconds, so a file that does not change for a minute has no writer. The clocks of two hosts are never compared,
except that a file older than ten minutes is not waited for.
"""

import json
import os
import secrets
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import progress
from .process import is_running, machine

HEARTBEAT = 15.0  # seconds
_DEAD, _LONG_DEAD = 60.0, 600.0  # seconds without a heartbeat: observed by this process, and by the disk's clock
_CLAIM = 1.0  # second in which a process that has claimed a run writes its status


def read_status(run_dir: Path) -> dict[str, Any]:
    """The status of a run, empty if there is none or it cannot be read."""
    return _read(run_dir / "status.json")


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():  # reading a pipe would block
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def writer_of(run_dir: Path, status: Mapping[str, Any]) -> str | None:
    """The other process that is still writing a run, in words; None if there is none.

    Waits up to a minute for a heartbeat if the run was written on another machine.

    Args:
        run_dir: The run.
        status: Its status, just read by `read_status`.
    """
    if status.get("state") != "running":
        return None
    process, host = status.get("process"), status.get("host")
    is_here = status["machine"] == machine() if "machine" in status else host == socket.gethostname()
    if not is_here:
        return f"process {process} on host `{host}`" if _has_heartbeat(run_dir, status) else None
    if not isinstance(process, int) or process == os.getpid():
        return None
    return f"process {process}, which is still running" if is_running(process, status.get("process_began")) else None


def await_end(run_dir: Path) -> None:
    """Wait up to a minute until no process writes the run any more: one that was told to stop may still be saving."""
    deadline = time.monotonic() + _DEAD
    while time.monotonic() < deadline and writer_of(run_dir, read_status(run_dir)) is not None:
        time.sleep(0.2)


def _has_heartbeat(run_dir: Path, status: Mapping[str, Any]) -> bool:
    """Whether the status of another machine's run changes within a minute."""
    try:
        written = (run_dir / "status.json").stat().st_mtime
    except FileNotFoundError:  # another process is claiming the run
        return True
    if _now_on_disk(run_dir) - written > _LONG_DEAD:
        return False
    progress.say(
        f"`{run_dir}` was written by host `{status.get('host')}` a moment ago: "
        f"waiting up to {_DEAD:.0f} seconds to see whether it still is"
    )
    deadline = time.monotonic() + _DEAD
    while time.monotonic() < deadline:
        time.sleep(min(1.0, _DEAD / 10))
        _now_on_disk(run_dir)  # its write makes a network disk refresh this host's view of the folder
        if read_status(run_dir) not in ({}, status):
            return True
    return False


def _now_on_disk(folder: Path) -> float:
    """The time by the clock that dates the files in a folder, which may be a file server's."""
    probe = folder / f"clock.{socket.gethostname()}.{os.getpid()}.tmp"
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError:
        return time.time()
    finally:
        with suppress(OSError):
            probe.unlink()


def claim(run_dir: Path, seen: Mapping[str, Any]) -> bool:
    """Replace the status of a run by a claim, so that one of several processes gets the run.

    Each process renames the old status away, if there is one, and creates a new file. Both succeed only once.

    Args:
        run_dir: The run.
        seen: The status that this process has read.

    Returns:
        Whether this process has got the run; otherwise another was faster.
    """
    path = run_dir / "status.json"
    aside = run_dir / f"status.json.{socket.gethostname()}.{os.getpid()}.tmp"
    is_there = path.exists()
    if is_there and "state" not in seen:  # a claim: its process will write a status soon, or was killed before it could
        time.sleep(_CLAIM)
    if _read(path) != seen:
        return False
    content = own = json.dumps({"claim": secrets.token_hex(8)})
    try:
        if is_there:
            path.rename(aside)
            if _read(aside) != seen:
                content = aside.read_text(encoding="utf-8")  # another process's: put it back
            aside.unlink()
        with path.open("x", encoding="utf-8") as file:
            file.write(content)
    except (FileNotFoundError, FileExistsError):
        return False
    return content is own
