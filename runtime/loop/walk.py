"""The walk through epochs and steps."""

from collections.abc import Generator, Iterator
from contextlib import closing
from functools import partial
from time import perf_counter
from typing import Any
from weakref import WeakSet

from ..data.loader import Loader
from ..data.order import Portion
from ..errors import ConfigError, DataError, Stopped
from ..hardware.agreement import Agreement
from ..record.progress import bar
from ..record.reporting import Reporter
from .finite import FiniteGuard
from .micro_batch import MicroBatch
from .position import Position
from .step import Step


class Walk:
    """Yields epochs and steps from the run's place on, and keeps that place.

    Args:
        position: The place.
        micro_batch: What follows from it.
        guard: Names the samples of a step.
        reporter: Counts what is trained.
        agreement: Lets processes tell that they are given the same data.
        is_fork: Whether the place comes from another run, so that other data is no mistake.
    """

    def __init__(
        self,
        position: Position,
        micro_batch: MicroBatch,
        guard: FiniteGuard,
        reporter: Reporter,
        agreement: Agreement,
        *,
        is_fork: bool,
    ) -> None:
        self._position, self._micro_batch, self._guard = position, micro_batch, guard
        self._reporter, self._agreement, self._is_fork = reporter, agreement, is_fork
        self._is_under_way = False  # steps are being yielded
        self._begun = 0  # passes of this epoch that this start of the run has seen the loop begin
        self._loader: Loader | None = None  # of the last of them
        self._has_begun = False  # whether an epoch has begun
        self._was_left = False  # the loop has left the steps of this epoch with `break`
        self._has_warned = False  # of that
        self._has_said_end = False  # where a fork ends
        self._known: WeakSet[Loader] = WeakSet()  # whose data was looked at
        self._named = 0  # loaders so far
        self._sources: dict[str, tuple[int, Generator[Portion]]] = {}  # of loaders beside others: epoch, its steps

    def epochs(self) -> Iterator[int]:
        """Yield the numbers of the epochs that are left, from the restored position on."""
        position = self._position
        while not position.is_over():
            if position.epoch_is_over and not position.epoch_is_cut:
                position.epoch += 1
                position.begin_pass(0)
            position.epoch_is_over = position.epoch_is_cut = position.was_saved_after_pass = False
            self._begun, self._loader, self._has_begun, self._was_left = 0, None, True, False
            yield position.epoch
            position.epoch_is_over = True  # also where the loop has left it with `break` before a step
            if self._was_left and not self._has_warned and not position.is_over():
                self._has_warned = True
                self._reporter.warn(
                    f"epoch {position.epoch} was left with `break`: save after its steps, as a run that is resumed from a "
                    "checkpoint saved within them goes on with the next ones; or shorten epochs by `limit_batches`"
                )

    def steps(self, loader: Loader, micro_batches: int, passes: int) -> Iterator[Step]:
        """Yield the steps of one pass over a loader that are left in this epoch."""
        if self._is_under_way:
            raise ConfigError(
                "`run.steps` was called within the steps of another: for batches of two loaders in one step, take "
                "`for batch, other in step.beside(other_loader)`; for one after the other, end the first loop first"
            )
        position, reporter = self._position, self._reporter
        if not self._begin_pass(loader):
            return
        self.look_at(loader)
        is_bounded = loader.known_steps is not None or position.max_steps is not None
        total = loader.total_steps(position.epochs, position.max_steps) if is_bounded else None
        if total is not None and self._is_fork and (end := self._end_of_fork(loader)) not in (None, total):
            if not self._has_said_end:
                reporter.say(
                    f"this run ends at step {end}, not at {total}, as steps of another size came before: a schedule made "
                    f"for {total} steps ends there"
                )
            total, self._has_said_end = end, True
        reporter.total_steps = total if position.pass_in_epoch == 0 else position.max_steps
        if notice := loader.notice() if position.step == 0 else loader.notice_of_resume(position.stream):
            reporter.say(notice)
        if position.step_in_epoch and position.stream_is_over:
            return
        start = position.samples_in_epoch
        start = position.step_in_epoch * loader.batch_size if start is None else start  # of paccel 0.1
        throughput, last_step, shown = reporter.throughput, position.last_step, reporter.accelerator.is_main_process
        source = loader.divided_portions(position.epoch, position.step_in_epoch, micro_batches, position.stream, start)
        self._is_under_way = True
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
                        beside=self._beside,
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
            self._is_under_way = False
            position.epoch_is_over = True
        self._was_left = False  # another `run.steps` has gone on with them
        position.epoch_is_cut = position.step >= last_step and not position.stream_is_over
        if position.stream_is_over and position.step_in_epoch == 0:
            raise ConfigError(
                f"`{type(loader.dataset).__name__}` had no step in epoch {position.epoch}: "
                "it must start again each time it is iterated, and hold a batch"
            )

    def _end_of_fork(self, loader: Loader) -> int | None:
        """The last step of a run that goes on with other batches or data than it began with; None if it is not known."""
        position, start = self._position, self._position.samples_in_epoch
        if loader.is_stream or position.epochs is None or start is None or position.pass_in_epoch or position.beside:
            return None
        end = position.step + loader.steps_after(start) + (position.epochs - position.epoch) * loader.steps_per_epoch
        return end if position.max_steps is None else min(end, position.max_steps)

    def updates(self, number: int, num_samples: int) -> Iterator[Step]:
        """Yield the steps that are left of `number`, none of which has data of a loader."""
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
        """Leave a replay before the step that follows its last one."""
        if self._position.step >= self._position.replay_until:
            raise Stopped(f"replayed to step {self._position.step}")

    def look_at(self, loader: Loader, *, trains: bool = True) -> None:
        """Compare a loader's data with that of the checkpoint, and on all processes, the first time. Collective.

        Only data that was there before the first epoch is compared with a checkpoint: data that the loop makes may be
        other data each time.

        Raises:
            DataError: A run is resumed with other training data, or the processes are given different data; that on all
                of them.
        """
        if loader in self._known:
            return
        self._known.add(loader)
        self._compare_data(loader, found := loader.describe(), trains=trains)
        record, name = self._reporter.record, loader.name
        if name and record is not None:
            self._agreement.on_main(lambda: record.write_data("train" if trains else "eval", name, found))

    def _compare_data(self, loader: Loader, found: dict[str, Any], *, trains: bool) -> None:
        for other in self._agreement.gather(found):
            differing = _differences(found, other)
            if differing and (trains or found.get("samples") != other.get("samples")):
                raise DataError(
                    f"The processes are given different data ({'; '.join(differing)}): give `run.loader` the whole "
                    "dataset on every process, in the same order, since paccel divides it by itself"
                )
        place = self._position
        saved = place.data.get(loader.name or "", found)
        changed = [] if found in place.data.values() else _differences(saved, found, with_batch_size=trains)
        if loader.name:
            place.data[loader.name] = found
        if not changed:
            return
        what = f"the data of `run.loader` differs from that of the checkpoint: {'; '.join(changed)}"
        if trains and not self._is_fork:
            raise DataError(
                f"{what[0].upper()}{what[1:]}. Put it back, or start a new run from the checkpoint with the data as it "
                "is now: `--resume RUN/checkpoints/step-N --run-dir NEW`"
            )
        if trains and place.samples_in_epoch and not place.stream_is_over:
            what += f". Epoch {place.epoch} goes on after {place.samples_in_epoch} samples"
            what += " of another order: some come twice in it, some never" if _is_other(saved, found) else ""
        self._reporter.say(what)

    def _begin_pass(self, loader: Loader) -> bool:
        """Find the place for steps of a loader in this epoch; False if they were done before the run was resumed."""
        position = self._position
        goes_on = self._loader is loader and not position.stream_is_over  # the loop has left its steps with `break`
        number = self._begun - 1 if goes_on else self._begun
        self._begun, self._loader = number + 1, loader
        if goes_on or number > position.pass_in_epoch:
            if position.was_saved_after_pass:
                raise ConfigError(
                    "A checkpoint was saved after the steps of one loader, and more steps follow in the same epoch, where "
                    "a resumed run would begin the next epoch: save within the steps, or after the last ones"
                )
            position.epoch_is_over = False
        if number > position.pass_in_epoch:
            position.begin_pass(number)
        return number == position.pass_in_epoch

    def name(self, loader: Loader) -> None:
        """Give a loader the name of its place in a checkpoint: its number. One that the loop makes has none."""
        if not self._has_begun:
            loader.name, self._named = str(self._named), self._named + 1

    def _beside(self, loader: Loader, micro_batches: int) -> Portion:
        """The next step of a loader that is taken beside the steps of another, epoch after epoch."""
        if not loader.name:
            raise ConfigError("The loader of `step.beside` must be made before `run.epochs`: its place is saved by it")
        if loader not in self._known:
            self.look_at(loader)
            for each in (loader, self._loader):
                _check_no_fillers(each, micro_batches, self._micro_batch.num_processes)
        places = self._position.beside
        epoch, start = places.get(loader.name, (1, 0))
        opened, source = self._sources.get(loader.name, (0, None))
        if source is None or opened != epoch:
            source = loader.portions(epoch, start // loader.batch_size, micro_batches, start=start)
            self._sources[loader.name] = epoch, source
        portion = next(source, None)
        if portion is None or portion.is_last:
            places[loader.name] = [epoch + 1, 0]
        else:
            places[loader.name] = [epoch, start + portion.num_samples]
        if portion is not None:
            return portion
        if not start:
            raise ConfigError(f"`{type(loader.dataset).__name__}` had no step in epoch {epoch}: it holds no batch")
        return self._beside(loader, micro_batches)


def _check_no_fillers(loader: Loader | None, micro_batches: int, num_processes: int) -> None:
    """Raise where some process has no sample in some micro-batch: a filler would count in the loss of the other loader."""
    if loader is not None and (smallest := loader.smallest_step) < micro_batches * num_processes:
        raise ConfigError(
            f"`step.beside` needs a sample for every micro-batch of every process ({num_processes} by {micro_batches}), "
            f"and the smallest step of `{type(loader.dataset).__name__}` may have {smallest}: "
            "pass `drop_last=True` to `run.loader`, or a larger batch size"
        )


def _differences(before: dict[str, Any], now: dict[str, Any], *, with_batch_size: bool = True) -> list[str]:
    """What differs between two descriptions of data, in words."""
    words = {"samples": "{} samples", "classes": "the classes {}"} | (
        {"batch_size": "steps of {}", "order": "{}"} if with_batch_size else {}
    )
    differing = [name for name in words if name in before and name in now and before[name] != now[name]]
    found = [f"{words[name].format(_short(before[name]))}, now {_short(now[name])}" for name in differing]
    if not {"samples", "classes"} & set(differing) and before.get("content") != now.get("content"):
        found.append("as many samples, with other content")
    return found


def _is_other(before: dict[str, Any], now: dict[str, Any]) -> bool:
    return any(before.get(name, now.get(name)) != now.get(name) for name in ("samples", "content", "order"))


def _short(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)
