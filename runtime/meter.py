"""Means over samples, kept on the device until somebody reads them."""

from collections import defaultdict
from itertools import groupby
from typing import Any

import torch

from .run import Run

_CHUNK = 256  # values kept before they are folded into one


class Meter:
    """Sample-weighted means over all processes since the last `read`.

    `add` keeps references and computes nothing, so it neither waits for the device nor costs a kernel. Sums are
    formed in float64 on the host, in the order of the additions. Fillers are left out. Names may be added apart from
    each other: each is divided by its own count.
    """

    def __init__(self, run: Run) -> None:
        self._micro_batch, self._agreement = run.micro_batch, run.agreement
        self._start_afresh()

    def _start_afresh(self) -> None:
        self._folded: dict[str, float] = defaultdict(float)  # sums by name, and counts by the names they belong to
        self._pending: dict[str, list[Any]] = defaultdict(list)

    def add(self, *, count: int | torch.Tensor, **sums: torch.Tensor | float) -> None:
        """Add sums over `count` samples (or tokens) of one micro-batch of this process.

        Args:
            count: Number of samples, or of whatever the sums run over; a tensor stays on its device.
            sums: For each name a sum over the samples, not a mean. Shape () or a number.
        """
        if self._micro_batch.is_filler:
            return
        for name, value in ((" ".join(("count", *sums)), count), *sums.items()):
            values = self._pending[name]
            values.append(value.detach() if isinstance(value, torch.Tensor) else value)
            if len(values) == _CHUNK:
                self._fold(name)

    def _fold(self, name: str) -> None:
        for value in _to_floats(self._pending[name]):
            self._folded[name] += value
        self._pending[name].clear()

    def read(self) -> dict[str, float]:
        """The mean of each name over all processes, and a fresh start. NaN where nothing was counted.

        Collective. Waits for the device once.
        """
        totals = _added(self.state_dict()["processes"])
        self._start_afresh()
        counts: dict[str, float] = defaultdict(float)
        for names in [name for name in totals if name.startswith("count ")]:
            total = totals.pop(names)
            for name in names.split(" ")[1:]:
                counts[name] += total
        return {name: total / counts[name] if counts[name] else float("nan") for name, total in totals.items()}

    def state_dict(self) -> dict[str, Any]:
        """The sums since the last read, exactly, for each process in rank order. Collective."""
        for name in self._pending:
            self._fold(name)
        return {"processes": self._agreement.gather(dict(self._folded))}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what this process had added; on another number of processes, the main one takes up everything."""
        processes, agreement = state["processes"], self._agreement
        self._start_afresh()
        if len(processes) == agreement.num_processes:
            self._folded.update(processes[agreement.rank])
        elif agreement.rank == 0:
            self._folded.update(_added(processes))


def _added(processes: list[dict[str, float]]) -> dict[str, float]:
    totals: dict[str, float] = defaultdict(float)
    for process in processes:
        for name, value in process.items():
            totals[name] += value
    return totals


def _to_floats(values: list[Any]) -> list[float]:
    """Numbers and 0-dimensional tensors as floats; neighbours of one device and dtype cross over in one copy."""
    floats: list[float] = []
    for kind, neighbours in groupby(values, _kind):
        if kind is None:
            floats += map(float, neighbours)
        else:
            floats += map(float, torch.stack([value.reshape(()) for value in neighbours]).tolist())
    return floats


def _kind(value: Any) -> Any:
    return (value.device, value.dtype) if isinstance(value, torch.Tensor) else None
