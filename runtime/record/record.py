"""The record of a run: the files in its run directory."""

import json
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
from ..storage.files import atomic_write, json_bytes
from .environment import surroundings, versions
from .metrics import Metrics
from .process import machine, start_time
from .run_dirs import RUNS
from .sources import Sources
from .status import HEARTBEAT, claim, read_status

# Held while the run or its heartbeat writes the status. Global, since a Record is pickled for the other processes
_WRITING = threading.RLock()


class Record:
    """The files of one run directory. Only the main process writes them, except that any process may write a failure.

    Args:
        run_dir: The directory.
        is_new: Whether it was empty before this start of the run.

    Attributes:
        metrics: What is logged.
        started: When this start of the run began, in seconds since the epoch.
        best: The score by which the best weights are chosen, and its best value so far; goes into the status.
    """

    def __init__(self, run_dir: Path, *, is_new: bool = False) -> None:
        self.run_dir = run_dir
        self.is_new = is_new
        self.metrics = Metrics(run_dir / "metrics.jsonl")
        self.started = time.time()
        self.best: dict[str, Any] | None = None
        self._beating: threading.Event | None = None

    # config.json

    def read_config(self) -> dict[str, Any]:
        """The content of `config.json`: the settings and environment of the last start. Empty for a new run.

        Raises:
            ConfigError: The file is damaged or cannot be read.
        """
        path = self.run_dir / "config.json"
        if not path.is_file():  # reading a pipe would block
            return {}
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return {**content, "settings": dict(content["settings"])}
        except OSError as error:
            raise ConfigError(f"`{path}` cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError):
            raise ConfigError(
                f"`{path}` is damaged, so the settings of the run are unknown: restore the file, or start a new run "
                "from a checkpoint of this one with `--resume CHECKPOINT --run-dir NEW`"
            ) from None

    def write_config(
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
        """Add the data of a loader to `config.json`: number of samples, hash and classes.

        Args:
            use: `train` or `eval`.
            name: The loader's number.
            description: The loader's description of its data. Its batch size and order are left out.
        """
        content = self.read_config()
        known = {key: value for key, value in description.items() if key not in ("batch_size", "order")}
        content.setdefault("data", {}).setdefault(use, {})[name] = known
        atomic_write(self.run_dir / "config.json", json_bytes(content))

    # status.json

    def claim(self, seen: Mapping[str, Any]) -> bool:
        """Become the process that writes the run.

        Args:
            seen: The status that this process has read.

        Returns:
            False if another process was faster.
        """
        if not claim(self.run_dir, seen):
            return False
        self._write_status("running", 0, 0, None)
        return True

    def write_status(self, state: str, step: int, epoch: int, reason: str | None = None) -> None:
        """Write the state of the run: `running`, `finished`, `stopped` or `failed`.

        The first failure is kept, since those of the other processes only follow from it.

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
            with path.open("r+b") as file:  # a full disk has no room for a second file, only for this one
                file.truncate(file.write(json_bytes(status)))

    def check_is_ours(self) -> None:
        """Check that this process still owns the run. Another one may take it while this one is suspended for minutes.

        Raises:
            ConfigError: Another process has taken the run.
        """
        status = read_status(self.run_dir)
        if status.get("started", self.started) != self.started:
            raise ConfigError(
                f"`{self.run_dir}` was taken over by process {status.get('process')} on host `{status.get('host')}`, "
                "because this process showed no heartbeat: stopping here, the other process continues"
            )

    def beat(self) -> None:
        """Start a thread that updates the status every 15 seconds, until `stop_beating`: the heartbeat of the run."""
        self._beating = threading.Event()
        threading.Thread(target=self._keep_beating, args=(self._beating,), daemon=True, name="paccel-heartbeat").start()

    def stop_beating(self) -> None:
        if self._beating is not None:
            with _WRITING:  # wait for a beat that is being written
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

        A new run that fails before its first step, with an error that the user can fix, is removed. If the status
        cannot be written, nothing is: the user sees the error itself.
        """
        if read_status(self.run_dir).get("started", self.started) != self.started:
            return  # another process has taken the run
        if self.is_new and step == 0 and isinstance(error, MENDABLE):
            self._remove()
        elif self.run_dir.exists():  # otherwise another process has removed it
            where = f"step {step}" + ("" if process is None else f", process {process}")
            with suppress(OSError):
                self.write_status("failed", step, epoch, f"{where}: {type(error).__name__}: {error}")

    def _remove(self) -> None:
        aside = self.run_dir.with_name(f"{self.run_dir.name}.{os.getpid()}.tmp")
        with suppress(OSError):  # another process was faster
            self.run_dir.rename(aside)  # so that no other process writes into a folder that is being removed
        shutil.rmtree(aside, ignore_errors=True)
        if self.run_dir.parent == RUNS:
            with suppress(OSError):  # it holds other runs
                RUNS.rmdir()

    def failure(self) -> str | None:
        """Why this start of the run failed, on the process that failed first; None if it did not fail."""
        status = read_status(self.run_dir)
        is_ours = status.get("started") == self.started  # otherwise an earlier start wrote it
        return str(status["reason"]) if is_ours and status.get("state") == "failed" else None

    def log(self, values: Mapping[str, Any]) -> None:
        """Add one line to the metrics.

        Raises:
            OSError: The line cannot be written; nothing of it is.
            ConfigError: Another process has taken the run.
        """
        self.check_is_ours()
        self.metrics.append(values)
