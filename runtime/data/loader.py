"""Batches of data with an index: which samples make which step, and how they are fetched.

A step's samples are a slice of the epoch's order. The slice is dealt to all micro-batches of all processes, in parts
that differ by at most one sample, so neither the number of processes nor the accumulation changes what a step sees.
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sized
from multiprocessing.util import Finalize
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset, default_collate

from ..errors import ConfigError
from .fetch import Fetch, end_workers, gather_pinned, in_workers, to_device
from .order import INDEX_MASK, Cut, Part, Portion, share, with_counts
from .randomness import key, permutation

_CHUNK_BYTES = 1 << 19  # of tensors that are gathered at once: they stay in a core's cache until they are used


class Loader(ABC):
    """The batches of a dataset, cut the same way on any number of processes. Made by `Run.loader`.

    Attributes:
        batch_size: Samples per step over all processes and micro-batches.
        num_samples: Samples that an epoch covers, over all processes; a stream has no such attribute.
        batch_samples: Samples in the current batch of this process, in an evaluation; 0 in a filler.
        is_stream: Whether the data can only be read from its start.
        known_steps: As `steps_per_epoch`; None for a stream without a limit.
    """

    num_samples: int
    is_stream = False

    def __init__(self, dataset: Any, batch_size: int, known_steps: int | None) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.known_steps = known_steps
        self.batch_samples = 0

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

    def evaluate(self, filler: bool) -> Iterator[tuple[Any, int]]:
        """The `evaluation_batches`, with `batch_samples` set to those that count in each."""
        for batch, counted in self.evaluation_batches(filler):
            self.batch_samples = counted
            yield batch, counted

    def training_batches(self, epoch: int, first_step: int, micro_batches: int) -> Iterator[tuple[Any, int]]:
        """This process's micro-batches of an epoch from `first_step` on, and how many samples count in each."""
        for portion in self.portions(epoch, first_step, micro_batches):
            yield from itertools.islice(portion.micro_batches, micro_batches)

    def notice(self) -> str | None:
        """What is not exact, or takes long, when a run is resumed on this data; None where nothing is."""
        return None

    # What only data with an index has

    def samples_of_step(self, step: int) -> int:
        """Samples in a step of an epoch, counted from 0, over all processes."""
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

    @abstractmethod
    def indices_of_step(self, epoch: int, step: int) -> list[int]:
        """The samples of a step of an epoch, steps counted from 0, in the order in which they are dealt."""

    @abstractmethod
    def portions(self, epoch: int, first_step: int, micro_batches: int, state: Any = None) -> Generator[Portion]:
        """The steps of an epoch after its first `first_step`; `state` is that of the portion before, or None."""

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
        if cut.batch_size < 1:
            raise ConfigError(f"A batch size must be at least 1: {cut.batch_size}")
        self._cut = cut
        self._size = len(cut.shuffle(1)) if callable(cut.shuffle) else len(dataset)
        steps = self._size // cut.batch_size if cut.drop_last else -(-self._size // cut.batch_size)
        super().__init__(dataset, cut.batch_size, steps if cut.limit is None else min(steps, cut.limit))
        self.num_samples = min(self._size, self.steps_per_epoch * cut.batch_size)
        pins, repeats = cut.device.type == "cuda", callable(cut.shuffle)
        tensors = None if cut.collate_fn else _FetchTensors.of(dataset, pins=pins, repeats=repeats)
        self._fetch = tensors or Fetch(dataset, cut.collate_fn or default_collate, key(cut.seed, "sample"))
        self._sampler = _Parts()
        self._workers: DataLoader[Any] | None = None
        if cut.num_workers and tensors is None:
            self._workers = in_workers(self._fetch, cut.num_workers, cut.device, self._sampler)
            Finalize(self, end_workers, (self._workers,), exitpriority=100)  # before the queues are closed, at 10

    def total_steps(self, epochs: int | None, max_steps: int | None = None) -> int:
        if self.steps_per_epoch == 0:
            raise ConfigError(f"No step in an epoch: {self._size} samples, batch size {self.batch_size}")
        return super().total_steps(epochs, max_steps)

    def samples_of_step(self, step: int) -> int:
        return min(self.batch_size, self.num_samples - step * self.batch_size)

    def indices_of_step(self, epoch: int, step: int) -> list[int]:
        offset = step * self.batch_size
        dealt = self._order(epoch)[offset : offset + self.samples_of_step(step)]
        indices: list[int] = (dealt & INDEX_MASK).tolist()
        return indices

    def _order(self, epoch: int) -> torch.Tensor:
        if callable(self._cut.shuffle):
            return with_counts(self._cut.shuffle(epoch), epoch, self._size, len(self.dataset))
        return permutation(self._cut.seed, epoch, self._size) if self._cut.shuffle else torch.arange(self._size)

    def training_batches(self, epoch: int, first_step: int, micro_batches: int) -> Iterator[tuple[Any, int]]:
        is_whole = micro_batches * self._cut.num_processes == 1
        if is_whole and isinstance(self._fetch, _FetchTensors) and self._cut.device.type == "cpu":
            return self._fetch.whole_steps(self._order(epoch)[: self.num_samples], self.batch_size, first_step)
        return self.fetch(self.training_parts(epoch, first_step, micro_batches))

    def portions(self, epoch: int, first_step: int, micro_batches: int, state: Any = None) -> Generator[Portion]:
        batches = self.training_batches(epoch, first_step, micro_batches)
        for step in range(first_step, self.steps_per_epoch):
            yield Portion(self.samples_of_step(step), step + 1 == self.steps_per_epoch, batches)

    def training_parts(self, epoch: int, first_step: int, micro_batches: int) -> Iterator[Part]:
        starts = range(first_step * self.batch_size, self.num_samples, self.batch_size)
        return self._deal(epoch, self._order(epoch), [*starts, self.num_samples], micro_batches, filler=True)

    def evaluation_batches(self, filler: bool) -> Iterator[tuple[Any, int]]:
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
        starts = list(range(0, self.num_samples, self.batch_size))
        if len(starts) > 1 and self.num_samples - starts[-1] < self._cut.num_processes:
            starts.pop()
        return self._deal(0, torch.arange(self.num_samples), [*starts, self.num_samples], 1, filler)

    def _deal(
        self, epoch: int, order: torch.Tensor, bounds: list[int], micro_batches: int, filler: bool
    ) -> Iterator[Part]:
        """This process's parts of the steps between `bounds` in the order."""
        parts = micro_batches * self._cut.num_processes
        for start, stop in itertools.pairwise(bounds):
            for micro_batch in range(micro_batches):
                first, last = share(stop - start, parts, micro_batch * self._cut.num_processes + self._cut.rank)
                if first < last:
                    yield Part(epoch, order[start + first : start + last], last - first)
                elif filler:  # a real sample, so that every process runs the same number of forward passes
                    yield Part(epoch, order[start : start + 1], 0)

    def fetch(self, parts: Iterator[Part]) -> Iterator[tuple[Any, int]]:
        batches: Any = map(self._fetch.__getitem__, parts)
        if self._workers is not None:
            self._sampler.parts, batches = parts, self._workers
        return ((to_device(batch, self._cut.device), counted) for batch, counted in batches)


