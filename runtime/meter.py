"""Means over samples, kept on the device until somebody reads them."""

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
        self._folded: dict[str, float] = {}  # sums by name, and counts by the names that they belong to
        self._pending: dict[str, list[Any]] = {}

    def add(self, *, count: int | torch.Tensor, **sums: torch.Tensor | float) -> None:
        """Add sums over `count` samples (or tokens) of one micro-batch of this process.

        Args:
            count: Number of samples, or of whatever the sums run over; a tensor stays on its device.
            sums: For each name a sum over the samples, not a mean. Shape () or a number.
        """
        if self._micro_batch.is_filler:
            return
        pending = self._pending
        for name, value in ((" ".join(("count", *sums)), count), *sums.items()):
            values = pending.get(name)
            if values is None:
                values = pending[name] = []
            values.append(value.detach() if isinstance(value, torch.Tensor) else value)
            if len(values) == _CHUNK:
                self._fold(name)

    def _fold(self, name: str) -> None:
        total = self._folded.get(name, 0.0)
        for value in _to_floats(self._pending[name]):
            total += value
        self._folded[name] = total
        self._pending[name] = []

    def read(self) -> dict[str, float]:
        """The mean of each name over all processes, and a fresh start. NaN where nothing was counted.

        Collective. Waits for the device once.
        """
        totals: dict[str, float] = {}
        for process in self.state_dict()["processes"]:
            for name, value in process.items():
                totals[name] = totals.get(name, 0.0) + value
        self._folded, self._pending = {}, {}
        counts: dict[str, float] = {}
        for names in [name for name in totals if name.startswith("count ")]:
            total = totals.pop(names)
            for name in names.split(" ")[1:]:
                counts[name] = counts.get(name, 0.0) + total
        return {name: total / counts[name] if counts[name] else float("nan") for name, total in totals.items()}

    def state_dict(self) -> dict[str, Any]:
        """The sums since the last read, exactly, for each process in rank order. Collective."""
        for name in self._pending:
            self._fold(name)
        return {"processes": self._agreement.gather(self._folded)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what this process had added; on another number of processes, the main one takes up everything."""
        processes, agreement = state["processes"], self._agreement
        self._folded, self._pending = {}, {}
        if len(processes) == agreement.num_processes:
            self._folded = dict(processes[agreement.rank])
        elif agreement.rank == 0:
            for process in processes:
                for name, value in process.items():
                    self._folded[name] = self._folded.get(name, 0.0) + value


def _to_floats(values: list[Any]) -> list[float]:
    """Numbers and 0-dimensional tensors as floats; the tensors of one device and dtype cross over in one copy."""
    groups: dict[tuple[torch.device, torch.dtype], list[int]] = {}
    floats = [0.0] * len(values)
    for position, value in enumerate(values):
        if isinstance(value, torch.Tensor):
            groups.setdefault((value.device, value.dtype), []).append(position)
        else:
            floats[position] = float(value)
    for positions in groups.values():
        stacked = torch.stack([values[position].reshape(()) for position in positions]).tolist()
        for position, number in zip(positions, stacked, strict=True):
            floats[position] = float(number)
    return floats
