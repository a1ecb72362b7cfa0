"""The walk through epochs and steps."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..data import foreign as stream_state
from ..data.fetch import to_device
from ..data.stream import StreamLoader
from ..errors import ConfigError
from ..record.progress import bar
from .step import Step

if TYPE_CHECKING:
    from ..data.loader import Loader
    from ..run import Run


def walk_epochs(run: "Run", epochs: int | None, max_steps: int | None) -> Iterator[int]:
    """Yield the numbers of the epochs that are left, from the restored position on."""
    if epochs is None and max_steps is None:
        raise ConfigError("`epochs` and `max_steps` are both off: the run would never end")
    run._epochs, run._max_steps = epochs, max_steps
    position = run._position
    while not run._is_over():
        if position.epoch_is_over and not position.epoch_is_cut:
            position.epoch, position.step_in_epoch = position.epoch + 1, 0
            position.stream, position.stream_is_over = None, False
        position.epoch_is_over = position.epoch_is_cut = False
        yield position.epoch
        position.epoch_is_over = True  # also where the loop left it with `break`


def walk_steps(run: "Run", loader: "Loader", accumulate: int, passes: int) -> Iterator[Step]:
    """Yield the steps of the epoch that are left, from the restored position on."""
    loader.total_steps(1)  # raises where there is no step at all
    position, reporter, throughput = run._position, run._reporter, run._reporter.throughput
    source = loader.training_batches(position.epoch, position.step_in_epoch, accumulate)
    total = reporter.total_steps = loader.total_steps(run._epochs, run._max_steps)
    last_step = math.inf if run._max_steps is None else run._max_steps
    last_in_epoch = loader.steps_per_epoch
    with bar(total, position.step, shown=run.accelerator.is_main_process, description="training") as shown:
        while position.step_in_epoch < last_in_epoch and position.step < last_step and not position.finished:
            num_samples = loader.samples_of_step(position.step_in_epoch)
            position.step += 1
            position.step_in_epoch += 1
            step = Step(run, source, position.step, position.epoch, num_samples, accumulate, passes)
            if position.step_in_epoch == last_in_epoch or position.step >= last_step:
                step.is_last_of_epoch = True
                step._is_last = position.epoch == run._epochs or position.step >= last_step
            throughput.samples += num_samples
            yield step
            step.check_taken()
            shown.update()
    position.epoch_is_cut = position.step >= last_step and position.step_in_epoch < last_in_epoch
    position.epoch_is_over = True


def walk_stream(run: "Run", loader: StreamLoader, accumulate: int, passes: int) -> Iterator[Step]:
    """Yield the steps of the epoch that are left, as `walk_steps` does for data with an index."""
    position = run._position
    if position.step == 0 and (notice := stream_state.notice(loader.dataset)):
        run._reporter.say(notice)
    if position.step_in_epoch and position.stream_is_over:
        return
    bounded = loader.limit is not None or run._max_steps is not None
    total = run._reporter.total_steps = loader.total_steps(run._epochs, run._max_steps) if bounded else None
    last_step = math.inf if run._max_steps is None else run._max_steps
    portions = loader.portions(position.epoch, position.step_in_epoch, position.stream, accumulate, filler=True)
    with bar(total, position.step, shown=run.accelerator.is_main_process, description="training") as shown:
        while position.step < last_step and not position.finished:
            portion = next(portions, None)
            if portion is None:
                break
            position.step += 1
            position.step_in_epoch += 1
            position.stream, position.stream_is_over = portion.state, portion.is_last
            source = ((to_device(batch, run.device), count) for batch, count in portion.micro_batches)
            step = Step(run, source, position.step, position.epoch, portion.num_samples, accumulate, passes)
            if portion.is_last or position.step >= last_step:
                step.is_last_of_epoch = True
                step._is_last = position.epoch == run._epochs or position.step >= last_step
            run._reporter.throughput.samples += portion.num_samples
            yield step
            step.check_taken()
            shown.update()
    position.epoch_is_cut = position.step >= last_step and not position.stream_is_over
    position.epoch_is_over = True
    portions.close()  # type: ignore[attr-defined]  # a generator: ends its worker
    if position.step_in_epoch == 0:
        raise ConfigError(
            f"`{type(loader.dataset).__name__}` gave no step in epoch {position.epoch}: "
            "it must begin anew each time it is iterated, and hold a batch"
        )
