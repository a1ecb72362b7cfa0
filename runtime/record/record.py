"""What a run leaves on disk: its settings, its status, its metrics, its curves."""

import json
import math
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from ..errors import MENDABLE, ConfigError
from ..storage.files import atomic_write
from .curves import draw_curves
from .status import RUNS, began, read_status

MAY_CHANGE = frozenset(
    {"epochs", "max_steps", "num_workers", "log_every", "save_every", "keep_last", "resume", "run_dir", "trackers"}
    | {"time_limit", "skip_non_finite", "keep_best", "save_in_background"}
)
"""Settings that may differ between a run and its continuation; on any other a different result would follow."""


def versions() -> dict[str, str]:
    """The versions that a result depends on."""
    found = {"python": platform.python_version()}
    for name in ("paccel", "torch", "accelerate", "numpy"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """The commit of the folder that the run was started in, with `+` when files differ from it; None outside git."""
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+" if changed else "")


class Record:
    """The files of one run directory, written by the main process alone (a failure, by the process that failed).

    Args:
        run_dir: The directory.
        is_new: This start of the run has made all that is in it.
    """

    def __init__(self, run_dir: Path, *, is_new: bool = False) -> None:
        self.run_dir = run_dir
        self.is_new = is_new
        self.metrics = run_dir / "metrics.jsonl"
        self.started = time.time()
        self._curves_drawn, self._curves_took = time.monotonic(), 0.0
        self._at_the_cut: list[tuple[set[str], bytes]] = []  # lines of the step to which the metrics were cut back

    def settings(self) -> dict[str, Any] | None:
        """The settings of the run as it was last started, None for a new run."""
        settings: dict[str, Any] | None = self._start().get("settings")
        return settings

    def origin(self) -> Path | None:
        """The checkpoint of another run that this one began from, None if it began at the beginning."""
        forked_from = self._start().get("forked_from")
        return None if forked_from is None else Path(forked_from)

    def _start(self) -> dict[str, Any]:
        """What `write_settings` wrote when the run was last started, empty for a new run."""
        path = self.run_dir / "config.json"
        if not path.exists():
            return {}
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return {**content, "settings": dict(content["settings"])}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"`{path}` cannot be read: {error}") from None

    def check_settings(self, now: Mapping[str, Any]) -> None:
        """Compare with the settings that the run began with.

        Raises:
            ConfigError: A setting differs that must not change on the way; lists all of them.
        """
        before = self.settings()
        if before is None:
            return
        both = sorted(set(before) | set(now))
        names = [n for n in both if n not in MAY_CHANGE and before.get(n) != now.get(n)]
        if names:
            lines = [f"  {name}: was {before.get(name)!r}, is {now.get(name)!r}" for name in names]
            raise ConfigError(
                f"`{self.run_dir}` was started with other settings:\n" + "\n".join(lines) + "\n"
                "Give the same ones to continue it, or `--resume never` and another `--run-dir` to start anew"
            )

    def write_settings(self, settings: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        content = {
            "settings": settings,
            **environment,
            "command": sys.argv,
            "versions": versions(),
            "git_commit": git_commit(),
        }
        atomic_write(self.run_dir / "config.json", _dump(content, indent=2))

    def write_status(self, state: str, step: int, epoch: int, reason: str | None = None) -> None:
        """Say how the run stands: `running`, `finished`, `stopped` or `failed`.

        The first failure stays: what the other processes then die of is not the reason.
        """
        if state == "failed" and self.failure() is not None:
            return
        status = {
            "state": state,
            "step": step,
            "epoch": epoch,
            "reason": reason,
            "started": self.started,
            "updated": time.time(),
            "host": socket.gethostname(),
            "process": os.getpid(),
            "process_began": began(os.getpid()),
        }
        atomic_write(self.run_dir / "status.json", _dump(status, indent=2))

    def write_failure(self, error: BaseException | None, step: int, epoch: int, process: int | None) -> None:
        """Say what the run failed of, and on which process if there are several.

        A run that has not begun, and fails of what its reader can mend, leaves nothing behind. Where the disk is what
        fails, that is in the error itself.
        """
        if self.is_new and step == 0 and isinstance(error, MENDABLE):
            self._discard()
        elif self.run_dir.exists():  # else another process has discarded it
            where = f"step {step}" + ("" if process is None else f", process {process}")
            with suppress(OSError):
                self.write_status("failed", step, epoch, f"{where}: {type(error).__name__}: {error}")

    def _discard(self) -> None:
        aside = self.run_dir.with_name(f"{self.run_dir.name}.{os.getpid()}.tmp")
        with suppress(OSError):  # another process was first
            self.run_dir.rename(aside)  # at once, so that no other process writes to what is being removed
        shutil.rmtree(aside, ignore_errors=True)
        if self.run_dir.parent == RUNS:
            with suppress(OSError):  # it holds other runs
                RUNS.rmdir()

    def failure(self) -> str | None:
        """What this start of the run has failed of on the process that failed first."""
        status = self._own_status()
        return str(status["reason"]) if status.get("state") == "failed" else None

    def _own_status(self) -> dict[str, Any]:
        """The status, unless an earlier start of this run has written it."""
        status = read_status(self.run_dir)
        return status if status.get("updated", 0.0) >= self.started else {}

    def append(self, values: Mapping[str, Any]) -> None:
        """Add one line to the metrics; non-finite numbers become null, as JSON has no word for them.

        What comes behind the loop is done again by a run that was killed there: its line takes the old one's place.
        """
        line = {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in values.items()}
        for old in [old for old in self._at_the_cut if old[0] == _names(line)][:1]:
            self._at_the_cut.remove(old)
            atomic_write(self.metrics, self.metrics.read_bytes().replace(old[1], b"", 1))
        with self.metrics.open("ab") as file:
            file.write(_dump(line))

    def cut_back(self, step: int) -> None:
        """Drop the metrics behind `step`, and a last line that was torn."""
        if not self.metrics.exists():
            return
        kept = []
        for line in self.metrics.read_bytes().splitlines(keepends=True):
            try:
                values = json.loads(line)
                if line.endswith(b"\n") and values["step"] <= step:
                    kept.append(line)
                    if values["step"] == step:
                        self._at_the_cut.append((_names(values), line))
            except (ValueError, KeyError, TypeError):
                continue
        atomic_write(self.metrics, b"".join(kept))

    def take_metrics_of(self, checkpoint: Path) -> None:
        """Begin with the metrics of the run that `checkpoint` belongs to; `cut_back` drops what came behind it."""
        metrics = checkpoint.parent.parent / "metrics.jsonl"
        if metrics.exists():
            atomic_write(self.metrics, metrics.read_bytes())

    def draw(self, *, at_once: bool) -> None:
        """Draw the curves; on the way only after half a minute, and as often as costs less than a hundredth of the time."""
        now = time.monotonic()
        if not self.metrics.exists() or (not at_once and now - self._curves_drawn < max(30.0, 100 * self._curves_took)):
            return
        draw_curves(self.metrics, self.run_dir / "curves.png")
        self._curves_drawn = time.monotonic()
        self._curves_took = self._curves_drawn - now


def _names(line: Mapping[str, Any]) -> set[str]:
    """What tells the lines of one step from each other: their step and metrics, without those that a clock decides on."""
    return {f"step {line['step']}", *(name for name in line if not name.startswith("time/"))}


def _dump(value: Any, indent: int | None = None) -> bytes:
    return (json.dumps(value, indent=indent, allow_nan=False, default=str) + "\n").encode()
