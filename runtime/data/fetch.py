"""How samples are fetched: seeded and collated, in this process or by workers."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import queues
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import torch
from torch.multiprocessing.reductions import reduce_tensor
from torch.utils.data import DataLoader, Dataset

from ..errors import ConfigError, DataError
from .order import INDEX_MASK, Part
from .randomness import Canary, at, seed_host

_INLINE = 1 << 18  # bytes of a tensor up to which a copy through a pipe costs less than memory that is shared

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]


def gather_pinned(tensor: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """Rows of a tensor in page-locked memory, from which the copy to the GPU does not block the host."""
    rows = torch.empty((len(indices), *tensor.shape[1:]), dtype=tensor.dtype, pin_memory=True)
    return torch.index_select(tensor, 0, indices, out=rows)


class Fetch(Dataset[tuple[Any, int]]):
    """From a `Part` to its collated batch and the number of samples that count, the same in whichever process it runs.

    The first batch tells whether the data draws at random. If it does, it is fetched again, now and from then on with
    the generators seeded for each sample; if not, later batches are still checked, at the cost of one seeding each.
    """

    def __init__(self, dataset: Any, collate_fn: Callable[[list[Any]], Any], key: int) -> None:
        self.dataset, self.collate_fn, self.key = dataset, collate_fn, key
        self.canary: Canary | None = None
        self.hooks = seed_hooks(dataset)
        self.draws = bool(self.hooks)
        self.has_warned = False  # of samples that are None

    def __getitem__(self, part: Part) -> tuple[Any, int]:
        try:
            return self._fetched(part)
        except StopIteration as error:  # would end the pass, as if no data followed
            raise DataError(
                f"`{type(self.dataset).__name__}` raised StopIteration for a sample: an iterator that it reads from has ended. "
                "Have it return the sample of its index"
            ) from error

    def _fetched(self, part: Part) -> tuple[Any, int]:
        places: list[int] = part.indices.tolist()  # each has a seed of its own
        indices = [place & INDEX_MASK for place in places]
        if not self.draws:
            self.canary = self.canary or Canary()
            self.canary.set()
            whole = getattr(self.dataset, "__getitems__", None)
            samples = whole(indices) if whole else [self.dataset[index] for index in indices]
            batch = self.collate_fn(samples)
            if self.canary.is_untouched():
                return batch, part.counted and self._count(samples)
            self.draws = True
        epoch_key = at(self.key, part.epoch)
        samples = []
        for index, place in zip(indices, places, strict=True):
            seed_sample(at(epoch_key, place), self.hooks)
            samples.append(self.dataset[index])
        seed_host(at(~epoch_key, places[0]))  # for what draws at random while it collates
        return self.collate_fn(samples), part.counted and self._count(samples)

    def _count(self, samples: list[Any]) -> int:
        """How many samples there are: None is one that collation leaves out. Says once that a step counts it all the same."""
        missing = sum(sample is None for sample in samples)
        if missing and not self.has_warned:
            self.has_warned = True
            sys.stderr.write(
                f"warning: `{type(self.dataset).__name__}` has samples that are None, and `step.num_samples` counts them: "
                "divide by those that are there, `step.total(lambda batch: len(batch[0]), unit=None)`\n"
            )
        return len(samples) - missing


def seed_hooks(dataset: Any) -> list[Callable[[int], None]]:
    """The `set_sample_seed` of a dataset and of those within it, as in a `Subset`, for generators of its own."""
    inner = [*getattr(dataset, "datasets", ()), *([dataset.dataset] if hasattr(dataset, "dataset") else ())]
    own = [dataset.set_sample_seed] if hasattr(dataset, "set_sample_seed") else []
    return [*own, *(hook for part in inner for hook in seed_hooks(part))]


def seed_sample(seed: int, hooks: list[Callable[[int], None]]) -> None:
    """Seed what a sample may draw from: the host's global generators, and those of the dataset."""
    for seed_generator in (seed_host, *hooks):
        seed_generator(seed)


