"""Which samples make which step, on which process."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from ..errors import ConfigError
from ..settings.limits import beyond_limits
from .shuffle import newest_order

INDEX_MASK = (1 << 40) - 1  # in a custom order, the bits above it count earlier occurrences of the index


Order = Callable[[int], Sequence[int] | torch.Tensor]
"""From an epoch, counted from 1, to the indices of its samples, in order."""


@dataclass(frozen=True)
class Cut:
    """How a dataset is cut into batches, and which share this process gets; see `Run.loader`."""

    batch_size: int
    shuffle: bool | Order
    drop_last: bool
    num_workers: int
    collate_fn: Callable[[list[Any]], Any] | None
    limit: int | None  # batches per epoch
    seed: int
    rank: int
    num_processes: int
    device: torch.device
    worker_options: Mapping[str, Any] = field(default_factory=dict)  # of `DataLoader`; None is its default
    compare: "Compare | None" = None  # for streams, on several processes
    add_up: "AddUp | None" = None  # on several processes
    order_version: Callable[[], int] = newest_order  # called after the restore, when it is known

    def __post_init__(self) -> None:
        """Check the arguments.

        Raises:
            ConfigError: Lists all that are wrong.
        """
        problems = beyond_limits({"batch_size": self.batch_size}, are_arguments=True)
        if not isinstance(self.shuffle, bool) and not callable(self.shuffle):
            problems.append(
                "`shuffle` must be True, False, or a function from the epoch to the indices of its samples, not a "
                f"`{type(self.shuffle).__name__}`: instead of a sampler, pass `shuffle=lambda epoch: indices`"
            )
        if self.collate_fn is not None and not callable(self.collate_fn):
            problems.append(f"`collate_fn` must be a function, not {self.collate_fn!r}")
        if problems:
            raise ConfigError("\n".join(problems))


class Part(NamedTuple):
    """The samples of one micro-batch on one process.

    Attributes:
        epoch: Counted from 1; 0 in an evaluation.
        indices: Shape (samples,), int64; one sample in a filler. A custom order counts repetitions above `INDEX_MASK`.
        counted: Number of samples that count: 0 in a filler.
    """

    epoch: int
    indices: torch.Tensor
    counted: int


class Portion(NamedTuple):
    """One step of the training data on one process.

    Attributes:
        num_samples: Samples of the step, over all processes and micro-batches.
        is_last: Whether it is the last step of the epoch.
        micro_batches: This process's batches on its device, each with the number of samples that count. If this is an
            iterator, it may continue with those of the next step.
        again: Returns the same micro-batches once more, from the first one; every loader sets it.
        state: State of a stream after this step, if it has one.
        digest: Hash of the samples of the first step that is read from a stream; None in later steps.
    """

    num_samples: int
    is_last: bool
    micro_batches: Iterable[tuple[Any, int]]
    again: Callable[[], Iterable[tuple[Any, int]]] | None = None
    state: Any = None
    digest: str | None = None


Compare = Callable[[str, Iterator[Portion]], Generator[Portion]]
"""Yields the portions of a stream, given with its name, after comparing each on all processes."""

AddUp = Callable[[int], Callable[[], int]]
"""Starts a sum over all processes. Returns a function that waits for the result. Collective."""


def share(size: int, parts: int, part: int) -> tuple[int, int]:
    """Start and stop of slice number `part` if `size` samples are cut into `parts` slices that differ by at most one."""
    base, extra = divmod(size, parts)
    start = part * base + min(part, extra)
    return start, start + base + (part < extra)


def spans(start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
    """Start and stop of each span of `size` positions between `start` and `stop`; the last one may be shorter."""
    return ((first, min(first + size, stop)) for first in range(start, stop, size))


def with_counts(indices: Any, epoch: int, size: int, available: int) -> torch.Tensor:
    """A custom order with the repetitions of each index counted above `INDEX_MASK`, as they are augmented differently.

    Returns:
        Shape (size,), int64.

    Raises:
        ConfigError: It does not have `size` integers, as in epoch 1, or one of them is not in the dataset.
    """
    order = torch.as_tensor(indices)
    if order.shape != (size,) or order.dtype != torch.int64:
        raise ConfigError(
            f"The order of epoch {epoch} must be {size} whole numbers, as many as in epoch 1, not {order.dtype} of shape "
            f"{tuple(order.shape)}"
        )
    wrong = order[(order < 0) | (order >= available)]
    if len(wrong):
        raise ConfigError(
            f"The order of epoch {epoch} has the index {int(wrong[0])}, but there are {available} samples"
        )
    ascending, places = order.sort(stable=True)
    counts = torch.empty_like(order)
    counts[places] = torch.arange(size) - torch.searchsorted(ascending, ascending)
    return order + counts * (INDEX_MASK + 1)
