"""The state of a run: whether it is running, has ended, or has crashed without saying so."""

import math
import os
import socket
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

RUNNING, FINISHED, STOPPED, FAILED = "running", "finished", "stopped", "failed"
CRASHED = "crashed"
"""The status says `running`, but the process is gone."""
UNKNOWN = "unknown"
"""The status is missing or cannot be read."""

_SILENT, _DEAD = 60.0, 600.0  # seconds without a heartbeat after which a run gets a note, and counts as crashed


def state_of(status: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return the state of a run, and a note if the state is uncertain."""
    state = status.get("state")
    if state != RUNNING:
        if "claim" in status:
            return RUNNING, "it is starting"
        return (state, None) if state in (FINISHED, STOPPED, FAILED) else (UNKNOWN, None)
    silent = time.time() - as_time(status.get("updated"))
    process = status.get("process")
    is_here = status["machine"] == machine() if "machine" in status else status.get("host") == socket.gethostname()
    if is_here:
        if _exists(process, status.get("process_began")):
            return RUNNING, None
        return CRASHED, f"process {process} is gone"
    where = f"on host `{status.get('host')}`"
    if "machine" not in status:  # written by an older runtime without a heartbeat
        return RUNNING, f"{where}; the status was written {_ago(silent)} ago"
    if silent > _DEAD:
        return CRASHED, f"no heartbeat {where} for {_ago(silent)}"
    return RUNNING, f"no heartbeat {where} for {_ago(silent)}" if silent > _SILENT else None


def _ago(seconds: float) -> str:
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' * (count != 1)}"
    return f"{max(seconds, 0):.0f} seconds"


@cache
def machine() -> str:
    """Identify this boot of this machine, and the container's process namespace, as the runtime does."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        return socket.gethostname()


def _exists(process: Any, began: Any) -> bool:
    """Whether a process of this machine still exists; `began` tells it from a later process with the same id."""
    if not isinstance(process, int) or isinstance(process, bool) or process <= 0:
        return False
    if os.name == "nt":
        return True  # os.kill would end it
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return began is None or began == _start_time(process)


def _start_time(process: int) -> str | None:
    """Return when a process started, in the kernel's clock ticks; None if it has ended, or without Linux's `/proc`."""
    try:
        about = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
        fields = about.rpartition(")")[2].split()
        return None if fields[0] == "Z" else fields[19]  # a zombie
    except (OSError, IndexError):
        return None


def as_float(value: Any) -> float:
    """Convert a number to float: infinite for an integer beyond the range of float, 0 if it is not a number."""
    try:
        return float(value) if isinstance(value, int | float) else 0.0
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def as_time(value: Any) -> float:
    """Convert a time in seconds to float; 0 if it is not a finite number."""
    return seconds if math.isfinite(seconds := as_float(value)) else 0.0
