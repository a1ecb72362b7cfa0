"""Where the numbers of a run go: the record on disk, the trackers, the terminal."""

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

from accelerate import Accelerator

from . import progress
from .record import Record
from .throughput import Throughput


class Reporter:
    """Takes log points on every process, and reports them from the main one."""

    def __init__(self, accelerator: Accelerator, record: Record | None) -> None:
        self.accelerator = accelerator
        self.record = record
        self.total_steps: int | None = None
        self.throughput = Throughput(accelerator.device, accelerator.num_processes)
        self._started = self.throughput.started

    def say(self, text: str) -> None:
        """Print a line, on the main process."""
        if self.accelerator.is_main_process:
            progress.say(text)

    def warn(self, text: str) -> None:
        if self.accelerator.is_main_process:
            print(f"warning: {text}", file=sys.stderr, flush=True)

    def start_trackers(self, config: Mapping[str, Any]) -> None:
        """Start the trackers with the settings. What they do not take, such as lists, goes to them as text."""
        simple = {k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in config.items()}
        try:
            self.accelerator.init_trackers(Path.cwd().name, config=simple)
        except Exception as problem:  # a tracker may raise anything, and must not end the run
            self._drop_trackers(problem)

    def measure_flops(self, per_sample: float | None, peak: float | None) -> None:
        """Log the share of the peak as well, if the count of a sample is given."""
        if per_sample is not None:
            self.throughput.measure_flops(per_sample, peak, self.accelerator.mixed_precision, self.say)

    def log(self, step: int, epoch: int, section: str, values: Mapping[str, Any]) -> None:
        """Write, track and show one log point."""
        times = self._times(section)
        if not self.accelerator.is_main_process:
            return
        named = {f"{section}/{name}": value for name, value in values.items()}
        named |= {f"time/{name}": value for name, value in times.items()}
        if self.record is not None:
            self.record.append({"step": step, "epoch": epoch, **named})
            if section != "train":
                self.record.draw(at_once=False)
        finite = {k: v for k, v in named.items() if isinstance(v, int | float) and math.isfinite(v)}
        try:
            self.accelerator.log(finite, step=step)
        except Exception as problem:
            self._drop_trackers(problem)
        speed = {name: value for name, value in times.items() if name == "samples_per_second"}
        progress.say(progress.line(step, self.total_steps, epoch, section, {**values, **speed}))

    def _times(self, section: str) -> dict[str, float]:
        """Seconds of this start of the run; for training, the speed and the share of waiting since the last log."""
        times = {"seconds": perf_counter() - self._started}
        if section == "train":
            times |= self.throughput.read()
        return {name: round(value, 6) for name, value in times.items()}

    def _drop_trackers(self, problem: Exception) -> None:
        self.accelerator.trackers.clear()
        self.warn(f"a tracker failed, the run goes on without: {type(problem).__name__}: {problem}")

    def close(self, state: str, step: int, epoch: int, reason: str | None) -> None:
        """Write the last status, draw the curves, say how it ended."""
        if self.record is not None and self.accelerator.is_main_process:
            self.record.write_status(state, step, epoch, reason)
            self.record.draw(at_once=True)
            why = f" ({reason})" if reason else ""
            took = progress.duration(perf_counter() - self._started)
            self.say(f"{state}{why} at step {step} after {took}, see {self.record.run_dir}")
        try:
            for tracker in self.accelerator.trackers:
                tracker.finish()
        except Exception as problem:
            self._drop_trackers(problem)
