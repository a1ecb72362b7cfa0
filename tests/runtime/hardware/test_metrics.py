"""The values of torchmetrics in a checkpoint, on any number of processes."""

from functools import partial
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from paccel.runtime.hardware.metrics import MetricState, is_metric

pytestmark = pytest.mark.slow  # importing torchmetrics takes seconds

# Imported in the tests that use it, because each worker collects each file
torchmetrics = partial(import_module, "torchmetrics")


def on(rank: int, num_processes: int, everyone: list[Any] | None = None) -> Any:
    """An agreement that has the values of all processes."""
    return SimpleNamespace(rank=rank, num_processes=num_processes, gather=lambda own: everyone or [own])


def of_processes(metrics: list[Any]) -> dict[str, Any]:
    """The state that this many processes save."""
    own = [MetricState(metric, on(0, 1)).state_dict()["processes"][0] for metric in metrics]
    return MetricState(metrics[0], on(0, len(metrics), own)).state_dict()


def errors(*values: float) -> Any:
    metric = torchmetrics().MeanSquaredError()
    for value in values:
        metric.update(torch.tensor([value]), torch.zeros(1))
    return metric


def test_each_process_takes_up_what_it_had() -> None:
    state = of_processes([errors(1.0, 3.0), errors(5.0)])
    for rank, mean in enumerate((5.0, 25.0)):
        metric = errors(100.0)  # reset when the state is loaded
        MetricState(metric, on(rank, 2)).load_state_dict(state)
        assert metric.compute().item() == mean
        metric.update(torch.tensor([0.0]), torch.zeros(1))  # a later update does not change the saved state
    assert state["processes"][1][""]["values"]["total"].item() == 1


def test_on_fewer_processes_the_main_one_takes_up_the_rest_and_on_more_the_others_begin_at_nothing() -> None:
    state = of_processes([errors(1.0, 3.0), errors(5.0), torchmetrics().MeanSquaredError()])
    alone = torchmetrics().MeanSquaredError()
    MetricState(alone, on(0, 1)).load_state_dict(state)
    assert alone.compute().item() == pytest.approx(35 / 3)
    fourth = errors(100.0)
    MetricState(fourth, on(3, 4)).load_state_dict(state)
    assert fourth.update_count == 0
    assert fourth.total.item() == 0


@pytest.mark.parametrize("compute_groups", [False, True])
def test_a_collection_and_its_shared_states_come_back(compute_groups: bool) -> None:
    def make() -> Any:
        names = {
            "squared": torchmetrics().MeanSquaredError(),
            "again": torchmetrics().MeanSquaredError(),
            "absolute": torchmetrics().MeanAbsoluteError(),
        }
        return torchmetrics().MetricCollection(names, compute_groups=compute_groups)

    metrics, restored, straight = make(), make(), make()
    for value in (1.0, 3.0):
        metrics.update(torch.tensor([value]), torch.zeros(1))
    MetricState(restored, on(0, 1)).load_state_dict(of_processes([metrics]))
    restored.update(torch.tensor([5.0]), torch.zeros(1))
    for value in (1.0, 3.0, 5.0):
        straight.update(torch.tensor([value]), torch.zeros(1))
    assert restored.compute() == straight.compute()
    assert restored.compute()["squared"].item() == pytest.approx(35 / 3)


@pytest.mark.parametrize(("kind", "values", "result"), [("CatMetric", (1.0, 2.0), 3.0), ("MaxMetric", (4.0, 3.0), 4.0)])
def test_lists_and_extremes_are_merged_as_they_are_reduced(kind: str, values: tuple[float], result: float) -> None:
    make = getattr(torchmetrics(), kind)
    metrics = [make(), make()]
    for metric, value in zip(metrics, values, strict=True):
        metric.update(value)
    alone = make()
    MetricState(alone, on(0, 1)).load_state_dict(of_processes(metrics))
    assert alone.compute().sum().item() == result  # a list may be in any order


def test_what_is_a_metric() -> None:
    assert is_metric(torchmetrics().MeanSquaredError())
    assert is_metric(torchmetrics().MetricCollection([torchmetrics().MeanSquaredError()]))
    assert not is_metric(torch.nn.Linear(1, 1))