def in_workers(
    dataset: Dataset[Any], num_workers: int, device: torch.device, options: Mapping[str, Any], sampler: Any = None
) -> DataLoader[Any]:
    """The items of a dataset, fetched by worker processes that stay until `end_workers`.

    Args:
        dataset: Its items are batches.
        num_workers: How many processes.
        device: Where the batches go.
        options: Of `DataLoader`, those that change no order; None is PyTorch's default.
        sampler: What yields the indices.
    """
    given = {name: value for name, value in options.items() if value is not None}
    defaults = {"persistent_workers": True, "pin_memory": device.type == "cuda"}
    return DataLoader(
        dataset,
        sampler=sampler,
        batch_size=None,  # an item is a batch already
        collate_fn=_as_is,
        num_workers=num_workers,
        generator=torch.Generator(),  # else every epoch would draw from the global one
        **defaults | given | {"worker_init_fn": _Begin(given.get("worker_init_fn"))},
    )


def _as_is(batch: Any) -> Any:
    return batch


class _Begin:
    """What a worker does first; a class, since it has to be pickled where workers are spawned."""

    def __init__(self, init: Callable[[int], None] | None) -> None:
        self.init = init

    def __call__(self, worker: int) -> None:
        # Leave stopping to the training process: a signal to the process group must not take its workers away
        for number in (signal.SIGTERM, signal.SIGINT, getattr(signal, "SIGUSR1", signal.SIGINT)):
            signal.signal(number, signal.SIG_IGN)
        torch.set_num_threads(1)
        ForkingPickler.register(torch.Tensor, _sent)
        # Else Python prints the error and goes on, and the training process waits for this batch for ever
        queues.Queue._on_queue_feeder_error = staticmethod(_fail_to_send)  # type: ignore[attr-defined]
        if self.init is not None:
            self.init(worker)


def _sent(tensor: torch.Tensor) -> tuple[Any, ...]:
    """How a worker sends a tensor: a small one as its bytes, at a third of the CPU time of memory that is shared."""
    tensor = tensor.resolve_conj().resolve_neg()  # PyTorch forgets these two on the way
    is_plain = tensor.layout is torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    if not is_plain or not tensor.is_contiguous() or tensor.requires_grad or tensor.nbytes > _INLINE:
        shared: tuple[Any, ...] = reduce_tensor(tensor)  # type: ignore[no-untyped-call]
        return shared
    return _received, (tensor.dtype, tensor.shape, tensor.reshape(-1).view(torch.uint8).numpy().tobytes())


def _received(dtype: torch.dtype, shape: torch.Size, data: bytes) -> torch.Tensor:
    """In memory of PyTorch, which is aligned: where rows lie may change a sum's bits."""
    tensor = torch.empty(shape, dtype=dtype)
    tensor.view(-1).view(torch.uint8).numpy()[:] = np.frombuffer(data, np.uint8)
    return tensor


def _fail_to_send(error: Exception, _batch: Any) -> None:
    """What a worker does that cannot send its batch: end, which the training process notices."""
    sys.stderr.write(f"error: a data worker cannot send its batch: {type(error).__name__}: {error}\n")
    os._exit(1)


def begin_workers(workers: DataLoader[Any]) -> Any:
    """`iter(workers)`. Where not all of them can be started, none is left."""
    before = multiprocessing.active_children()
    try:
        return iter(workers)
    except Exception:
        for process in multiprocessing.active_children():
            if process not in before:
                process.kill()  # they ignore the signal by which Python would end them, and then wait for them
                process.join()
        raise


@contextmanager
def naming_the_limit(num_workers: int) -> Iterator[None]:
    """Say that there are too few file descriptors, where that is what is wrong: each tensor on its way takes one.

    Raises:
        ConfigError: In place of errors of several types.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        if not any(sign in str(error) for sign in ("Too many open files", "ancdata")):
            raise
        limit = (
            "" if resource is None else f", and this process may open {resource.getrlimit(resource.RLIMIT_NOFILE)[0]}"
        )
        raise ConfigError(
            f"Too many open files: `num_workers={num_workers}` takes some for every worker and every tensor on its way"
            f"{limit}. Raise the limit (`ulimit -n`), or lower `num_workers` or `prefetch_factor`"
        ) from error


def end_workers(working: list[Any]) -> None:
    """End worker processes by word: Python ends them by a signal, which they ignore, and waits for them.

    Args:
        working: What `iter` of a `DataLoader` returned, emptied.
    """
    while working:
        iterator = working.pop()
        iterator._shutdown_workers()
