"""Which samples make which step, on which process."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from ..errors import ConfigError
from ..limits import beyond_limits
from .shuffle import newest_order

INDEX_MASK = (1 << 40) - 1  # of a custom order; the bits above it count how often the index has come before


Order = Callable[[int], Sequence[int] | torch.Tensor]
"""From an epoch, counted from 1, to the indices of its samples, in order."""


@dataclass(frozen=True)
class Cut:
    """How a dataset is cut into batches, and whose share this process has; see `Run.loader`."""

    batch_size: int
    shuffle: bool | Order
    drop_last: bool
    num_workers: int
    collate_fn: Callable[[list[Any]], Any] | None
    limit: int | None  # batches of an epoch
    seed: int
    rank: int
    num_processes: int
    device: torch.device
    worker_options: Mapping[str, Any] = field(default_factory=dict)  # for `DataLoader`; None is its default
    compare: "Compare | None" = None  # of a stream, on several processes
    add_up: "AddUp | None" = None  # on several processes
    order_version: Callable[[], int] = newest_order  # known when the run is restored

    def __post_init__(self) -> None:
        """Refuse what would be taken for something else.

        Raises:
            ConfigError: Lists all of it.
        """
        problems = beyond_limits({"batch_size": self.batch_size}, are_arguments=True)
        if not isinstance(self.shuffle, bool) and not callable(self.shuffle):
            problems.append(
                "`shuffle` is True, False, or a function from the epoch to the indices of its samples, not a "
                f"`{type(self.shuffle).__name__}`: instead of a sampler, `shuffle=lambda epoch: indices`"
            )
        if self.collate_fn is not None and not callable(self.collate_fn):
            problems.append(f"`collate_fn` must be a function, not {self.collate_fn!r}")
        if problems:
            raise ConfigError("\n".join(problems))


class Part(NamedTuple):
    """The samples of one micro-batch on one process.

    Attributes:
        epoch: Counted from 1; 0 in an evaluation.
        indices: Shape (samples,), int64; one sample in a filler. In a custom order, repetitions are counted above
            `INDEX_MASK`.
        counted: Samples that count: 0 for a filler.
    """

    epoch: int
    indices: torch.Tensor
    counted: int


class Portion(NamedTuple):
    """One step of the training data, as one process has it.

    Attributes:
        num_samples: Over all processes and micro-batches.
        is_last: No step follows in this epoch.
        micro_batches: This process's batches on its device, each with the number of its samples that count. An
            iterator may go on with those of the next step.
        again: Returns the same micro-batches once more, from the first one on; every loader sets it.
        state: Of a stream after this step, where it has one.
        digest: Of the samples that a stream begins with here, over all processes; None in later steps.
    """

    num_samples: int
    is_last: bool
    micro_batches: Iterable[tuple[Any, int]]
    again: Callable[[], Iterable[tuple[Any, int]]] | None = None
    state: Any = None
    digest: str | None = None


Compare = Callable[[str, Iterator[Portion]], Generator[Portion]]
"""Passes on the portions of a stream, given by name, that it has compared with those of all processes."""

AddUp = Callable[[int], Callable[[], int]]
"""Starts a sum over all processes, and returns what waits for it. Collective."""


def share(size: int, parts: int, part: int) -> tuple[int, int]:
    """Start and stop of one of `parts` slices of `size` samples; sizes differ by at most one."""
    base, extra = divmod(size, parts)
    start = part * base + min(part, extra)
    return start, start + base + (part < extra)


def spans(start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
    """First and last place of each `size` places from `start` on; the last ones may be fewer."""
    return ((first, min(first + size, stop)) for first in range(start, stop, size))


def with_counts(indices: Any, epoch: int, size: int, available: int) -> torch.Tensor:
    """A custom order in which each repetition of an index differs from the ones before it. Shape (size,), int64.

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
    return order + counts * (INDEX_MASK + 1)