class _FetchTensors(Dataset[tuple[Any, int]]):
    """Like `Fetch`, for whole rows of tensors: no code of a user runs for each sample, so nothing has to be seeded."""

    def __init__(
        self, tensors: tuple[torch.Tensor, ...], subset: torch.Tensor | None, pins: bool, repeats: bool
    ) -> None:
        self.tensors, self.subset, self.pins, self.repeats = tensors, subset, pins, repeats

    @classmethod
    def of(cls, dataset: Dataset[Any], *, pins: bool, repeats: bool) -> "_FetchTensors | None":
        """For a `TensorDataset` or a `Subset` of one; None for other data."""
        within = dataset.dataset if type(dataset) is Subset else dataset
        if type(within) is not TensorDataset or any(tensor.layout != torch.strided for tensor in within.tensors):
            return None
        subset = torch.as_tensor(dataset.indices) if isinstance(dataset, Subset) else None
        return cls(within.tensors, subset, pins, repeats)

    def rows(self, indices: torch.Tensor) -> torch.Tensor:
        """Where the samples of these indices lie in the tensors."""
        indices = indices & INDEX_MASK if self.repeats else indices
        return indices if self.subset is None else self.subset[indices]

    def whole_steps(self, order: torch.Tensor, batch_size: int, first_step: int) -> Iterator[tuple[Any, int]]:
        """The steps of one process, on the host, several gathered at once: 40 µs less for each in a running loop."""
        order, steps = self.rows(order), -(-len(order) // batch_size)
        step_bytes = batch_size * sum(tensor[:1].nbytes for tensor in self.tensors)
        at_once = max(1, _CHUNK_BYTES // max(1, step_bytes))
        # Chunks begin at the same steps wherever the epoch is entered: where rows lie in memory may change a sum's bits
        entered = first_step % at_once
        for chunk in range(first_step - entered, steps, at_once):
            indices = order[chunk * batch_size : (chunk + at_once) * batch_size]
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
