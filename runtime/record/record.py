"""A run directory: settings, status, metrics and curves of a run."""

import json
import math
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import MENDABLE, ConfigError
from ..storage.files import append, atomic_write, json_bytes
from .curves import draw_curves
from .environment import surroundings, versions
from .sources import Sources
from .status import HEARTBEAT, RUNS, claim, machine, read_status, start_time

_WRITING = threading.RLock()  # of a status: by the run, or by its heartbeat


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
        self.best: dict[str, Any] | None = None  # by which score the best weights are chosen, and its best so far
        self._curves_drawn, self._curves_took = time.monotonic(), 0.0
        self._at_the_cut: list[tuple[set[str], bytes]] = []  # lines of the last step that `cut_back` kept
        self._beating: threading.Event | None = None

    def settings(self) -> dict[str, Any] | None:
        """The settings with which the run was last started, None for a new run."""
        settings: dict[str, Any] | None = self.start().get("settings")
        return settings

    def start(self) -> dict[str, Any]:
        """The content of `config.json`: with which settings, and on what, the run was last started; empty for a new run.

        Raises:
            ConfigError: It is damaged.
        """
        path = self.run_dir / "config.json"
        if not path.is_file():  # a pipe would be waited for
            return {}
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return {**content, "settings": dict(content["settings"])}
        except OSError as error:
            raise ConfigError(f"`{path}` cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError):
            raise ConfigError(
                f"`{path}` is damaged, so the settings of the run are not known: restore the file, or start a new run "
                "from a checkpoint of this one with `--resume CHECKPOINT --run-dir NEW`"
            ) from None

    def write_settings(
        self, settings: Mapping[str, Any], environment: Mapping[str, Any], sources: Sources | None = None
    ) -> None:
        """Write `config.json`, and `code.patch` where the sources differ from their git commit."""
        content = {
            "settings": settings,
            **environment,
            "command": sys.argv,
            "versions": versions(),
            **surroundings(),
            "git_commit": None if sources is None else sources.commit,
            "code": None if sources is None else sources.code,
        }
        patch = self.run_dir / "code.patch"
        if sources is not None and sources.patch is not None:
            atomic_write(patch, sources.patch)
        else:
            patch.unlink(missing_ok=True)  # of an earlier start
        atomic_write(self.run_dir / "config.json", json_bytes(content))

    def write_data(self, use: str, name: str, description: Mapping[str, Any]) -> None:
        """Add what a loader reads to `config.json`: number of samples, hash and classes.

        Args:
            use: `train` or `eval`.
            name: The loader's number.
            description: Of its data. The batch size and the order are none of it.
        """
        content = self.start()
        known = {key: value for key, value in description.items() if key not in ("batch_size", "order")}
        content.setdefault("data", {}).setdefault(use, {})[name] = known
        atomic_write(self.run_dir / "config.json", json_bytes(content))

    def claim(self, seen: Mapping[str, Any]) -> bool:
        """Begin to write the run, of whose status `seen` was read. Whether no other process was faster."""
        if not claim(self.run_dir, seen):
            return False
        self._write_status("running", 0, 0, None)
        return True

    def write_status(self, state: str, step: int, epoch: int, reason: str | None = None) -> None:
        """Write the state of the run: `running`, `finished`, `stopped` or `failed`.

        The first failure is kept: how the other processes fail afterwards is not the reason.

        Raises:
            ConfigError: Another process has taken the run.
        """
        with _WRITING:
            if state == "failed" and self.failure() is not None:
                return
            self.check_is_ours()
            self._write_status(state, step, epoch, reason)

    def _write_status(self, state: str, step: int, epoch: int, reason: str | None) -> None:
        status = {
            "state": state,
            "step": step,
            "epoch": epoch,
            "reason": reason,
            "started": self.started,
            "updated": time.time(),
            "host": socket.gethostname(),
            "machine": machine(),
            "process": os.getpid(),
            "process_began": start_time(os.getpid()),
        } | ({"best": self.best} if self.best else {})
        path = self.run_dir / "status.json"
        try:
            atomic_write(path, json_bytes(status))
        except OSError:
            if state != "failed":
                raise
            with path.open("r+b") as file:  # a full disk has no room for another file, but for this one
                file.truncate(file.write(json_bytes(status)))

    def check_is_ours(self) -> None:
        """Notice that another process has taken the run, as it may while this one is suspended for minutes.

        Raises:
            ConfigError: It has.
        """
        status = read_status(self.run_dir)
        if status.get("started", self.started) != self.started:
            raise ConfigError(
                f"`{self.run_dir}` was taken over by process {status.get('process')} on host `{status.get('host')}`, "
                "as this process showed no sign of life: it ends here, and the other one goes on"
            )

    def beat(self) -> None:
        """Show others every few seconds that this process is alive, until `stop_beating`; in a thread."""
        self._beating = threading.Event()
        threading.Thread(target=self._keep_beating, args=(self._beating,), daemon=True, name="paccel-heartbeat").start()

    def stop_beating(self) -> None:
        if self._beating is not None:
            with _WRITING:  # not in the middle of a beat
                self._beating.set()
            self._beating = None

    def _keep_beating(self, ended: threading.Event) -> None:
        while not ended.wait(HEARTBEAT):
            with _WRITING, suppress(OSError):
                status = read_status(self.run_dir)
                is_ours = status.get("started") == self.started and status.get("state") == "running"
                if is_ours and not ended.is_set():
                    atomic_write(self.run_dir / "status.json", json_bytes(status | {"updated": time.time()}))

    def write_failure(self, error: BaseException | None, step: int, epoch: int, process: int | None) -> None:
        """Write why the run failed, and on which process if there are several.

        A run that fails before its first step, of something that the user can fix, leaves nothing behind. If the disk
        itself fails, the error says so.
        """
        if read_status(self.run_dir).get("started", self.started) != self.started:
            return  # another process writes the run now
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
        is_ours = status.get("started") == self.started  # otherwise an earlier start has written it
        return str(status["reason"]) if is_ours and status.get("state") == "failed" else None

    def append(self, values: Mapping[str, Any]) -> None:
        """Add one line to the metrics. Numbers that are not finite become null, as JSON cannot express them.

        A run that was killed between a save and the next step repeats what it logged there: the new line replaces the
        old one.

        Raises:
            OSError: The line cannot be written; nothing of it is.
            ConfigError: Another process has taken the run.
        """
        self.check_is_ours()
        line = {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in values.items()}
        for old in [old for old in self._at_the_cut if old[0] == _names(line)][:1]:
            self._at_the_cut.remove(old)
            atomic_write(self.metrics, self.metrics.read_bytes().replace(old[1], b"", 1))
        append(self.metrics, json_bytes(line, indent=None))

    def tracked_as(self) -> dict[str, str]:
        """What each tracker calls the run, by the tracker."""
        with suppress(OSError, ValueError):
            return dict(json.loads((self.run_dir / "trackers.json").read_text(encoding="utf-8")))
        return {}

    def track_as(self, names: Mapping[str, str]) -> None:
        atomic_write(self.run_dir / "trackers.json", json_bytes(names))

    def cut_back(self, step: int) -> None:
        """Drop the metrics after `step`, and a torn last line.

        Raises:
            ConfigError: What has their name is no file.
        """
        if not self.metrics.exists():
            return
        if not self.metrics.is_file():
            raise ConfigError(f"`{self.metrics}` is no file: remove it, as the metrics of the run are written there")
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
