"""The walk through epochs and steps."""

from collections.abc import Iterator
from contextlib import closing
from time import perf_counter

from ..data.loader import Loader
from ..errors import ConfigError
from ..record.progress import bar
from ..record.reporting import Reporter
from .position import Position
from .step import MicroBatch, Step


def walk_epochs(position: Position) -> Iterator[int]:
    """Yield the numbers of the epochs that are left, from the restored position on."""
    while not position.is_over():
        if position.epoch_is_over and not position.epoch_is_cut:
            position.epoch, position.step_in_epoch = position.epoch + 1, 0
            position.stream, position.stream_is_over = None, False
        position.epoch_is_over = position.epoch_is_cut = False
        yield position.epoch
        position.epoch_is_over = True  # also where the loop left it with `break`


def walk_steps(
    loader: Loader, accumulate: int, passes: int, position: Position, micro_batch: MicroBatch, reporter: Reporter
) -> Iterator[Step]:
    """Yield the steps of the epoch that are left, from the restored position on."""
    is_bounded = loader.known_steps is not None or position.max_steps is not None
    reporter.total_steps = loader.total_steps(position.epochs, position.max_steps) if is_bounded else None
    if position.step == 0 and (notice := loader.notice()):
        reporter.say(notice)
    if position.step_in_epoch and position.stream_is_over:
        return
    throughput, last_step, shown = reporter.throughput, position.last_step, reporter.accelerator.is_main_process
    with (
        closing(loader.portions(position.epoch, position.step_in_epoch, accumulate, position.stream)) as portions,
        bar(reporter.total_steps, position.step, shown=shown, description="training") as progress,
    ):
        while position.step < last_step and not position.finished:
            started = perf_counter()
            portion = next(portions, None)
            throughput.data_seconds += perf_counter() - started
            if portion is None:
                position.stream_is_over = True
                break
            position.step += 1
            position.step_in_epoch += 1
            position.stream, position.stream_is_over = portion.state, portion.is_last
            throughput.samples += portion.num_samples
            out_of_steps = position.step >= last_step
            step = Step(
                portion,
                position.step,
                position.epoch,
                accumulate,
                micro_batch,
                throughput,
                passes=passes,
                is_last_of_epoch=portion.is_last or out_of_steps,
                is_last=out_of_steps or (portion.is_last and position.epoch == position.epochs),
            )
            yield step
            step.check_taken()
            progress.update()
    position.epoch_is_cut = position.step >= last_step and not position.stream_is_over
    position.epoch_is_over = True
    if position.stream_is_over and position.step_in_epoch == 0:
        raise ConfigError(
            f"`{type(loader.dataset).__name__}` had no step in epoch {position.epoch}: "
            "it must start again each time it is iterated, and hold a batch"
        )
