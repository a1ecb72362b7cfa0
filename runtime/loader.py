"""Which samples make which step, and how they are fetched.

A step's samples are a slice of the epoch's order. The slice is dealt to all micro-batches of all processes, in parts
that differ by at most one sample, so neither the number of processes nor the accumulation changes what a step sees.
"""

import itertools
import signal
from collections.abc import Callable, Iterator, Sequence, Sized
from multiprocessing.util import Finalize
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset, default_collate

from .errors import ConfigError
from .randomness import Canary, at, permutation, seed_host, stream

_CHUNK = 256  # steps whose indices are cut at once
_INDEX = (1 << 40) - 1  # of an order of one's own; the bits above it count how often the index has come before
_CHUNK_BYTES = 1 << 19  # of tensors that are gathered at once: they stay in a core's cache until they are used


Order = Callable[[int], Sequence[int] | torch.Tensor]
"""From an epoch, counted from 1, to the indices of its samples, in order."""


class Part(NamedTuple):
    """The samples of one micro-batch on one process."""

    epoch: int
    indices: torch.Tensor  # shape (samples,), int64; one sample in a filler; with repetitions counted above `_INDEX`
    counted: int  # samples that count: 0 for a filler


def share(size: int, parts: int, part: int) -> tuple[int, int]:
    """Start and stop of one of `parts` slices of `size` samples; sizes differ by at most one."""
    base, extra = divmod(size, parts)
    start = part * base + min(part, extra)
    return start, start + base + (part < extra)


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
        self._fetch = _Fetch(dataset, collate_fn or default_collate, stream(seed, "sample"), repeats=callable(shuffle))
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
        indices: list[int] = (dealt & _INDEX).tolist()
        return indices

    def _order(self, epoch: int) -> torch.Tensor:
        if callable(self._shuffle):
            return _with_counts(self._shuffle(epoch), epoch, self._size, len(self.dataset))
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
        order = self._order(epoch)[: self.num_samples] & _INDEX
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
                indices = indices & _INDEX
            if subset is not None:
                indices = subset[indices]
            batch = [_gather_pinned(t, indices) if pins else t.index_select(0, indices) for t in tensors]
            yield batch if on_host else to_device(batch, self._device), counted


def _with_counts(indices: Any, epoch: int, size: int, available: int) -> torch.Tensor:
    """An order of one's own, each repetition of an index told from the ones before it. Shape (size,), int64.

    Raises:
        ConfigError: It is not a row of as many indices as in epoch 1, or one of them is not in the dataset.
    """
    order = torch.as_tensor(indices)
    if order.shape != (size,) or order.dtype != torch.int64:
        found = f"{order.dtype}, shape {tuple(order.shape)}"
        raise ConfigError(f"The order of epoch {epoch} must be {size} whole numbers, as many as in epoch 1: {found}")
    wrong = order[(order < 0) | (order >= available)]
    if len(wrong):
        raise ConfigError(
            f"The order of epoch {epoch} has the index {int(wrong[0])}, and there are {available} samples"
        )
    ascending, places = order.sort(stable=True)
    counts = torch.empty_like(order)
    counts[places] = torch.arange(size) - torch.searchsorted(ascending, ascending)
    return order + counts * (_INDEX + 1)


def _gather_pinned(tensor: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """Rows of a tensor in page-locked memory, from which the copy to the GPU is not waited for."""
    rows = torch.empty((len(indices), *tensor.shape[1:]), dtype=tensor.dtype, pin_memory=True)
    return torch.index_select(tensor, 0, indices, out=rows)


def to_device(batch: Any, device: torch.device) -> Any:
    """Move every tensor in nested lists, tuples and dicts; other objects with `.to`, like tokenizer output, as well."""
    if device.type == "cpu":
        return batch
    if isinstance(batch, torch.Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(to_device(value, device) for value in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(to_device(value, device) for value in batch)
    if isinstance(batch, dict):
        return {key: to_device(value, device) for key, value in batch.items()}
    return batch.to(device) if hasattr(batch, "to") else batch


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


class _Fetch(Dataset[Any]):
    """Fetches and collates one part, with the same randomness in whichever process it runs.

    The first batch tells whether the data draws at random. If it does, it is fetched again, now and from then on with
    the generators seeded for each sample; if not, later batches are watched still, and pay for one check each.
    """

    def __init__(self, dataset: Any, collate_fn: Callable[[list[Any]], Any], key: int, *, repeats: bool) -> None:
        self.dataset, self.collate_fn, self.key, self.repeats = dataset, collate_fn, key, repeats
        self.canary: Canary | None = None
        self.hooks = seed_hooks(dataset)
        self.draws = bool(self.hooks)

    def __getitems__(self, part: Part) -> tuple[Any, int]:
        places: list[int] = part.indices.tolist()  # in the stream of the epoch's seeds
        indices = [place & _INDEX for place in places] if self.repeats else places
        if not self.draws:
            self.canary = self.canary or Canary()
            self.canary.set()
            whole = getattr(self.dataset, "__getitems__", None)
            samples = whole(indices) if whole else [self.dataset[index] for index in indices]
            batch = self.collate_fn(samples)
            if self.canary.is_untouched():
                return batch, part.counted
            self.draws = True
        epoch_key = at(self.key, part.epoch)
        samples = []
        for index, place in zip(indices, places, strict=True):
            seed = at(epoch_key, place)
            seed_host(seed)
            for hook in self.hooks:
                hook(seed)
            samples.append(self.dataset[index])
        seed_host(at(~epoch_key, places[0]))  # collation may draw as well; its stream is another one
        return self.collate_fn(samples), part.counted


def seed_hooks(dataset: Any) -> list[Callable[[int], None]]:
    """The `set_sample_seed` of a dataset and of those within it, as in a `Subset`, for generators of its own."""
    inner = [*getattr(dataset, "datasets", ()), *([dataset.dataset] if hasattr(dataset, "dataset") else ())]
    own = [dataset.set_sample_seed] if hasattr(dataset, "set_sample_seed") else []
    return [*own, *(hook for part in inner for hook in seed_hooks(part))]


def as_is(batch: Any) -> Any:
    return batch


def _end_workers(workers: DataLoader[Any]) -> None:
    """End the workers by word: when a process exits, Python sends a signal, which they ignore, and waits for them."""
    if workers._iterator is not None:
        workers._iterator._shutdown_workers()  # type: ignore[attr-defined]


def ignore_signals(_worker: int) -> None:
    """Leave stopping to the training process: a signal to the process group must not take its workers away."""
    for number in (signal.SIGTERM, signal.SIGINT, getattr(signal, "SIGUSR1", signal.SIGINT)):
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
