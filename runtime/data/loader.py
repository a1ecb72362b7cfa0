"""Which samples make which step, and how they are fetched.

A step's samples are a slice of the epoch's order. The slice is dealt to all micro-batches of all processes, in parts
that differ by at most one sample, so neither the number of processes nor the accumulation changes what a step sees.
"""

import itertools
from collections.abc import Callable, Iterator, Sized
from multiprocessing.util import Finalize
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset, default_collate

from ..errors import ConfigError
from .fetch import Fetch, as_is, gather_pinned, ignore_signals, to_device
from .order import INDEX_MASK, Order, Part, share, with_counts
from .randomness import permutation, stream

_CHUNK = 256  # steps whose indices are cut at once
_CHUNK_BYTES = 1 << 19  # of tensors that are gathered at once: they stay in a core's cache until they are used


class Loader:
    """The batches of a dataset, cut the same way on any number of processes. Made by `Run.loader`.

    Attributes:
        batch_size: Samples per step over all processes and micro-batches.
        num_samples: Samples that an epoch covers, over all processes.
        steps_per_epoch: Optimizer updates in an epoch, or global batches in an evaluation.
        batch_samples: Samples in the current batch of this process, in an evaluation; 0 in a filler.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        batch_size: int,
        *,
        shuffle: bool | Order,
        drop_last: bool,
        num_workers: int,
        collate_fn: Callable[[list[Any]], Any] | None,
        limit: int | None,
        seed: int,
        rank: int,
        num_processes: int,
        device: torch.device,
    ) -> None:
        if not isinstance(dataset, Sized) or not hasattr(dataset, "__getitem__"):
            raise ConfigError(f"`{type(dataset).__name__}` has no length or no index, and cannot be iterated")
        if batch_size < 1:
            raise ConfigError(f"A batch size must be at least 1: {batch_size}")
        size = len(shuffle(1)) if callable(shuffle) else len(dataset)
        steps = size // batch_size if drop_last else -(-size // batch_size)
        if limit is not None:
            steps = min(steps, limit)
        self.dataset = dataset
        self.batch_size = batch_size
        self.steps_per_epoch = steps
        self.num_samples = min(size, steps * batch_size)
        self.batch_samples = 0
        self._size, self._shuffle, self._seed = size, shuffle, seed
        self._rank, self._num_processes, self._device = rank, num_processes, device
        self._tensors = _tensors_of(dataset) if collate_fn is None else None
        self._fetch = Fetch(dataset, collate_fn or default_collate, stream(seed, "sample"), repeats=callable(shuffle))
        self._sampler: _Parts | None = None
        self._workers: DataLoader[Any] | None = None
        if num_workers and self._tensors is None:
            self._sampler = _Parts()
            self._workers = DataLoader(
                self._fetch,
                batch_sampler=self._sampler,  # type: ignore[arg-type]  # a `Part` stands for its list of indices
                collate_fn=as_is,
                num_workers=num_workers,
                persistent_workers=True,
                pin_memory=device.type == "cuda",
                worker_init_fn=ignore_signals,
                generator=torch.Generator(),  # else every epoch would draw from the global one
            )
            Finalize(self, _end_workers, (self._workers,), exitpriority=100)  # before the queues are closed, at 10

    def __len__(self) -> int:
        return self.steps_per_epoch

    def total_steps(self, epochs: int | None, max_steps: int | None = None) -> int:
        """Optimizer updates in a whole run: `epochs` passes, cut at `max_steps`.

        Raises:
            ConfigError: Neither limit is given, or there is no full step in an epoch.
        """
        if self.steps_per_epoch == 0:
            raise ConfigError(f"No step in an epoch: {self._size} samples, batch size {self.batch_size}")
        limits = [n for n in (None if epochs is None else epochs * self.steps_per_epoch, max_steps) if n is not None]
        if not limits:
            raise ConfigError("`epochs` and `max_steps` are both off: the run would never end")
        return min(limits)

    def samples_of_step(self, step: int) -> int:
        """Samples in a step of an epoch, counted from 0, over all processes."""
        return min(self.batch_size, self.num_samples - step * self.batch_size)

    def indices_of_step(self, epoch: int, step: int) -> list[int]:
        """The samples of a step of an epoch, steps counted from 0, in the order in which they are dealt."""
        offset = step * self.batch_size
        dealt = self._order(epoch)[offset : offset + self.samples_of_step(step)]
        indices: list[int] = (dealt & INDEX_MASK).tolist()
        return indices

    def _order(self, epoch: int) -> torch.Tensor:
        if callable(self._shuffle):
            return with_counts(self._shuffle(epoch), epoch, self._size, len(self.dataset))
        return permutation(self._seed, epoch, self._size) if self._shuffle else torch.arange(self._size)

    def training_parts(self, epoch: int, first_step: int, micro_batches: int) -> Iterator[Part]:
        """This process's parts of an epoch from `first_step` on, `micro_batches` to a step, fillers included."""
        order = self._order(epoch)
        parts = micro_batches * self._num_processes
        if parts == 1:  # the steps as they are, some hundred cut at once: half the host time of one by one
            rest = order[first_step * self.batch_size : self.num_samples]
            for some in torch.split(rest, _CHUNK * self.batch_size):
                for indices in torch.split(some, self.batch_size):
                    yield Part(epoch, indices, len(indices))
            return
        for step in range(first_step, self.steps_per_epoch):
            offset, size = step * self.batch_size, self.samples_of_step(step)
            for micro_batch in range(micro_batches):
                start, stop = share(size, parts, micro_batch * self._num_processes + self._rank)
                if start < stop:
                    yield Part(epoch, order[offset + start : offset + stop], stop - start)
                else:  # a real sample, so that every process runs the same number of forward passes
                    yield Part(epoch, order[offset : offset + 1], 0)

    def training_batches(self, epoch: int, first_step: int, micro_batches: int) -> Iterator[tuple[Any, int]]:
        """This process's micro-batches of an epoch from `first_step` on, as `fetch` gives them."""
        if self._tensors is None or self._device.type != "cpu" or micro_batches * self._num_processes > 1:
            return self.fetch(self.training_parts(epoch, first_step, micro_batches))
        return self._whole_steps(epoch, first_step, *self._tensors)

    def _whole_steps(
        self, epoch: int, first_step: int, tensors: tuple[torch.Tensor, ...], subset: torch.Tensor | None
    ) -> Iterator[tuple[Any, int]]:
        """Steps of tensors on the host, several gathered at once, which takes less host time than one by one."""
        order = self._order(epoch)[: self.num_samples] & INDEX_MASK
        if subset is not None:
            order = subset[order]
        step_bytes = self.batch_size * sum(tensor[:1].nbytes for tensor in tensors)
        steps = max(1, _CHUNK_BYTES // max(1, step_bytes))
        # Chunks begin at the same steps wherever the epoch is entered: where rows lie in memory may change a sum's bits.
        begun = first_step % steps
        for chunk in range(first_step - begun, self.steps_per_epoch, steps):
            indices = order[chunk * self.batch_size : (chunk + steps) * self.batch_size]
            # Not `split`, whose parts share a version: writing into one would spoil the graphs of the others.
            parts = [tensor.index_select(0, indices).unsafe_split(self.batch_size) for tensor in tensors]
            for batch in itertools.islice(zip(*parts, strict=True), begun, None):
                yield list(batch), len(batch[0])
            begun = 0

    def evaluation_parts(self, filler: bool) -> Iterator[Part]:
        """This process's parts of one pass in order, each sample once over all processes.

        A tail smaller than the number of processes is joined to the batch before it, so that parts are empty only
        where the whole dataset is smaller than that. An empty part is left out, or made a filler.

        Raises:
            ConfigError: The loader has an order of its own, in which samples may be missing or come twice.
        """
        if callable(self._shuffle):
            raise ConfigError("An order of one's own is for training: evaluate with a loader without it")
        order = torch.arange(self.num_samples)
        starts = list(range(0, self.num_samples, self.batch_size))
        if len(starts) > 1 and self.num_samples - starts[-1] < self._num_processes:
            starts.pop()
        for start, stop in itertools.pairwise([*starts, self.num_samples]):
            first, last = share(stop - start, self._num_processes, self._rank)
            if first < last:
                yield Part(0, order[start + first : start + last], last - first)
            elif filler:
                yield Part(0, order[:1], 0)

    def evaluation_batches(self, filler: bool) -> Iterator[tuple[Any, int]]:
        """This process's batches of one pass, with the number of their samples that count: 0 in a filler."""
        return self.fetch(self.evaluation_parts(filler))

    def fetch(self, parts: Iterator[Part]) -> Iterator[tuple[Any, int]]:
        """The batch of each part, on the device, with the number of its samples that count."""
        if self._tensors is not None:
            return self._fetch_tensors(parts, *self._tensors)
        if self._workers is not None and self._sampler is not None:
            self._sampler.parts = parts
            return ((to_device(batch, self._device), count) for batch, count in self._workers)
        return ((to_device(batch, self._device), count) for batch, count in map(self._fetch.__getitems__, parts))

    def _fetch_tensors(
        self, parts: Iterator[Part], tensors: tuple[torch.Tensor, ...], subset: torch.Tensor | None
    ) -> Iterator[tuple[Any, int]]:
        """Gather whole micro-batches: no user code runs per sample, so nothing is seeded and nothing collated."""
        on_host, pins = self._device.type == "cpu", self._device.type == "cuda"
        for _, indices, counted in parts:
            if callable(self._shuffle):
                indices = indices & INDEX_MASK
            if subset is not None:
                indices = subset[indices]
            batch = [gather_pinned(t, indices) if pins else t.index_select(0, indices) for t in tensors]
            yield batch if on_host else to_device(batch, self._device), counted


def _tensors_of(dataset: Dataset[Any]) -> tuple[tuple[torch.Tensor, ...], torch.Tensor | None] | None:
    """The tensors behind a `TensorDataset` or a `Subset` of one, with the subset's indices; None for other data."""
    within = dataset.dataset if type(dataset) is Subset else dataset
    if type(within) is not TensorDataset or any(tensor.layout != torch.strided for tensor in within.tensors):
        return None
    return within.tensors, torch.as_tensor(dataset.indices) if isinstance(dataset, Subset) else None


class _Parts:
    """The batch sampler that hands this epoch's parts to the worker processes."""

    parts: Iterator[Part] = iter(())

    def __iter__(self) -> Iterator[Part]:
        return self.parts


def _end_workers(workers: DataLoader[Any]) -> None:
    """End the workers by word: when a process exits, Python sends a signal, which they ignore, and waits for them."""
    if workers._iterator is not None:
        workers._iterator._shutdown_workers()  # type: ignore[attr-defined]
