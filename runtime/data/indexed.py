"""The loader of map-style datasets: which samples make which step, and how they are fetched.

The samples of a step are a slice of the epoch's order. The slice is dealt to all micro-batches of all processes, in parts
that differ by at most one sample, so the number of processes and gradient accumulation do not change what a step sees.
"""

import itertools
from collections.abc import Generator, Iterable, Iterator, Sized
from contextlib import closing
from functools import partial
from typing import Any

from torch.utils.data import Dataset, default_collate

from ..errors import ConfigError
from .fetch import Fetch
from .loader import Loader
from .order import INDEX_MASK, Cut, Part, Portion, share, spans, with_counts
from .randomness import key
from .shuffle import Ascending, EpochOrder, shuffled
from .tensors import FetchTensors
from .workers import in_workers


class IndexedLoader(Loader):
    """The batches of a dataset with a length and an index."""

    def __init__(self, dataset: Dataset[Any], cut: Cut) -> None:
        if not isinstance(dataset, Sized) or not hasattr(dataset, "__getitem__"):
            raise ConfigError(f"`{type(dataset).__name__}` has no length or no index, and cannot be iterated")
        self._size = len(cut.shuffle(1)) if callable(cut.shuffle) else len(dataset)
        steps = self._size // cut.batch_size if cut.drop_last else -(-self._size // cut.batch_size)
        super().__init__(dataset, cut, steps if cut.limit is None else min(steps, cut.limit))
        self.num_samples = min(self._size, self.steps_per_epoch * cut.batch_size)
        pins, repeats = cut.device.type == "cuda", callable(cut.shuffle)
        tensors = None if cut.collate_fn else FetchTensors.of(dataset, pins=pins, repeats=repeats)
        self._fetch = tensors or Fetch(dataset, cut.collate_fn or default_collate, key(cut.seed, "sample"))
        self._num_workers = cut.num_workers if tensors is None else 0

    def describe(self) -> dict[str, Any]:
        if callable(self._cut.shuffle):
            order = "a custom order"
        else:
            order = f"shuffled by the seed {self._cut.seed}" if self._cut.shuffle else "in order"
        return {"samples": self._size, "order": order, **super().describe()}

    def steps_after(self, start: int) -> int:
        return -(-(self._stop(start) - start) // self.batch_size)

    def total_steps(self, epochs: int | None, max_steps: int | None = None) -> int:
        if self.steps_per_epoch == 0:
            raise ConfigError(f"No step in an epoch: {self._size} samples, batch size {self.batch_size}")
        return super().total_steps(epochs, max_steps)

    @property
    def smallest_step(self) -> int:
        return self.samples_of_step(self.steps_per_epoch - 1)

    def samples_of_step(self, step: int) -> int:
        return min(self.batch_size, self.num_samples - step * self.batch_size)

    def indices_between(self, epoch: int, start: int, stop: int) -> list[int]:
        dealt = self._order(epoch)[start : min(stop, self.num_samples)]
        indices: list[int] = (dealt & INDEX_MASK).tolist()
        return indices

    def portions(
        self, epoch: int, first_step: int, micro_batches: int, state: Any = None, *, start: int | None = None
    ) -> Generator[Portion]:
        self._begin_pass()
        order = self._order(epoch)
        start = first_step * self.batch_size if start is None else start
        stop = self._stop(start)
        with closing(self._batches(epoch, order, start, stop, micro_batches)) as batches:
            for first, last in spans(start, stop, self.batch_size):
                again = partial(self._fetch_again, epoch, order, (first, last), micro_batches)
                yield Portion(last - first, last == stop, batches, again)

    def training_parts(self, epoch: int, first_step: int, micro_batches: int) -> Iterator[Part]:
        start = first_step * self.batch_size
        steps = spans(start, self._stop(start), self.batch_size)
        return self._deal(epoch, self._order(epoch), steps, micro_batches, filler=True)

    def evaluation_batches(self, filler: bool) -> Iterator[tuple[Any, int]]:
        self._begin_pass()
        return self.fetch(self.evaluation_parts(filler))

    def evaluation_parts(self, filler: bool) -> Iterator[Part]:
        """This process's parts of one pass, in order. Over all processes, they have each sample once.

        A last batch smaller than the number of processes is joined to the one before, so that parts are empty only if
        the whole dataset is smaller than that. An empty part is left out, or made a filler.

        Raises:
            ConfigError: The loader has a custom order, which may omit or repeat samples.
        """
        if callable(self._cut.shuffle):
            raise ConfigError("Custom orders are for training only: create the loader of an evaluation without one")
        steps = spans(0, self.num_samples, self.batch_size)
        last = self.num_samples % self.batch_size or self.batch_size
        joined = self.num_samples - last - self.batch_size
        if last < self._cut.num_processes and joined >= 0:
            steps = itertools.chain(spans(0, joined, self.batch_size), [(joined, self.num_samples)])
        return self._deal(0, Ascending(), steps, 1, filler)

    def fetch(self, parts: Iterator[Part]) -> Iterator[tuple[Any, int]]:
        return self._fetch_by_workers(parts) if self._num_workers else self._fetch_here(parts)

    def _order(self, epoch: int) -> EpochOrder:
        if callable(self._cut.shuffle):
            return with_counts(self._cut.shuffle(epoch), epoch, self._size, len(self.dataset))
        if self._cut.shuffle:
            return shuffled(self._cut.seed, epoch, self._size, self._cut.order_version())
        return Ascending()

    def _begin_pass(self) -> None:
        """Look at the dataset again, which may have changed since the last pass.

        Raises:
            ConfigError: It has grown or shrunk, and its order is made for the old size.
        """
        if isinstance(self._fetch, FetchTensors):
            self._fetch.refresh()
        size = len(self.dataset)
        if size != self._size and not callable(self._cut.shuffle):
            raise ConfigError(
                f"`{type(self.dataset).__name__}` has {size} samples, and had {self._size} when its loader was created: "
                "create a new loader with `run.loader` for data that changes"
            )

    def _stop(self, start: int) -> int:
        """The position at which an epoch ends that is entered after `start` samples."""
        stop = self.num_samples
        return stop - (stop - start) % self.batch_size if self._cut.drop_last else stop

    def _batches(
        self, epoch: int, order: EpochOrder, start: int, stop: int, micro_batches: int
    ) -> Generator[tuple[Any, int]]:
        is_whole = micro_batches * self._cut.num_processes == 1
        if is_whole and isinstance(self._fetch, FetchTensors) and self._cut.device.type == "cpu":
            yield from self._fetch.whole_steps(order, start, stop, self.batch_size)
        else:
            steps = spans(start, stop, self.batch_size)
            yield from self.fetch(self._deal(epoch, order, steps, micro_batches, filler=True))

    def _deal(
        self, epoch: int, order: EpochOrder, steps: Iterable[tuple[int, int]], micro_batches: int, filler: bool
    ) -> Iterator[Part]:
        """This process's parts of steps, each step given as the start and stop of its slice of the order."""
        parts = micro_batches * self._cut.num_processes
        for start, stop in steps:
            for micro_batch in range(micro_batches):
                first, last = share(stop - start, parts, micro_batch * self._cut.num_processes + self._cut.rank)
                if first < last:
                    yield Part(epoch, order[start + first : start + last], last - first)
                elif filler:  # a real sample, so that every process runs the same number of forward passes
                    yield Part(epoch, order[start : start + 1], 0)

    def _fetch_here(self, parts: Iterator[Part]) -> Iterator[tuple[Any, int]]:
        return ((self._deliver(batch), counted) for batch, counted in map(self._fetch.__getitem__, parts))

    def _fetch_again(
        self, epoch: int, order: EpochOrder, step: tuple[int, int], micro_batches: int
    ) -> Iterator[tuple[Any, int]]:
        """The micro-batches of one step, fetched in this process."""
        return self._fetch_here(self._deal(epoch, order, [step], micro_batches, filler=True))

    def _fetch_by_workers(self, parts: Iterator[Part]) -> Iterator[tuple[Any, int]]:
        cut = self._cut
        workers = self._workers.take_idle()
        if workers is None:
            workers = in_workers(self._fetch, self._num_workers, cut.device, cut.worker_options, _Parts())
        # As arrays: a tensor sent to a worker takes a file descriptor, and hangs if there is none left
        as_arrays = (part._replace(indices=part.indices.numpy()) for part in parts)  # type: ignore[arg-type]
        workers.sampler.parts = as_arrays  # type: ignore[attr-defined]
        stay = cut.worker_options.get("persistent_workers") is not False
        for batch, counted in self._workers.items(workers, stay=stay):
            yield self._deliver(batch), counted


class _Parts:
    """A sampler that hands out the parts of the current pass."""

    parts: Iterator[Part] = iter(())

    def __iter__(self) -> Iterator[Part]:
        return self.parts
