"""One optimizer update and its micro-batches."""

from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

import torch
import torch.distributed as dist

from ..data.delivery import cloned
from ..data.loader import Loader
from ..data.order import Portion
from ..errors import ConfigError
from ..record.throughput import Throughput
from ..settings.limits import check_limits
from .micro_batch import MicroBatch


class Step:
    """One optimizer update: iterate it for its micro-batches on this process, as often as you like.

    Each iteration yields the same batches, with new random draws; `replay` repeats the random draws as well.

    Attributes:
        number: The step in the run, counted from 1.
        epoch: The epoch it belongs to, counted from 1.
        num_samples: Samples in the step, over all micro-batches and processes.
        micro_batch_samples: Samples in the current micro-batch of this process; 0 in a filler.
        is_last_of_epoch: Whether it is the last step of its pass over the data in this epoch, or of the run.
    """

    def __init__(
        self,
        portion: Portion,
        number: int,
        epoch: int,
        size: int,
        micro_batch: MicroBatch,
        throughput: Throughput,
        *,
        passes: int = 1,
        beside: Callable[[Loader, int], Portion] | None = None,
        is_last_of_epoch: bool = False,
        is_last: bool = False,
    ) -> None:
        self.number = number
        self.epoch = epoch
        self.num_samples = portion.num_samples
        self.micro_batch_samples = 0
        self.is_last_of_epoch = is_last_of_epoch
        self._is_last = is_last  # of the run
        self._size = size
        self._micro_batch, self._throughput = micro_batch, throughput
        self._begun = 0  # micro-batches, over all iterations
        self._keeps = passes > 1 or micro_batch.keeps
        self._own = _Batches(portion, size, throughput)
        self._take_beside = beside
        self._others: dict[Loader, _Batches] = {}
        self._beside: list[Any] = []  # their batches in the current micro-batch

    def __iter__(self) -> Iterator[Any]:
        return self._walk([], replays=False)

    def replay(self) -> Iterator[Any]:
        """Iterate it again with the same batches and the same random draws as the first time.

        For one loss that takes several forward passes with the same dropout: the closure of LBFGS, or cached embeddings
        whose gradients are computed in a second pass.
        """
        return self._walk([], replays=True)

    def beside(self, *loaders: Loader) -> Iterator[tuple[Any, ...]]:
        """Iterate it together with a step of each other loader: `for batch, other in step.beside(other_loader)`.

        Each other loader has its own batch size, order, epochs and position, which is saved in checkpoints. Its steps have
        as many micro-batches as this one. Divide a sum over its samples by its `batch_size`. Make it before `run.epochs`.

        Raises:
            ConfigError: A step may have fewer samples than there are micro-batches on all processes.
        """
        others = [self._beside_of(loader) for loader in loaders]
        for batch in self._walk(others, replays=False):
            yield batch, *self._beside

    def _walk(self, others: list["_Batches"], *, replays: bool) -> Iterator[Any]:
        if not self._size:
            raise ConfigError("A step of `run.updates` has no batches: the loop makes its own data")
        taken = self._begun % self._size
        if self._begun >= self._size:  # later steps will be iterated again, too
            self._micro_batch.keeps = True
        for place in range(taken, self._size):
            batch, self.micro_batch_samples = self._own.take(place, self._keeps)
            if others:  # before the micro-batch seeds the generators: loading may draw at random
                self._beside = [other.take(place, self._keeps)[0] for other in others]
            self._begun += 1
            number = place + 1 if replays else self._begun
            self._micro_batch.begin(self.number, number, self.micro_batch_samples, self._size)
            yield batch
        self._micro_batch.end()

    def _beside_of(self, loader: Loader) -> "_Batches":
        if self._take_beside is None:
            raise ConfigError("`step.beside` works only for steps of `run.steps`")
        if loader not in self._others:
            self._others[loader] = _Batches(self._take_beside(loader, self._size), self._size, self._throughput)
        return self._others[loader]

    def check_taken(self) -> None:
        """Raise a RuntimeError if the loop left the step half way."""
        taken = self._begun % self._size
        if taken or not self._begun:
            raise RuntimeError(
                f"Step {self.number} was left after {taken} of {self._size} micro-batches: "
                "iterate each step to its end"
            )

    def total(self, count: Callable[[Any], int | torch.Tensor], *, unit: str | None = "tokens") -> torch.Tensor:
        """The sum of `count(batch)` over all micro-batches of the step on all processes, such as its tokens.

        Loads all micro-batches of the step. Collective: one reduction on the device, which nothing waits for.

        Args:
            count: From a micro-batch to a number, or a tensor of shape () on the run's device.
            unit: What is counted, in the plural, to log `time/<unit>_per_second`. None logs nothing.

        Returns:
            Shape (), float64 (float32 on a device without it), on the run's device.
        """
        assert not self._begun, "call `total` before the first micro-batch"
        device = self._micro_batch.device
        total = torch.zeros((), dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)
        for batch, samples in self._own.hold():
            if samples:
                total += count(batch)
        if self._micro_batch.num_processes > 1:
            dist.all_reduce(total)
        if unit is not None:
            self._throughput.add(unit, total)
        return total

    def every(self, steps: int | None) -> bool:
        """Whether the step number is a multiple of `steps`; None is never.

        Raises:
            ConfigError: `steps` is below 1.
        """
        _check("Step.every", steps)
        return steps is not None and self.number % steps == 0

    def due(self, steps: int | None) -> bool:
        """Like `every`, but None is the end of each epoch, and the last step of the run is always due.

        Raises:
            ConfigError: `steps` is below 1.
        """
        _check("Step.due", steps)
        if self._is_last:
            return True
        return self.is_last_of_epoch if steps is None else self.number % steps == 0


