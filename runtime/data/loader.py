"""Batches of data with an index: which samples make which step, and how they are fetched.

A step's samples are a slice of the epoch's order. The slice is dealt to all micro-batches of all processes, in parts
that differ by at most one sample, so neither the number of processes nor the accumulation changes what a step sees.
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator, Sized
from contextlib import closing
from functools import partial
from multiprocessing.util import Finalize
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset, default_collate

from ..errors import ConfigError
from .delivery import Delivery
from .fetch import Fetch, begin_workers, end_workers, gather_pinned, in_workers, naming_the_limit
from .fingerprint import fingerprint
from .order import INDEX_MASK, Cut, Part, Portion, share, spans, with_counts
from .randomness import at, key, seeder
from .shuffle import Ascending, EpochOrder, shuffled

_END = object()
_CHUNK_BYTES = 1 << 19  # of tensors that are gathered at once: they stay in a core's cache until they are used


class Loader(ABC):
    """The batches of a dataset, cut the same way on any number of processes. Made by `Run.loader`.

    Attributes:
        batch_size: Samples per step over all processes and micro-batches.
        num_samples: Samples that an epoch covers, over all processes; a stream has no such attribute.
        batch_samples: Samples in the current batch of this process, in an evaluation; 0 in a filler.
        is_stream: Whether the data can only be read from its start.
        known_steps: As `steps_per_epoch`; None for a stream without a limit.
        name: Of its place in a checkpoint; None where the loop has made it.
    """

    num_samples: int
    is_stream = False
    name: str | None = None

    def __init__(self, dataset: Any, cut: Cut, known_steps: int | None) -> None:
        self.dataset = dataset
        self.batch_size = cut.batch_size
        self.known_steps = known_steps
        self.batch_samples = 0
        self._cut = cut
        self._description = fingerprint(dataset)  # before anything is cached in it
        self._deliver = Delivery(cut.device)
        self._idle: list[DataLoader[Any]] = []  # workers that wait for the next pass
        self._working: list[Any] = []  # iterators whose workers may still be there
        Finalize(self, end_workers, (self._working,), exitpriority=100)  # before the queues are closed, at 10

    def close(self) -> None:
        """End its workers, if it has some; a pass after that starts new ones. Called at the end of the run."""
        self._idle.clear()
        end_workers(self._working)

    def _items(self, workers: DataLoader[Any], *, stay: bool) -> Generator[Any]:
        """What workers fetch in one pass. Where they stay, they wait for the next one, unless they have failed."""
        with naming_the_limit(workers.num_workers):
            iterator = begin_workers(workers)  # the same one each time, if they stay
        if iterator not in self._working:
            self._working.append(iterator)
        is_whole = False
        try:
            while True:
                with naming_the_limit(workers.num_workers):
                    item = next(iterator, _END)
                if item is _END:
                    break
                yield item
            is_whole = True
        except GeneratorExit:  # the loop has left the pass, which is no failure
            is_whole = True
            raise
        finally:
            if iterator in self._working:  # else closed in the meantime
                if stay and is_whole:
                    self._idle.append(workers)
                else:
                    self._working.remove(iterator)
                    end_workers([iterator])

    def describe(self) -> dict[str, Any]:
        """What a place in this data is a place of: saved in checkpoints, and compared when a run is resumed."""
        return {"batch_size": self.batch_size, **self._description}

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer updates in an epoch, or global batches in an evaluation; of a stream its limit, at most.

        Raises:
            ConfigError: A stream without a limit does not tell its length.
        """
        if self.known_steps is None:
            raise ConfigError(
                f"`{type(self.dataset).__name__}` does not tell its length: give `max_steps`, or `limit_batches`"
            )
        return self.known_steps

    def __len__(self) -> int:
        return self.steps_per_epoch

    def __iter__(self) -> Iterator[Any]:
        """Not how it is read: what a batch counts depends on what it is for.

        Raises:
            ConfigError: Always; names the ways.
        """
        raise ConfigError(
            "A loader is not iterated itself: take `for step in run.steps(loader)` and `for batch in step` to train, and "
            "`for batch in run.batches(loader)` for one pass over it, as in an evaluation"
        )

    def total_steps(self, epochs: int | None, max_steps: int | None = None) -> int:
        """Optimizer updates in a whole run: `epochs` passes, cut at `max_steps`.

        Raises:
            ConfigError: Neither limit is given, or there is no step in an epoch, or a stream does not tell its length.
        """
        limits = [] if max_steps is None else [max_steps]
        if epochs is not None and (self.known_steps is not None or not limits):
            limits.append(epochs * self.steps_per_epoch)
        if not limits:
            raise ConfigError("`epochs` and `max_steps` are both off: the run would never end")
        return min(limits)

    def evaluate(self, filler: bool) -> Generator[tuple[Any, int]]:
        """The `evaluation_batches`, with `batch_samples` set to those that count in each."""
        for batch, counted in self.evaluation_batches(filler):
            self.batch_samples = counted
            yield batch, counted

    def training_batches(self, epoch: int, first_step: int, micro_batches: int) -> Iterator[tuple[Any, int]]:
        """This process's micro-batches of an epoch from `first_step` on, and how many samples count in each.

        For loops of your own: what they draw at random in each micro-batch is a function of (seed, epoch, micro-batch,
        process). `Run.steps` and `Step.beside` do more.
        """
        seed, place = seeder(self._cut.device), first_step * micro_batches
        for portion in self.portions(epoch, first_step, micro_batches):
            for batch, counted in itertools.islice(portion.micro_batches, micro_batches):
                seed(at(key(self._cut.seed, "batches", epoch, self._cut.rank), place))
                place += 1
                yield batch, counted

    def notice(self) -> str | None:
        """What is not exact, or takes long, when a run is resumed on this data; None where nothing is."""
        return None

    def notice_of_resume(self, state: Any) -> str | None:
        """What is not exact now that a run is resumed from this state of a stream; None where all is."""
        return None

    @property
    def smallest_step(self) -> int:
        """Samples that every step has at least."""
        return self.batch_size if self._cut.drop_last else 1

    # What only data with an index has

    def samples_of_step(self, step: int) -> int:
        """Samples in a step of an epoch, counted from 0, over all processes."""
        raise self._has_no_index()

    def steps_after(self, start: int) -> int:
        """Steps of an epoch that are left after `start` samples."""
        raise self._has_no_index()

    def training_parts(self, epoch: int, first_step: int, micro_batches: int) -> Iterator[Part]:
        """This process's parts of an epoch from `first_step` on, `micro_batches` to a step, fillers included."""
        raise self._has_no_index()

    def evaluation_parts(self, filler: bool) -> Iterator[Part]:
        """This process's parts of one pass in order, each sample once over all processes."""
        raise self._has_no_index()

    def fetch(self, parts: Iterator[Part]) -> Iterator[tuple[Any, int]]:
        """The batch of each part, on the device, with the number of its samples that count."""
        raise self._has_no_index()

    def _has_no_index(self) -> ConfigError:
        return ConfigError(f"`{type(self.dataset).__name__}` is a stream: it has no index to choose samples by")

    # What each kind of data has in its own way

    def indices_of_step(self, epoch: int, step: int) -> list[int]:
        """The samples of a step of an epoch, steps counted from 0, in the order in which they are dealt."""
        return self.indices_between(epoch, step * self.batch_size, (step + 1) * self.batch_size)

    @abstractmethod
    def indices_between(self, epoch: int, start: int, stop: int) -> list[int]:
        """The samples at places `start` to `stop` of an epoch's order; of a stream, their places themselves."""

    @abstractmethod
    def portions(
        self, epoch: int, first_step: int, micro_batches: int, state: Any = None, *, start: int | None = None
    ) -> Generator[Portion]:
        """The steps of an epoch after its first `first_step`.

        Args:
            epoch: Counted from 1.
            first_step: Steps that are done.
            micro_batches: For each step on this process.
            state: That of the portion before, or None.
            start: Samples that are done, where they are not `first_step` times the batch size.
        """

    def divided_portions(
        self, epoch: int, first_step: int, micro_batches: int, state: Any, start: int
    ) -> Generator[Portion]:
        """The same for a loop that keeps the state: of a stream of shards, each process may read only its own."""
        return self.portions(epoch, first_step, micro_batches, state, start=start)

    @abstractmethod
    def evaluation_batches(self, filler: bool) -> Iterator[tuple[Any, int]]:
        """This process's batches of one pass, each sample once over all processes, and how many samples count in each.

        Args:
            filler: Whether this process gets a filler, with 0 samples that count, where it has no part of a batch.
        """


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
        tensors = None if cut.collate_fn else _FetchTensors.of(dataset, pins=pins, repeats=repeats)
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

    def _order(self, epoch: int) -> EpochOrder:
        if callable(self._cut.shuffle):
            return with_counts(self._cut.shuffle(epoch), epoch, self._size, len(self.dataset))
        if self._cut.shuffle:
            return shuffled(self._cut.seed, epoch, self._size, self._cut.order_version())
        return Ascending()

    def _begin_pass(self) -> None:
        """Look at the dataset again, which may have changed since the last pass.

        Raises:
            ConfigError: It has grown or shrunk: its order was made for the size that it had.
        """
        if isinstance(self._fetch, _FetchTensors):
            self._fetch.look()
        size = len(self.dataset)
        if size != self._size and not callable(self._cut.shuffle):
            raise ConfigError(
                f"`{type(self.dataset).__name__}` has {size} samples, and had {self._size} when its loader was made: "
                "make a new loader with `run.loader` for data that changes"
            )

    def portions(
        self, epoch: int, first_step: int, micro_batches: int, state: Any = None, *, start: int | None = None
    ) -> Generator[Portion]:
        self._begin_pass()
        order = self._order(epoch)
        start = first_step * self.batch_size if start is None else start
        stop = self._stop(start)
        with closing(self._batches(epoch, order, start, stop, micro_batches)) as batches:
            for first, last in spans(start, stop, self.batch_size):
                again = partial(self._again, epoch, order, (first, last), micro_batches)
                yield Portion(last - first, last == stop, batches, again)

    def _stop(self, start: int) -> int:
        """Where an epoch ends that is entered after `start` samples."""
        stop = self.num_samples
        return stop - (stop - start) % self.batch_size if self._cut.drop_last else stop

    def _batches(
        self, epoch: int, order: EpochOrder, start: int, stop: int, micro_batches: int
    ) -> Generator[tuple[Any, int]]:
        is_whole = micro_batches * self._cut.num_processes == 1
        if is_whole and isinstance(self._fetch, _FetchTensors) and self._cut.device.type == "cpu":
            yield from self._fetch.whole_steps(order, start, stop, self.batch_size)
        else:
            steps = spans(start, stop, self.batch_size)
            yield from self.fetch(self._deal(epoch, order, steps, micro_batches, filler=True))

    def _again(
        self, epoch: int, order: EpochOrder, step: tuple[int, int], micro_batches: int
    ) -> Iterator[tuple[Any, int]]:
        """The micro-batches of one step, fetched in this process."""
        return self._here(self._deal(epoch, order, [step], micro_batches, filler=True))

    def training_parts(self, epoch: int, first_step: int, micro_batches: int) -> Iterator[Part]:
        start = first_step * self.batch_size
        steps = spans(start, self._stop(start), self.batch_size)
        return self._deal(epoch, self._order(epoch), steps, micro_batches, filler=True)

    def evaluation_batches(self, filler: bool) -> Iterator[tuple[Any, int]]:
        self._begin_pass()
        return self.fetch(self.evaluation_parts(filler))

    def evaluation_parts(self, filler: bool) -> Iterator[Part]:
        """This process's parts of one pass in order, each sample once over all processes.

        A tail smaller than the number of processes is joined to the batch before it, so that parts are empty only
        where the whole dataset is smaller than that. An empty part is left out, or made a filler.

        Raises:
            ConfigError: The loader has a custom order, in which samples may be missing or come twice.
        """
        if callable(self._cut.shuffle):
            raise ConfigError("Custom orders are for training only: evaluate with a loader without one")
        steps = spans(0, self.num_samples, self.batch_size)
        last = self.num_samples % self.batch_size or self.batch_size
        joined = self.num_samples - last - self.batch_size
        if last < self._cut.num_processes and joined >= 0:
            steps = itertools.chain(spans(0, joined, self.batch_size), [(joined, self.num_samples)])
        return self._deal(0, Ascending(), steps, 1, filler)

    def _deal(
        self, epoch: int, order: EpochOrder, steps: Iterable[tuple[int, int]], micro_batches: int, filler: bool
    ) -> Iterator[Part]:
        """This process's parts of steps, each from its first place in the order to that after its last."""
        parts = micro_batches * self._cut.num_processes
        for start, stop in steps:
            for micro_batch in range(micro_batches):
                first, last = share(stop - start, parts, micro_batch * self._cut.num_processes + self._cut.rank)
                if first < last:
                    yield Part(epoch, order[start + first : start + last], last - first)
                elif filler:  # a real sample, so that every process runs the same number of forward passes
                    yield Part(epoch, order[start : start + 1], 0)

    def fetch(self, parts: Iterator[Part]) -> Iterator[tuple[Any, int]]:
        return self._by_workers(parts) if self._num_workers else self._here(parts)

    def _here(self, parts: Iterator[Part]) -> Iterator[tuple[Any, int]]:
        return ((self._deliver(batch), counted) for batch, counted in map(self._fetch.__getitem__, parts))

    def _by_workers(self, parts: Iterator[Part]) -> Iterator[tuple[Any, int]]:
        """The batches of a pass. One that overlaps another has workers of its own."""
        own = self._idle.pop() if self._idle else self._new_workers()
        # As arrays: a tensor on its way to a worker takes a file descriptor, and one that cannot be had is waited for
        as_arrays = (part._replace(indices=part.indices.numpy()) for part in parts)  # type: ignore[arg-type]
        own.sampler.parts = as_arrays  # type: ignore[attr-defined]
        stay = self._cut.worker_options.get("persistent_workers") is not False
        for batch, counted in self._items(own, stay=stay):
            yield self._deliver(batch), counted

    def _new_workers(self) -> DataLoader[Any]:
        return in_workers(self._fetch, self._num_workers, self._cut.device, self._cut.worker_options, _Parts())


