"""How samples are fetched: seeded, collated, moved to the device."""

import signal
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from .order import INDEX_MASK, Part
from .randomness import Canary, at, seed_host


def gather_pinned(tensor: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """Rows of a tensor in page-locked memory, from which the copy to the GPU does not block the host."""
    rows = torch.empty((len(indices), *tensor.shape[1:]), dtype=tensor.dtype, pin_memory=True)
    return torch.index_select(tensor, 0, indices, out=rows)


def to_device(batch: Any, device: torch.device) -> Any:
    """Move every tensor in nested lists, tuples and dicts; other objects with `.to`, like tokenizer output, as well.

    accelerate's `send_to_device` fails for a `defaultdict`, which is what PyTorch collates samples of this type to.
    """
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

    def __getitem__(self, part: Part) -> tuple[Any, int]:
        places: list[int] = part.indices.tolist()  # each has a seed of its own
        indices = [place & INDEX_MASK for place in places]
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
            seed_sample(at(epoch_key, place), self.hooks)
            samples.append(self.dataset[index])
        seed_host(at(~epoch_key, places[0]))  # for what draws at random while it collates
        return self.collate_fn(samples), part.counted


def seed_hooks(dataset: Any) -> list[Callable[[int], None]]:
    """The `set_sample_seed` of a dataset and of those within it, as in a `Subset`, for generators of its own."""
    inner = [*getattr(dataset, "datasets", ()), *([dataset.dataset] if hasattr(dataset, "dataset") else ())]
    own = [dataset.set_sample_seed] if hasattr(dataset, "set_sample_seed") else []
    return [*own, *(hook for part in inner for hook in seed_hooks(part))]


def seed_sample(seed: int, hooks: list[Callable[[int], None]]) -> None:
    """Seed what a sample may draw from: the host's global generators, and those of the dataset."""
    for seed_generator in (seed_host, *hooks):
        seed_generator(seed)


def in_workers(dataset: Dataset[Any], num_workers: int, device: torch.device, sampler: Any = None) -> DataLoader[Any]:
    """The items of a dataset, fetched by worker processes that stay until `end_workers`."""
    return DataLoader(
        dataset,
        sampler=sampler,
        batch_size=None,  # an item is a batch already
        collate_fn=_as_is,
        num_workers=num_workers,
        persistent_workers=True,
        pin_memory=device.type == "cuda",
        worker_init_fn=_ignore_signals,
        generator=torch.Generator(),  # else every epoch would draw from the global one
    )


def _as_is(batch: Any) -> Any:
    return batch


def _ignore_signals(_worker: int) -> None:
    """Leave stopping to the training process: a signal to the process group must not take its workers away."""
    for number in (signal.SIGTERM, signal.SIGINT, getattr(signal, "SIGUSR1", signal.SIGINT)):
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)


def end_workers(workers: DataLoader[Any]) -> None:
    """End worker processes by word: Python ends them by a signal, which they ignore, and waits for them."""
    iterator: Any = workers._iterator
    if iterator is not None:
        iterator._shutdown_workers()
