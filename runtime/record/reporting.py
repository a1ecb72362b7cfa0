"""Reporting the numbers of a run: on disk, to trackers, in the terminal."""

import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from accelerate.utils import LoggerType
from tqdm import tqdm

from ..errors import ConfigError
from . import progress
from .record import Record
from .throughput import Throughput
from .twins import find_other_loss


class Reporter:
    """Measures on every process, and reports from the main one."""

    def __init__(self, accelerator: Accelerator, record: Record | None) -> None:
        self.accelerator = accelerator
        self.record = record
        self.total_steps: int | None = None
        self._is_first = True  # no loss was logged yet
        self.throughput = Throughput(accelerator.device, accelerator.num_processes)
        self._started = self.throughput.started

    def say(self, text: str) -> None:
        """Print a line, on the main process."""
        if self.accelerator.is_main_process:
            progress.say(text)

    def warn(self, text: str) -> None:
        if self.accelerator.is_main_process:
            print(f"warning: {text}", file=sys.stderr, flush=True)

    def start_trackers(self, names: Sequence[str], config: Mapping[str, Any]) -> None:
        """Start each tracker with the settings. What trackers do not accept, such as lists, is passed as text.

        A run that goes on does so in the tracker as well: `trackers.json` has the tracker's own name for it.
        """
        simple = {k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in config.items()}
        known = {} if self.record is None else self.record.tracked_as()
        started: list[Any] = []
        for name in names:
            # one at a time, so that a failure affects no other
            self.accelerator.log_with, self.accelerator.trackers = [name], []
            with self._dropping(name):
                options, settings = _continue(name, known.get(name)), simple
                if name == "mlflow" and options:
                    settings = {}  # it refuses settings that have changed
                self.accelerator.init_trackers(Path.cwd().name, settings, {name: options})
                started += self.accelerator.trackers
                if name in _IDENTITY and self.accelerator.is_main_process:
                    known[name] = _IDENTITY[name](self.accelerator.trackers[0].tracker)
        self.accelerator.log_with, self.accelerator.trackers = list(names), started
        if known and self.record is not None and self.accelerator.is_main_process:
            self.record.track_as(known)

    def measure_flops(self, per_sample: float | None, peak: float | None) -> None:
        """Also log MFU, the fraction of peak FLOPS, if `per_sample` is not None."""
        if per_sample is not None:
            self.throughput.measure_flops(per_sample, peak, self.accelerator.mixed_precision, self.say)

    def log(self, step: int, epoch: int, section: str, values: Mapping[str, Any], times: Mapping[str, float]) -> None:
        """Write, track and print one log point, on the main process."""
        named = {f"{section}/{name}": value for name, value in values.items()}
        named |= {f"time/{name}": value for name, value in times.items()}
        if self.record is not None:
            self.record.append({"step": step, "epoch": epoch, **named})
            loss = values.get("loss")
            if section == "train" and self._is_first and isinstance(loss, float):
                self._is_first = False
                if line := find_other_loss(self.record.run_dir, step, loss):
                    self.warn(line)
            if section != "train":
                self._draw(force=False)
        finite = {name: value for name, value in named.items() if math.isfinite(value)}
        self._each_tracker(lambda tracker: tracker.log(_for_tracker(tracker.name, finite), step=step))
        shown = ("tokens_per_second" if "tokens_per_second" in times else "samples_per_second", "mfu")
        speed = {name: times[name] for name in shown if name in times}
        progress.say(progress.line(step, self.total_steps, epoch, section, {**values, **speed}))

    def _draw(self, *, force: bool) -> None:
        """Draw the curves. A picture that cannot be drawn ends no run, but a disk that cannot be written does."""
        assert self.record is not None
        try:
            self.record.draw(force=force)
        except OSError:
            raise
        except Exception as problem:
            self.warn(f"`curves.png` cannot be drawn: {type(problem).__name__}: {problem}")

    def times(self, section: str) -> dict[str, float]:
        """Seconds since this start of the run; for training, also the throughput since the last log point."""
        times = {"seconds": perf_counter() - self._started}
        if section == "train":
            times |= self.throughput.read()
        return {name: round(value, 6) for name, value in times.items()}

    def _each_tracker(self, action: Callable[[Any], None]) -> None:
        for tracker in list(self.accelerator.trackers):
            with self._dropping(tracker.name, tracker):
                action(tracker)

    @contextmanager
    def _dropping(self, name: str, tracker: Any = None) -> Iterator[None]:
        """Drop a tracker that raises anything, and go on with the others and the run."""
        try:
            yield
        except Exception as problem:
            if tracker is not None:
                self.accelerator.trackers.remove(tracker)
            self.warn(f"tracker `{name}` failed, the run goes on without it: {type(problem).__name__}: {problem}")

    def close(self, state: str, step: int, epoch: int, reason: str | None) -> None:
        """Write the final status, draw the curves, print how the run ended."""
        if self.record is not None and self.accelerator.is_main_process:
            self.record.write_status(state, step, epoch, reason)
            self._draw(force=True)
            why = f" ({reason})" if reason else ""
            took = tqdm.format_interval(perf_counter() - self._started)
            self.say(f"{state}{why} at step {step} after {took}, see {self.record.run_dir}")
        self._each_tracker(lambda tracker: tracker.finish())


# What a tracker calls its run, of those that can go on with one
_IDENTITY: dict[str, Callable[[Any], str]] = {
    "wandb": lambda run: run.id,
    "mlflow": lambda run: run.info.run_id,
    "trackio": lambda run: run.name,
}


def _continue(name: str, identity: str | None) -> dict[str, Any]:
    """The options with which a tracker goes on with its run."""
    if identity is None:
        return {}
    return {
        "wandb": {"id": identity, "resume": "allow"},
        "mlflow": {"run_id": identity},
        "trackio": {"name": identity, "resume": "allow"},
    }[name]


def _for_tracker(tracker: str, values: Mapping[str, float]) -> Mapping[str, float]:
    """The same values, under names that a tracker takes."""
    if tracker != "mlflow":
        return values
    return {re.sub(r"[^\w\-. /:]", "_", name): value for name, value in values.items()}


def check_trackers(names: tuple[str, ...]) -> None:
    """Raise a ConfigError that lists all trackers unknown to accelerate or not installed."""
    missing = {str(name) for name in set(LoggerType) - set(get_available_trackers())}
    problems = []
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            problems.append(f"unknown tracker `{name}`: choose from {', '.join(sorted(LOGGER_TYPE_TO_CLASS))}")
        elif name in missing:
            problems.append(f"tracker `{name}` is not installed: `pip install {name}`")
    if problems:
        raise ConfigError("; ".join(problems))
