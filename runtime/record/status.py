"""`status.json`: which runs exist, and which are still running.

Whether the process of a run is alive is known on its own machine. Elsewhere it is known by its heartbeat: the process
writes the file anew every 15 seconds, so a file that stays as it is for a minute belongs to none. No clock is compared
with that of another host, except that a file older than ten minutes is not waited for.
"""

import itertools
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from . import progress

HEARTBEAT = 15.0  # seconds
_DEAD, _LONG_DEAD = 60.0, 600.0  # seconds without a heartbeat: while this process looks, and by the disk's clock
_CLAIM = 1.0  # second in which a process that has claimed a run writes its status

RUNS = Path("runs")
"""Where the directories of runs without `run_dir` are created."""


def new_run_dir(parent: Path) -> Path:
    """Create a folder named by the time, with a number if two start in the same second."""
    name = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    for number in itertools.count(1):
        path = parent / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir(parents=True)
            break
        except FileExistsError:
            if not path.exists():  # a file stands where `parent` should be
                raise ConfigError(f"The run directory `{path}` cannot be created: `{parent}` is not a folder") from None
        except OSError as error:
            raise ConfigError(f"The run directory `{path}` cannot be created: {error.strerror}") from None
    return path


def unfinished_runs(parent: Path) -> Iterator[Path]:
    """The runs under `parent` that have not finished, the newest first, also those that are still running."""
    folders = {found.parent for name in ("status.json", "checkpoints") for found in parent.glob(f"*/{name}")}
    runs = [(read_status(path), path) for path in folders]
    unfinished = [run for run in runs if run[0].get("state") != "finished"]
    yield from (path for _, path in sorted(unfinished, key=lambda run: (run[0].get("started", 0.0), run[1].name))[::-1])


def holds_run(folder: Path) -> bool:
    """Whether a run has begun there: a process that was killed when it opened its folder leaves a status alone."""
    return any((folder / name).exists() for name in ("config.json", "metrics.jsonl", "checkpoints"))


def writer_of(run_dir: Path, status: Mapping[str, Any]) -> str | None:
    """The process that still writes a run, in words; None if there is none. Waits for a heartbeat where it must.

    Args:
        run_dir: The run.
        status: What `read_status` has just returned of it.
    """
    if status.get("state") != "running":
        return None
    process, host = status.get("process"), status.get("host")
    is_here = status["machine"] == machine() if "machine" in status else host == socket.gethostname()
    if is_here:
        return f"process {process}, which still runs" if _exists(process, status.get("process_began")) else None
    return f"process {process} on host `{host}`" if _has_heartbeat(run_dir, status) else None


def await_end(run_dir: Path) -> None:
    """Wait, for up to a minute, until no process writes a run any more: one that is being ended may still save."""
    deadline = time.monotonic() + _DEAD
    while time.monotonic() < deadline and writer_of(run_dir, read_status(run_dir)) is not None:
        time.sleep(0.2)


def _exists(process: Any, began: str | None) -> bool:
    """Whether a process of this machine still exists, other than this one."""
    if not isinstance(process, int) or process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    # A restarted container reuses process numbers: then this is another process
    return began in (None, start_time(process))


def _has_heartbeat(run_dir: Path, status: Mapping[str, Any]) -> bool:
    """Whether the status of another machine's run changes within a minute."""
    try:
        written = (run_dir / "status.json").stat().st_mtime
    except FileNotFoundError:  # another process is claiming it
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
        _now_on_disk(run_dir)  # a network disk looks anew into a folder in which this host has written
        if read_status(run_dir) not in ({}, status):
            return True
    return False


def _now_on_disk(folder: Path) -> float:
    """The time by the clock that dates the files of a folder, which may be a file server's."""
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
    """Put a claim in the place of a run's status, so that of several processes that have seen it one may write the next.

    Each takes the old one away, if there is one, and makes a new one of its own: both can be done once only.

    Returns:
        Whether this process is the one; otherwise another was faster.
    """
    path = run_dir / "status.json"
    aside = run_dir / f"status.json.{socket.gethostname()}.{os.getpid()}.tmp"
    is_there = path.exists()
    if is_there and "state" not in seen:  # a claim: its process is about to write a status, or was killed before it did
        time.sleep(_CLAIM)
    if _read(path) != seen:
        return False
    content = own = json.dumps({"claim": secrets.token_hex(8)})
    try:
        if is_there:
            path.rename(aside)
            if _read(aside) != seen:
                content = aside.read_text(encoding="utf-8")  # of another process: back with it
            aside.unlink()
        with path.open("x", encoding="utf-8") as file:
            file.write(content)
    except (FileNotFoundError, FileExistsError):
        return False
    return content is own


def machine() -> str:
    """Where a number belongs to one process alone: this start of the machine, and the namespace of the container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        return socket.gethostname()


def start_time(process: int) -> str | None:
    """When a process was started, in the kernel's clock ticks; None without Linux's `/proc`."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
        return stat.rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def read_status(run_dir: Path) -> dict[str, Any]:
    """The status of a run, empty if there is none or it cannot be read."""
    return _read(run_dir / "status.json")


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():  # a pipe would be waited for
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
