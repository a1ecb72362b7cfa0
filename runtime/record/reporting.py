"""Reporting the numbers of a run: to disk, to trackers, and in the terminal."""

from collections.abc import Mapping
from time import perf_counter
from typing import Any

from accelerate import Accelerator
from tqdm import tqdm

from . import progress
from .curves import draw_curves
from .record import Record
from .throughput import Throughput
from .trackers import Trackers
from .twins import find_other_loss


class Reporter:
    """Measures on every process, and reports from the main one.

    Args:
        accelerator: accelerate's `Accelerator`.
        record: The files of the run; None keeps no files.

    Attributes:
        trackers: The run's trackers.
        throughput: Counts samples and times between log points.
        total_steps: How many steps the run will have, if that is known; for display.
    """

    def __init__(self, accelerator: Accelerator, record: Record | None) -> None:
        self.accelerator = accelerator
        self.record = record
        self.trackers = Trackers(accelerator)
        self.throughput = Throughput(accelerator.device, accelerator.num_processes)
        self.total_steps: int | None = None
        self._compares_loss = True  # with runs of the same seed, at the first training loss
        self._drawn, self._drawing_took = perf_counter(), 0.0

    def say(self, text: str) -> None:
        """Print a line, on the main process."""
        if self.accelerator.is_main_process:
            progress.say(text)

    def warn(self, text: str) -> None:
        """Print a warning, on the main process."""
        if self.accelerator.is_main_process:
            progress.warn(text)

    def measure_flops(self, per_sample: float | None, peak: float | None) -> None:
        """Also log MFU, the fraction of peak FLOPS, if `per_sample` is not None."""
        if per_sample is not None:
            self.throughput.measure_flops(per_sample, peak, self.accelerator.mixed_precision, self.say)

    def times(self, section: str) -> dict[str, float]:
        """Seconds since this start of the run; for training, also the throughput since the last log point."""
        times = {"seconds": perf_counter() - self.throughput.started}
        if section == "train":
            times |= self.throughput.read()
        return {name: round(value, 6) for name, value in times.items()}

    def log(self, step: int, epoch: int, section: str, values: Mapping[str, Any], times: Mapping[str, float]) -> None:
        """Write, track and print one log point, on the main process."""
        named = {f"{section}/{name}": value for name, value in values.items()}
        named |= {f"time/{name}": value for name, value in times.items()}
        if self.record is not None:
            self.record.log({"step": step, "epoch": epoch, **named})
            loss = values.get("loss")
            if section == "train" and self._compares_loss and isinstance(loss, float):
                self._compares_loss = False
                if line := find_other_loss(self.record.run_dir, step, loss):
                    self.warn(line)
            if section != "train":
                self.draw()
        self.trackers.log(named, step)
        shown = ("tokens_per_second" if "tokens_per_second" in times else "samples_per_second", "mfu")
        speed = {name: times[name] for name in shown if name in times}
        progress.say(progress.line(step, self.total_steps, epoch, section, {**values, **speed}))

    def draw(self, *, force: bool = False) -> None:
        """Draw the curves; unless `force`, at most every 30 seconds and for at most 1 % of the time.

        A run survives any error in drawing, but not a disk that cannot be written.
        """
        now = perf_counter()
        is_due = force or now - self._drawn >= max(30.0, 100 * self._drawing_took)
        if self.record is None or not is_due or not self.record.metrics.path.exists():
            return
        try:
            draw_curves(self.record.metrics.path, self.record.run_dir / "curves.png")
        except OSError:
            raise
        except Exception as problem:
            self.warn(f"`curves.png` cannot be drawn: {type(problem).__name__}: {problem}")
        else:
            self._drawn = perf_counter()
            self._drawing_took = self._drawn - now

    def close(self, state: str, step: int, epoch: int, reason: str | None) -> None:
        """Write the final status, draw the curves, print how the run ended, and close the trackers."""
        if self.record is not None and self.accelerator.is_main_process:
            self.record.write_status(state, step, epoch, reason)
            self.draw(force=True)
            why = f" ({reason})" if reason else ""
            took = tqdm.format_interval(perf_counter() - self.throughput.started)
            self.say(f"{state}{why} at step {step} after {took}, see {self.record.run_dir}")
        self.trackers.finish()
