"""One optimizer update and its micro-batches."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import torch
import torch.distributed as dist

from ..data.order import Portion
from ..data.randomness import at, key, seeder
from ..hardware.prepare import Prepared
from ..record.throughput import Throughput


class MicroBatch:
    """The micro-batch, or batch of an evaluation, that this process is at: what follows from its place.

    Args:
        seed: The seed of the run.
        rank: The rank of this process.
        prepared: The models that exchange gradients.

    Attributes:
        num_processes: How many processes take part in each step.
        device: Where this process computes.
        is_filler: It counts nowhere: this process only takes part in what all processes must call.
        loss_factor: What a loss is multiplied by, since distributed wrappers average over processes where a sum is
            meant; 0 in a filler.
    """

    def __init__(self, seed: int, rank: int, prepared: Prepared) -> None:
        self.is_filler = False
        self.loss_factor = 1
        self._key = key(seed, "step", rank)
        self._prepared = prepared
        self.num_processes = prepared.accelerator.num_processes
        self.device = prepared.accelerator.device
        self._seed_all = seeder(self.device)

    def begin(self, step: int, number: int, samples: int, of: int) -> None:
        """Begin micro-batch `number`, counted from 1 through all passes, of a step with `of` in each pass."""
        self._seed_all(at(self._key, step << 16 | number))
        self.is_filler = samples == 0
        self.loss_factor = 0 if self.is_filler else self.num_processes
        if of > 1:
            self._prepared.exchange_gradients(number % of == 0)

    def begin_evaluation(self, step: int, number: int, samples: int) -> None:
        """Begin batch `number`, counted from 0, of an evaluation after a step."""
        self._seed_all(at(~self._key, step << 16 | number))
        self.is_filler = samples == 0

    def end(self) -> None:
        """What follows counts again."""
        self.is_filler = False

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """Within it, meters count nothing."""
        before, self.is_filler = self.is_filler, True
        try:
            yield
        finally:
            self.is_filler = before


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
        is_last_of_epoch: bool = False,
        is_last: bool = False,
    ) -> None:
        self.number = number
        self.epoch = epoch
        self.num_samples = portion.num_samples
        self.micro_batch_samples = 0
        self.is_last_of_epoch = is_last_of_epoch
        self._is_last = is_last  # of the run
        self._source, self._size, self._passes = iter(portion.micro_batches), size, passes
        self._micro_batch, self._throughput = micro_batch, throughput
        self._begun = 0  # micro-batches, over all passes
        self._fetched: dict[int, tuple[Any, int]] = {}  # by their place in the step, until their last pass

    def __iter__(self) -> Iterator[Any]:
        number_of_pass, taken = divmod(self._begun, self._size)
        if number_of_pass == self._passes:
            raise RuntimeError(
                f"Step {self.number} was iterated {self._passes + 1} times, and `passes` is {self._passes}: "
                f"`run.steps(…, passes={self._passes + 1})` keeps its micro-batches for that"
            )
        for place in range(taken, self._size):
            batch, self.micro_batch_samples = self._fetch(place)
            if number_of_pass + 1 == self._passes:
                del self._fetched[place]
            self._begun += 1
            self._micro_batch.begin(self.number, self._begun, self.micro_batch_samples, self._size)
            yield batch
        self._micro_batch.end()

    def check_taken(self) -> None:
        """Raise where the loop has left the step in its middle."""
        taken = self._begun % self._size
        if taken or not self._begun:
            raise RuntimeError(
                f"Step {self.number} was left after {taken} of {self._size} micro-batches: "
                "iterate each step to its end"
            )

    def _fetch(self, place: int) -> tuple[Any, int]:
        if place not in self._fetched:
            started = perf_counter()
            self._fetched[place] = next(self._source)
            self._throughput.data_seconds += perf_counter() - started
        return self._fetched[place]

    def total(self, count: Callable[[Any], int | torch.Tensor]) -> torch.Tensor:
        """The sum of `count(batch)` over all micro-batches of the step on all processes, such as its tokens.

        Fetches all micro-batches of the step. Collective: one reduction on the device, which is not waited for.

        Args:
            count: From a micro-batch to a number, or a tensor of shape () on the run's device.

        Returns:
            Shape (), float64 (float32 on a device without it), on the run's device.
        """
        assert not self._begun, "call `total` before the first micro-batch"
        device = self._micro_batch.device
        total = torch.zeros((), dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)
        for batch, samples in map(self._fetch, range(self._size)):
            if samples:
                total += count(batch)
        if self._micro_batch.num_processes > 1:
            dist.all_reduce(total)
        self._throughput.add_tokens(total)
        return total

    def every(self, steps: int | None) -> bool:
        """Whether this is one of every `steps` steps; None is never."""
        return steps is not None and self.number % steps == 0

    def due(self, steps: int | None) -> bool:
        """Like `every`, but None means at the end of each epoch, and the end of the run always counts."""
        if self._is_last:
            return True
        return self.is_last_of_epoch if steps is None else self.number % steps == 0
