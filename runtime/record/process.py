"""Processes of this machine, and whether they still run."""

import os
import socket
from pathlib import Path


def machine() -> str:
    """Names the space in which a process number is unique: this boot of the machine, and the container's namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        return socket.gethostname()


def start_time(process: int) -> str | None:
    """When a process was started, in the kernel's clock ticks; None without Linux's `/proc`."""
    stat = _stat(process)
    return stat[19] if len(stat) > 19 else None


def is_running(process: int, began: str | None) -> bool:
    """Whether a process still runs. A zombie, which has exited and waits for its parent, does not.

    Args:
        process: Its number.
        began: Its `start_time`, since numbers are reused, for example by a restarted container. None if unknown.
    """
    try:
        os.kill(process, 0)
    except PermissionError:  # it is another user's
        pass
    except OSError:
        return False
    return began in (None, start_time(process)) and _stat(process)[:1] not in (["Z"], ["X"])


def _stat(process: int) -> list[str]:
    """The fields of `/proc/PID/stat` from the third, the state, on; empty without such a file."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return stat.rpartition(")")[2].split()
