"""Means over samples, kept on the device until they are read."""

from collections import defaultdict
from itertools import groupby
from typing import Any

import torch

from .record.numbers import NOTHING
from .run import Run

_CHUNK = 256  # values kept before they are added up

Totals = dict[str, list[float]]
"""By name, the sum and the count to divide it by."""


class Meter:
    """Sample-weighted means over all processes since the last `read`.

    `add` copies its values, so their tensors may be changed or reused afterwards; on a device the copy is asynchronous.
    Values are summed in float64 on the host, in the order in which they were added. Filler micro-batches are skipped.
    Names may be added in separate calls: each is divided by its own count.
    """

    def __init__(self, run: Run) -> None:
        self._micro_batch, self._agreement, self._guard = run.micro_batch, run.agreement, run.guard
        self._reset()

    def _reset(self) -> None:
        self._totals: Totals = defaultdict(lambda: [0.0, 0.0])
        self._pending: dict[str, list[tuple[Any, Any]]] = defaultdict(list)

    def add(self, *, count: int | torch.Tensor, **sums: torch.Tensor | float) -> None:
        """Add sums over `count` samples (or tokens) of one micro-batch of this process.

        Args:
            count: Number of samples, or of tokens if the sums are over tokens; a tensor stays on its device.
            sums: For each name a sum over the samples, not a mean: a number or a tensor of shape ().

        Raises:
            ValueError: A value is not a single number; names it.
        """
        if self._micro_batch.is_filler:
            return
        reads = self._guard.reads
        number = _snapshot("count", count, reads)
        for name, value in sums.items():
            pending = self._pending[name]
            pending.append((_snapshot(name, value, reads), number))
            if len(pending) == _CHUNK:
                self._add_up(name)

    def _add_up(self, name: str) -> None:
        total, pending = self._totals[name], self._pending[name]
        for place, values in enumerate(zip(*pending, strict=True)):
            for value in _to_floats(values):
                total[place] += value
        pending.clear()

    def read(self) -> dict[str, float]:
        """Return the mean of each name over all processes, and reset. NaN if nothing was counted.

        Collective. Synchronises the device once.
        """
        totals = _sum_of(self.state_dict()["processes"])
        self._reset()
        return {name: total / count if count else NOTHING for name, (total, count) in totals.items()}

    def state_dict(self) -> dict[str, Any]:
        """The exact sums since the last `read`, for each process in rank order. Collective."""
        for name in self._pending:
            self._add_up(name)
        return {"processes": self._agreement.gather(dict(self._totals))}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the sums of this process; on another number of processes, the main process takes the sums of all."""
        processes, agreement = [_totals(process) for process in state["processes"]], self._agreement
        self._reset()
        if len(processes) == agreement.num_processes:
            self._totals.update(processes[agreement.rank])
        elif agreement.rank == 0:
            self._totals.update(_sum_of(processes))


def _snapshot(name: str, value: Any, reads: bool) -> Any:
    """A copy of a number: a float, or a tensor if reading it would wait for a device."""
    if isinstance(value, torch.Tensor):
        if value.numel() != 1 or value.is_complex():
            kind = f"{'complex, of ' if value.is_complex() else ''}the shape {tuple(value.shape)}"
            raise ValueError(f"`{name}` has {kind}: add one real number, the sum over the samples")
        if not (reads and value.is_cpu):
            return value.detach().clone()
        value = value.item()
    try:
        if isinstance(value, str | bytes):
            raise TypeError("text may look like a number")
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"`{name}` is not a number: {value!r}") from None


def _totals(saved: dict[str, Any]) -> Totals:
    """The totals of one process. paccel 0.1 saved sums by name, and counts as `count NAME NAME`."""
    totals = {name: list(value) for name, value in saved.items() if isinstance(value, list)}
    for names, count in saved.items():
        for name in names.split(" ")[1:] if names not in totals else ():
            totals.setdefault(name, [saved[name], 0.0])[1] += count
    return totals


def _sum_of(processes: list[Totals]) -> Totals:
    totals: Totals = defaultdict(lambda: [0.0, 0.0])
    for process in processes:
        for name, (total, count) in process.items():
            totals[name][0] += total
            totals[name][1] += count
    return totals


def _to_floats(values: tuple[Any, ...]) -> list[float]:
    """Convert floats and tensors to floats; neighbours of the same device and dtype are copied to the host together."""
    floats: list[float] = []
    for kind, neighbours in groupby(values, _kind):
        if kind is None:
            floats += neighbours
        else:
            floats += map(float, torch.stack([value.reshape(()) for value in neighbours]).tolist())
    return floats


def _kind(value: Any) -> Any:
    return (value.device, value.dtype) if isinstance(value, torch.Tensor) else None
