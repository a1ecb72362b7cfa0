"""`status.json`: which runs exist, and which are still running."""

import itertools
import json
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

RUNS = Path("runs")
"""Where the directories of runs without `run_dir` are created."""


def new_run_dir(parent: Path) -> Path:
    """Create a folder named by the time, with a number if two start in the same second."""
    name = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    for number in itertools.count(1):
        path = parent / (name if number == 1 else f"{name}-{number}")
        with suppress(FileExistsError):
            path.mkdir(parents=True)
            break
    return path


def newest_unfinished(parent: Path) -> Path | None:
    """The newest run under `parent` that has not finished and is not running."""
    runs = [(read_status(path.parent), path.parent) for path in parent.glob("*/status.json")]
    unfinished = [run for run in runs if run[0].get("state") != "finished" and not is_alive(run[0])]
    newest = max(unfinished, key=lambda run: (run[0].get("started", 0.0), run[1].name), default=None)
    return None if newest is None else newest[1]


def is_alive(status: Mapping[str, Any]) -> bool:
    """Whether the process that wrote a `running` status still exists, as far as this host can tell."""
    if status.get("state") != "running" or status.get("host") != socket.gethostname():
        return False
    process = status.get("process")
    if not isinstance(process, int) or process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    # A restarted container reuses process numbers: then this is another process
    return status.get("process_began") in (None, start_time(process))


def start_time(process: int) -> str | None:
    """When a process was started, in the kernel's clock ticks; None without Linux's `/proc`."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
        return stat.rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def read_status(run_dir: Path) -> dict[str, Any]:
    """The status of a run, empty if there is none or it cannot be read."""
    try:
        value = json.loads((run_dir / "status.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
