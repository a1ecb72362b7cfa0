"""Metrics of torchmetrics in a checkpoint, because their own `state_dict` leaves out the values so far."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from .agreement import Agreement


class MetricState:
    """The state of a metric, or a collection of metrics, on each process since its last `reset`.

    Args:
        metric: A metric or collection of torchmetrics.
        agreement: The processes.
    """

    def __init__(self, metric: Any, agreement: Agreement) -> None:
        self._metric, self._agreement = metric, agreement

    def state_dict(self) -> dict[str, Any]:
        """The values of each process, in rank order. Collective."""
        own: dict[str, Any] = {
            name: {"updates": metric.update_count, "values": _on_device(metric.metric_state, torch.device("cpu"))}
            for name, metric in _metrics(self._metric)
        }
        return {"processes": self._agreement.gather(own)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the values of this process; on fewer processes than before, the main one adds those of the others."""
        self._metric.reset()
        rank, processes = self._agreement.rank, state["processes"]
        surplus = processes[self._agreement.num_processes :] if rank == 0 else []
        for name, metric in _metrics(self._metric):
            if rank < len(processes):
                _load(metric, processes[rank][name])
            for saved in (other[name] for other in surplus):
                if saved["updates"]:
                    metric._reduce_states(_on_device(saved["values"], metric.device))


def is_metric(thing: Any) -> bool:
    """Whether it is a metric of torchmetrics, or a collection of them."""
    return hasattr(type(thing), "metric_state") and isinstance(thing, nn.Module)


def _metrics(metric: Any) -> Iterator[tuple[str, Any]]:
    """Yield the path and each metric that has a state."""
    _ = metric.metric_state  # makes a collection copy states that its metrics share
    for name, module in metric.named_modules():
        if is_metric(module) and hasattr(module, "update_count"):
            yield name, module


def _load(metric: Any, saved: dict[str, Any]) -> None:
    for name, value in saved["values"].items():
        setattr(metric, name, _on_device(value, metric.device))
    metric._update_count, metric._computed = saved["updates"], None


def _on_device(value: Any, device: torch.device) -> Any:
    """Copy values, because a metric changes its own in place."""
    if isinstance(value, Tensor):
        return value.detach().to(device, copy=True)
    if isinstance(value, dict):
        return {key: _on_device(inner, device) for key, inner in value.items()}
    return [_on_device(inner, device) for inner in value] if isinstance(value, list | tuple) else value
