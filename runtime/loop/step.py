"""Epochs, steps and micro-batches: the positions of a run, and the iterators that walk along them."""

from collections.abc import Callable, Iterator
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

if TYPE_CHECKING:
    from ..run import Run


class Step:
    """One optimizer update: iterate it for its micro-batches on this process.

    With `passes` in `run.steps`, it can be iterated so often, for several models that learn from the same samples.

    Attributes:
        number: The step in the run, counted from 1.
        epoch: The epoch it belongs to, counted from 1.
        num_samples: Samples in the step, over all micro-batches and processes.
        micro_batch_samples: Samples in the current micro-batch of this process; 0 in a filler.
        is_last_of_epoch: No step of this epoch follows, or none of the run.
    """

    # What most steps never change; it is made new in each step otherwise
    micro_batch_samples = 0
    is_last_of_epoch = False
    _is_last = False  # of the run
    _taken = 0
    _pass = 1

    def __init__(
        self,
        run: "Run",
        source: Iterator[tuple[Any, int]],
        number: int,
        epoch: int,
        num_samples: int,
        size: int,
        passes: int = 1,
    ) -> None:
        self.number = number
        self.epoch = epoch
        self.num_samples = num_samples
        self._run, self._source, self._size, self._passes = run, source, size, passes
        self._fetched: list[tuple[Any, int]] = []
        self._kept: list[tuple[Any, int]] = []  # for the next pass

    def __iter__(self) -> Iterator[Any]:
        if self._taken == self._size:
            self._begin_pass()
        if self._size > 1 or self._passes > 1:
            return self._micro_batches()
        batch = self._begin_next()
        return iter((batch,)) if self.micro_batch_samples else self._micro_batches(batch)  # no generator, as usual

    def _micro_batches(self, *begun: Any) -> Iterator[Any]:
        yield from begun
        while self._taken < self._size:
            yield self._begin_next()
        self._run._in_filler = False

    def _begin_next(self) -> Any:
        taken = self._fetched.pop(0) if self._fetched else self._fetch()
        if self._pass < self._passes:
            self._kept.append(taken)
        self._taken += 1
        batch, self.micro_batch_samples = taken
        number = (self._pass - 1) * self._size + self._taken
        self._run._begin_micro_batch(self.number, number, self.micro_batch_samples, self._size)
        return batch

    def _begin_pass(self) -> None:
        if self._pass == self._passes:
            raise RuntimeError(
                f"Step {self.number} is iterated once more than {self._passes} times: give `passes` to `run.steps`, "
                "and the step keeps its micro-batches"
            )
        self._pass, self._taken = self._pass + 1, 0
        self._fetched, self._kept = self._kept, []

    def check_taken(self) -> None:
        """Raise where the loop has left the step in its middle."""
        if self._taken < self._size:
            raise RuntimeError(
                f"Step {self.number} was left after {self._taken} of {self._size} micro-batches: "
                "iterate each step to its end"
            )

    def _fetch(self) -> tuple[Any, int]:
        started = perf_counter()
        fetched = next(self._source)
        self._run._reporter.throughput.data_seconds += perf_counter() - started
        return fetched

    def total(self, count: Callable[[Any], int | torch.Tensor]) -> torch.Tensor:
        """The sum of `count(batch)` over all micro-batches of the step on all processes, such as its tokens.

        Fetches the step's micro-batches at once. Collective: one reduction on the device, which is not waited for.

        Args:
            count: From a micro-batch to a number, or a tensor of shape () on the run's device.

        Returns:
            Shape (), float64 (float32 on a device without it), on the run's device.
        """
        assert self._taken + self._pass == 1, "`total` is asked for before the first micro-batch"
        while len(self._fetched) < self._size:
            self._fetched.append(self._fetch())
        device = self._run.device
        dtype = torch.float32 if device.type == "mps" else torch.float64
        total = torch.zeros((), dtype=dtype, device=device)
        for batch, samples in self._fetched:
            if samples:
                total += count(batch)
        if self._run._agreement.num_processes > 1:
            dist.all_reduce(total)
        self._run._reporter.throughput.add_tokens(total)
        return total

    def every(self, steps: int | None) -> bool:
        """Whether this is one of every `steps` steps; None is never."""
        return steps is not None and self.number % steps == 0

    def due(self, steps: int | None) -> bool:
        """Like `every`, but None means at the end of each epoch, and the end of the run always counts."""
        if self._is_last:
            return True
        return self.is_last_of_epoch if steps is None else self.number % steps == 0