def _check(name: str, steps: int | None) -> None:
    if steps is not None and not steps >= 1:  # skips the table of limits in the usual case
        check_limits({name: steps})


class _Batches:
    """The micro-batches of a portion, which may be taken several times, each time from first to last.

    If it is known that they will be taken again, copies are kept, because the loop may change its batches in place.
    Otherwise they are loaded again: keeping all of them could take much memory.
    """

    def __init__(self, portion: Portion, size: int, throughput: Throughput) -> None:
        self._portion, self._size, self._throughput = portion, size, throughput
        self._source: Iterator[tuple[Any, int]] = iter(portion.micro_batches)
        self._next = 0  # place in the source
        self._held: dict[int, tuple[Any, int]] = {}  # loaded before they were taken
        self._kept: dict[int, tuple[Any, int]] = {}  # copies for the next time

    def hold(self) -> list[tuple[Any, int]]:
        """All micro-batches, before the first is taken."""
        for place in range(self._next, self._size):
            self._held[place] = self._fetch()
        return list(self._held.values())

    def take(self, place: int, keeps: bool) -> tuple[Any, int]:
        """The micro-batch at a place, counted from 0, and how many of its samples count."""
        if place in self._held:
            batch, samples = self._held.pop(place)
        elif place in self._kept:
            batch, samples = self._kept[place]
            return cloned(batch), samples
        else:
            if place < self._next:
                for later in range(self._next, self._size):  # the source may continue with the next step
                    self._kept[later] = self._fetch()
                assert self._portion.again is not None, "every loader can load a step again"
                self._source, self._next = iter(self._portion.again()), 0
            while self._next < place:
                self._fetch()
            batch, samples = self._fetch()
        if keeps:
            self._kept[place] = cloned(batch), samples
        return batch, samples

    def _fetch(self) -> tuple[Any, int]:
        started = perf_counter()
        self._next += 1
        fetched = next(self._source)
        self._throughput.data_seconds += perf_counter() - started
        return fetched
