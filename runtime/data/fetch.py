"""Fetching samples: seeded and collated, the same in every process."""

import sys
from collections.abc import Callable
from typing import Any

from torch.utils.data import Dataset

from ..errors import DataError
from .fingerprint import inner_datasets
from .order import INDEX_MASK, Part
from .randomness import Canary, at, seed_host


class Fetch(Dataset[tuple[Any, int]]):
    """Maps a `Part` to its collated batch and the number of its samples that count.

    The first batch shows whether the data draws random numbers. If so, it is fetched again, and from then on the
    generators are seeded for each sample. If not, later batches are still checked, at the cost of one seeding each.
    """

    def __init__(self, dataset: Any, collate_fn: Callable[[list[Any]], Any], key: int) -> None:
        self.dataset, self.collate_fn, self.key = dataset, collate_fn, key
        self.canary: Canary | None = None
        self.hooks = seed_hooks(dataset)
        self.draws = bool(self.hooks)
        self.has_warned = False  # that some samples are None

    def __getitem__(self, part: Part) -> tuple[Any, int]:
        try:
            return self._fetched(part)
        except StopIteration as error:  # would silently end the pass
            raise DataError(
                f"`{type(self.dataset).__name__}` raised StopIteration for a sample: an iterator that it reads from is "
                "exhausted. Let it return the sample of its index"
            ) from error

    def _fetched(self, part: Part) -> tuple[Any, int]:
        places: list[int] = part.indices.tolist()  # a repeated index has another place each time, and so another seed
        indices = [place & INDEX_MASK for place in places]
        if not self.draws:
            self.canary = self.canary or Canary()
            self.canary.set()
            get_all = getattr(self.dataset, "__getitems__", None)
            samples = get_all(indices) if get_all else [self.dataset[index] for index in indices]
            batch = self.collate_fn(samples)
            if self.canary.is_untouched():
                return batch, part.counted and self._count(samples)
            self.draws = True
        epoch_key = at(self.key, part.epoch)
        samples = []
        for index, place in zip(indices, places, strict=True):
            seed_sample(at(epoch_key, place), self.hooks)
            samples.append(self.dataset[index])
        seed_host(at(~epoch_key, places[0]))  # for collation that draws
        return self.collate_fn(samples), part.counted and self._count(samples)

    def _count(self, samples: list[Any]) -> int:
        """The number of samples that are not None. Warns once that `step.num_samples` counts those too."""
        missing = sum(sample is None for sample in samples)
        if missing and not self.has_warned:
            self.has_warned = True
            sys.stderr.write(
                f"warning: `{type(self.dataset).__name__}` has samples that are None, and `step.num_samples` counts them: "
                "divide by the number of the others, `step.total(lambda batch: len(batch[0]), unit=None)`\n"
            )
        return len(samples) - missing


def seed_hooks(dataset: Any) -> list[Callable[[int], None]]:
    """The methods `set_sample_seed` of a dataset and of those it wraps, such as a `Subset`."""
    own = [dataset.set_sample_seed] if hasattr(dataset, "set_sample_seed") else []
    return [*own, *(hook for part in inner_datasets(dataset) for hook in seed_hooks(part))]


def seed_sample(seed: int, hooks: list[Callable[[int], None]]) -> None:
    """Seed all that a sample may draw from: the host's global generators and the dataset's own."""
    for seed_generator in (seed_host, *hooks):
        seed_generator(seed)
