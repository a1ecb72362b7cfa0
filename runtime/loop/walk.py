"""The walk through epochs and steps, from the position of the run on."""

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from time import perf_counter

from ..data.loader import Loader
from ..data.order import Portion
from ..errors import ConfigError, Stopped
from ..record.progress import bar
from ..record.reporting import Reporter
from .beside import BesideLoaders
from .data_check import DataCheck
from .finite import FiniteGuard
from .micro_batch import MicroBatch
from .position import Position
from .step import Step


class Walk:
    """Yields the remaining epochs and steps of a run, and moves its position along.

    Args:
        position: Where the run is.
        micro_batch: Handed to each step.
        guard: Gets the samples of each step, to name them in errors.
        reporter: Counts samples and seconds.
        data_check: Compares the data of each loader, at its first step.
        is_fork: Whether the position comes from the checkpoint of another run.
    """

    def __init__(
        self,
        position: Position,
        micro_batch: MicroBatch,
        guard: FiniteGuard,
        reporter: Reporter,
        data_check: DataCheck,
        *,
        is_fork: bool,
    ) -> None:
        self._position, self._micro_batch, self._guard = position, micro_batch, guard
        self._reporter, self._data_check, self._is_fork = reporter, data_check, is_fork
        self._beside = BesideLoaders(position, data_check, micro_batch.num_processes)
        self._is_in_steps = False  # the script is inside a loop over steps
        self._num_passes = 0  # loops over steps begun in this epoch, since the run was started or resumed
        self._loader: Loader | None = None  # of the last of these loops
        self._has_begun = False  # the first epoch
        self._was_left = False  # the loop left the steps of this epoch with `break`
        self._has_warned_of_break = False
        self._has_said_end_of_fork = False
        self._num_named = 0  # loaders

    def name(self, loader: Loader) -> None:
        """Name a loader for checkpoints, by its number. A loader made after the first epoch began has no name."""
        if not self._has_begun:
            loader.name, self._num_named = str(self._num_named), self._num_named + 1

    def epochs(self) -> Iterator[int]:
        """Yield the numbers of the remaining epochs."""
        position = self._position
        while not position.is_over():
            if position.epoch_is_over and not position.epoch_is_cut:
                position.epoch += 1
                position.begin_pass(0)
            position.epoch_is_over = position.epoch_is_cut = position.was_saved_after_pass = False
            self._num_passes, self._loader, self._has_begun, self._was_left = 0, None, True, False
            yield position.epoch
            position.epoch_is_over = True  # also if the loop left it with `break` before a step
            if self._was_left and not self._has_warned_of_break and not position.is_over():
                self._has_warned_of_break = True
                self._reporter.warn(
                    f"epoch {position.epoch} was left with `break`: save after the loop over its steps, because a run "
                    "resumed from a checkpoint saved inside that loop continues with the remaining steps; or shorten "
                    "epochs with `limit_batches`"
                )

    def steps(self, loader: Loader, micro_batches: int, passes: int) -> Iterator[Step]:
        """Yield the remaining steps of one pass over a loader in this epoch. Collective at its first step."""
        if self._is_in_steps:
            raise ConfigError(
                "`run.steps` was called inside another loop over steps: for batches of two loaders in one step, use "
                "`for batch, other in step.beside(other_loader)`; for one loader after the other, finish the first loop"
            )
        position, reporter = self._position, self._reporter
        if not self._begin_pass(loader):
            return
        self._data_check.check(loader)
        total = self._total_steps(loader)
        reporter.total_steps = total if position.pass_in_epoch == 0 else position.max_steps
        if notice := loader.notice() if position.step == 0 else loader.notice_of_resume(position.stream):
            reporter.say(notice)
        if position.step_in_epoch and position.stream_is_over:
            return
        start = position.samples_in_epoch
        start = position.step_in_epoch * loader.batch_size if start is None else start  # None: saved by paccel 0.1
        throughput, last_step, shown = reporter.throughput, position.last_step, reporter.accelerator.is_main_process
        beside = partial(self._beside.next_step, loader)
        source = loader.divided_portions(position.epoch, position.step_in_epoch, micro_batches, position.stream, start)
        self._is_in_steps = True
        try:
            with (
                closing(source) as portions,
                bar(reporter.total_steps, position.step, shown=shown, description="training") as progress,
            ):
                while position.step < last_step and not position.finished:
                    started = perf_counter()
                    portion = next(portions, None)
                    throughput.data_seconds += perf_counter() - started
                    if portion is None:
                        position.stream_is_over = True
                        break
                    self._end_replay()
                    stop = start + portion.num_samples
                    position.step += 1
                    position.step_in_epoch += 1
                    position.samples_in_epoch = stop
                    position.stream, position.stream_is_over = portion.state, portion.is_last
                    throughput.samples += portion.num_samples
                    out_of_steps = position.step >= last_step
                    self._guard.samples = partial(loader.indices_between, position.epoch, start, stop)
                    step = Step(
                        portion,
                        position.step,
                        position.epoch,
                        micro_batches,
                        self._micro_batch,
                        throughput,
                        passes=passes,
                        beside=beside,
                        is_last_of_epoch=portion.is_last or out_of_steps,
                        is_last=out_of_steps or (portion.is_last and position.epoch == position.epochs),
                    )
                    yield step
                    step.check_taken()
                    progress.update()
                    start = stop
        except GeneratorExit:
            self._was_left = True
            raise
        finally:
            self._is_in_steps = False
            position.epoch_is_over = True
        self._was_left = False  # also if this loop continued one that was left
        position.epoch_is_cut = position.step >= last_step and not position.stream_is_over
        if position.stream_is_over and position.step_in_epoch == 0:
            raise ConfigError(
                f"`{type(loader.dataset).__name__}` had no step in epoch {position.epoch}: each iteration must start from "
                "its beginning, and yield at least one batch"
            )

    def _total_steps(self, loader: Loader) -> int | None:
        """The step at which the run ends; None if that is unknown. Prints a line if a fork ends at another step."""
        position = self._position
        if loader.known_steps is None and position.max_steps is None:
            return None
        total = loader.total_steps(position.epochs, position.max_steps)
        end = self._end_of_fork(loader) if self._is_fork else None
        if end is None or end == total:
            return total
        if not self._has_said_end_of_fork:
            self._reporter.say(
                f"this run ends at step {end}, not at {total}, because earlier steps had another size; a schedule made for "
                f"{total} steps keeps that length"
            )
        self._has_said_end_of_fork = True
        return end

    def _end_of_fork(self, loader: Loader) -> int | None:
        """The last step of a fork, whose earlier steps may have had another size or other data; None if it is unknown."""
        position, start = self._position, self._position.samples_in_epoch
        if loader.is_stream or position.epochs is None or start is None or position.pass_in_epoch or position.beside:
            return None
        end = position.step + loader.steps_after(start) + (position.epochs - position.epoch) * loader.steps_per_epoch
        return end if position.max_steps is None else min(end, position.max_steps)

    def updates(self, number: int, num_samples: int) -> Iterator[Step]:
        """Yield the remaining steps up to `number`. They have no batches."""
        position, throughput = self._position, self._reporter.throughput
        position.max_steps, position.epoch_is_over = number, False
        self._reporter.total_steps = number
        shown = self._reporter.accelerator.is_main_process
        with bar(number, position.step, shown=shown, description="training") as progress:
            while position.step < number and not position.finished:
                self._end_replay()
                position.step += 1
                throughput.samples += num_samples
                self._guard.samples = None
                out_of_steps = position.step >= number
                self._micro_batch.begin(position.step, 1, 1, 1)
                yield Step(
                    Portion(num_samples, out_of_steps, ()),
                    position.step,
                    position.epoch,
                    0,
                    self._micro_batch,
                    throughput,
                    is_last_of_epoch=out_of_steps,
                    is_last=out_of_steps,
                )
                progress.update()
        position.epoch_is_over = True

    def _end_replay(self) -> None:
        """End a replay after its last step."""
        if self._position.step >= self._position.replay_until:
            raise Stopped(f"replayed to step {self._position.step}")

    def _begin_pass(self, loader: Loader) -> bool:
        """Set the position for a loop over a loader's steps; False if they were done before the run was resumed."""
        position = self._position
        continues = self._loader is loader and not position.stream_is_over  # the loop left its steps with `break`
        number = self._num_passes - 1 if continues else self._num_passes
        self._num_passes, self._loader = number + 1, loader
        if continues or number > position.pass_in_epoch:
            if position.was_saved_after_pass:
                raise ConfigError(
                    "A checkpoint was saved after the steps of one loader, and more steps follow in the same epoch, but a "
                    "run resumed from it would begin the next epoch: save inside a loop over steps, or after the last one"
                )
            position.epoch_is_over = False
        if number > position.pass_in_epoch:
            position.begin_pass(number)
        return number == position.pass_in_epoch
