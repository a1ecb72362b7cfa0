"""Which samples make which step, on which process."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from ..errors import ConfigError

INDEX_MASK = (1 << 40) - 1  # of an order of one's own; the bits above it count how often the index has come before


Order = Callable[[int], Sequence[int] | torch.Tensor]
"""From an epoch, counted from 1, to the indices of its samples, in order."""


class Part(NamedTuple):
    """The samples of one micro-batch on one process."""

    epoch: int
    indices: (
        torch.Tensor
    )  # shape (samples,), int64; one sample in a filler; with repetitions counted above `INDEX_MASK`
    counted: int  # samples that count: 0 for a filler


def share(size: int, parts: int, part: int) -> tuple[int, int]:
    """Start and stop of one of `parts` slices of `size` samples; sizes differ by at most one."""
    base, extra = divmod(size, parts)
    start = part * base + min(part, extra)
    return start, start + base + (part < extra)


def with_counts(indices: Any, epoch: int, size: int, available: int) -> torch.Tensor:
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
    return order + counts * (INDEX_MASK + 1)
