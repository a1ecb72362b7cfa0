"""`status.json`: which runs there are, and which of them still run."""

import json
import os
import socket
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from ..errors import ConfigError

RUNS = Path("runs")
"""Where runs go that name no directory of their own."""


def new_run_dir(parent: Path) -> Path:
    """Make a folder named by the time, with a number behind it if the second is taken."""
    name = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    for number in range(1, 1000):
        path = parent / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        return path
    raise ConfigError(f"No free run directory under `{parent}`")


def newest_unfinished(parent: Path) -> Path | None:
    """The newest run under `parent` that did not finish and that no living process is writing."""
    runs = [path.parent for path in parent.glob("*/status.json")]
    runs.sort(key=lambda path: (read_status(path).get("started", 0.0), path.name), reverse=True)
    for path in runs:
        status = read_status(path)
        if status.get("state") != "finished" and not is_alive(status):
            return path
    return None


def is_alive(status: Mapping[str, Any]) -> bool:
    """Whether the process that wrote a `running` status still exists, as far as this host can know."""
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
    # A container that starts again gives its processes the numbers that they had: then this one is another
    return status.get("process_began") in (None, began(process))


def began(process: int) -> str | None:
    """When a process began, in the kernel's own ticks; None without Linux's `/proc`. With the number it names one."""
    try:
        return (
            Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
        )
    except (OSError, IndexError):
        return None


def read_status(run_dir: Path) -> dict[str, Any]:
    """The status that a run left, empty where there is none that can be read."""
    try:
        value = json.loads((run_dir / "status.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