class _FetchTensors(Dataset[tuple[Any, int]]):
    """Like `Fetch`, for whole rows of tensors: no code of a user runs for each sample, so nothing has to be seeded."""

    def __init__(self, dataset: Any, pins: bool, repeats: bool) -> None:
        self.dataset, self.pins, self.repeats = dataset, pins, repeats
        self.look()

    @classmethod
    def of(cls, dataset: Dataset[Any], *, pins: bool, repeats: bool) -> "_FetchTensors | None":
        """For a `TensorDataset` or a `Subset` of one; None for other data."""
        within = dataset.dataset if type(dataset) is Subset else dataset
        if type(within) is not TensorDataset or any(tensor.layout != torch.strided for tensor in within.tensors):
            return None
        return cls(dataset, pins, repeats)

    def look(self) -> None:
        """Take the tensors and indices that the dataset has now: it may be given others between two passes."""
        is_subset = isinstance(self.dataset, Subset)
        self.tensors: tuple[torch.Tensor, ...] = (self.dataset.dataset if is_subset else self.dataset).tensors
        self.subset = torch.as_tensor(self.dataset.indices) if is_subset else None

    def rows(self, indices: torch.Tensor) -> torch.Tensor:
        """Where the samples of these indices lie in the tensors."""
        indices = indices & INDEX_MASK if self.repeats else indices
        return indices if self.subset is None else self.subset[indices]

    def whole_steps(self, order: EpochOrder, start: int, stop: int, batch_size: int) -> Iterator[tuple[Any, int]]:
        """The steps of one process, on the host, several gathered at once: 40 µs less for each in a running loop."""
        step_bytes = batch_size * sum(tensor[:1].nbytes for tensor in self.tensors)
        at_once = max(1, _CHUNK_BYTES // max(1, step_bytes))
        # Chunks begin at the same steps wherever the epoch is entered: where rows lie in memory may change a sum's bits
        done, skipped = divmod(start, batch_size)
        entered = done % at_once
        for first, last in spans(skipped + (done - entered) * batch_size, stop, at_once * batch_size):
            indices = self.rows(order[first:last])
            # Not `split`, whose parts share a version: writing into one would spoil the graphs of the others
            parts = [tensor.index_select(0, indices).unsafe_split(batch_size) for tensor in self.tensors]
            for batch in itertools.islice(zip(*parts, strict=True), entered, None):
                yield list(batch), len(batch[0])
            entered = 0

    def __getitem__(self, part: Part) -> tuple[Any, int]:
        indices = self.rows(part.indices)
        rows = [gather_pinned(t, indices) if self.pins else t.index_select(0, indices) for t in self.tensors]
        return rows, part.counted


class _Parts:
    """Hands this epoch's parts to the worker processes."""

    parts: Iterator[Part] = iter(())

    def __iter__(self) -> Iterator[Part]:
        return self.parts
