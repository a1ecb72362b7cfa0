"""A run directory: settings, status, metrics and curves of a run."""

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
from ..storage.files import atomic_write, json_bytes
from .curves import draw_curves
from .status import RUNS, read_status, start_time

MAY_CHANGE = frozenset(
    {"epochs", "max_steps", "num_workers", "log_every", "save_every", "keep_last", "resume", "run_dir", "trackers"}
    | {"time_limit", "skip_non_finite", "keep_best", "save_in_background"}
)
"""Settings that may differ when a run is continued; any other would change the result."""


def versions() -> dict[str, str]:
    """The versions on which a result depends."""
    found = {"python": platform.python_version()}
    for name in ("paccel", "torch", "accelerate", "numpy"):
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def git_commit() -> str | None:
    """The git commit of the working directory, with a `+` if tracked files differ from it; None outside git."""
    command = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


class Record:
    """The files of one run directory. Only the main process writes them, but a failure is written by its process.

    Args:
        run_dir: The directory.
        is_new: Whether it was empty before this start of the run.
    """

    def __init__(self, run_dir: Path, *, is_new: bool = False) -> None:
        self.run_dir = run_dir
        self.is_new = is_new
        self.metrics = run_dir / "metrics.jsonl"
        self.started = time.time()
        self._curves_drawn, self._curves_took = time.monotonic(), 0.0
        self._at_the_cut: list[tuple[set[str], bytes]] = []  # lines of the last step that `cut_back` kept

    def settings(self) -> dict[str, Any] | None:
        """The settings with which the run was last started, None for a new run."""
        settings: dict[str, Any] | None = self._start().get("settings")
        return settings

    def origin(self) -> Path | None:
        """The checkpoint of another run from which this one was forked, or None."""
        forked_from = self._start().get("forked_from")
        return None if forked_from is None else Path(forked_from)

    def _start(self) -> dict[str, Any]:
        """The content of `config.json`, empty for a new run."""
        path = self.run_dir / "config.json"
        if not path.exists():
            return {}
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return {**content, "settings": dict(content["settings"])}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"`{path}` cannot be read: {error}") from None

    def check_settings(self, now: Mapping[str, Any]) -> None:
        """Compare with the settings with which the run was started.

        Raises:
            ConfigError: Settings differ that must stay the same; lists all of them.
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
                "Pass the same ones to continue it, or `--resume never` and another `--run-dir` for a new run"
            )

    def write_settings(self, settings: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        content = {
            "settings": settings,
            **environment,
            "command": sys.argv,
            "versions": versions(),
            "git_commit": git_commit(),
        }
        atomic_write(self.run_dir / "config.json", json_bytes(content))

    def write_status(self, state: str, step: int, epoch: int, reason: str | None = None) -> None:
        """Write the state of the run: `running`, `finished`, `stopped` or `failed`.

        The first failure is kept: how the other processes fail afterwards is not the reason.
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
            "process_began": start_time(os.getpid()),
        }
        atomic_write(self.run_dir / "status.json", json_bytes(status))

    def write_failure(self, error: BaseException | None, step: int, epoch: int, process: int | None) -> None:
        """Write why the run failed, and on which process if there are several.

        A run that fails before its first step, of something that the user can fix, leaves nothing behind. If the disk
        itself fails, the error says so.
        """
        if self.is_new and step == 0 and isinstance(error, MENDABLE):
            self._discard()
        elif self.run_dir.exists():  # otherwise another process has discarded it
            where = f"step {step}" + ("" if process is None else f", process {process}")
            with suppress(OSError):
                self.write_status("failed", step, epoch, f"{where}: {type(error).__name__}: {error}")

    def _discard(self) -> None:
        aside = self.run_dir.with_name(f"{self.run_dir.name}.{os.getpid()}.tmp")
        with suppress(OSError):  # another process was first
            self.run_dir.rename(aside)  # first, so that no other process writes to what is being removed
        shutil.rmtree(aside, ignore_errors=True)
        if self.run_dir.parent == RUNS:
            with suppress(OSError):  # it holds other runs
                RUNS.rmdir()

    def failure(self) -> str | None:
        """Why this start of the run failed, on the process that failed first; None if it did not."""
        status = read_status(self.run_dir)
        is_ours = status.get("updated", 0.0) >= self.started  # otherwise an earlier start has written it
        return str(status["reason"]) if is_ours and status.get("state") == "failed" else None

    def append(self, values: Mapping[str, Any]) -> None:
        """Add one line to the metrics. Numbers that are not finite become null, as JSON cannot express them.

        A run that was killed between a save and the next step repeats what it logged there: the new line replaces the
        old one.
        """
        line = {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in values.items()}
        for old in [old for old in self._at_the_cut if old[0] == _names(line)][:1]:
            self._at_the_cut.remove(old)
            atomic_write(self.metrics, self.metrics.read_bytes().replace(old[1], b"", 1))
        with self.metrics.open("ab") as file:
            file.write(json_bytes(line, indent=None))

    def cut_back(self, step: int) -> None:
        """Drop the metrics after `step`, and a torn last line."""
        if not self.metrics.exists():
            return
        kept = []
        for line in self.metrics.read_bytes().splitlines(keepends=True):
            with suppress(ValueError, KeyError, TypeError):
                values = json.loads(line)
                if line.endswith(b"\n") and values["step"] <= step:
                    kept.append(line)
                    if values["step"] == step:
                        self._at_the_cut.append((_names(values), line))
        atomic_write(self.metrics, b"".join(kept))

    def take_metrics_of(self, checkpoint: Path) -> None:
        """Copy the metrics of the run that `checkpoint` belongs to; `cut_back` then drops what came after it."""
        metrics = checkpoint.parent.parent / "metrics.jsonl"
        if metrics.exists():
            atomic_write(self.metrics, metrics.read_bytes())

    def draw(self, *, force: bool) -> None:
        """Draw the curves; unless `force`, at most every 30 seconds and for at most 1 % of the time."""
        now = time.monotonic()
        if not self.metrics.exists() or (not force and now - self._curves_drawn < max(30.0, 100 * self._curves_took)):
            return
        draw_curves(self.metrics, self.run_dir / "curves.png")
        self._curves_drawn = time.monotonic()
        self._curves_took = self._curves_drawn - now


def _names(line: Mapping[str, Any]) -> set[str]:
    """What identifies a line: its step and the names of its metrics, without wall-clock figures."""
    return {f"step {line['step']}", *(name for name in line if not name.startswith("time/"))}
