"""Reported numbers are true: sums over samples, divided once."""

from types import SimpleNamespace

import pytest
import torch

from paccel.runtime import Meter
from paccel.runtime.agreement import Agreement


@pytest.fixture
def run() -> SimpleNamespace:
    """What a meter needs of a run, on one process."""
    return SimpleNamespace(_in_filler=False, _agreement=Agreement(1, 0))


def test_the_mean_is_over_samples_and_not_over_batches(run) -> None:
    meter = Meter(run)
    meter.add(loss=torch.tensor(8.0), correct=torch.tensor(6), count=8)  # mean 1
    meter.add(loss=torch.tensor(10.0), correct=torch.tensor(1), count=1)  # mean 10
    assert meter.read() == {"loss": 2.0, "correct": 7 / 9}


def test_reading_starts_afresh_and_nothing_counted_is_nan(run) -> None:
    meter = Meter(run)
    meter.add(loss=1.0, count=1)
    meter.read()
    assert meter.read() == {}
    meter.add(loss=0.0, count=0)
    assert meter.read()["loss"] != meter.read().get("loss", 0)


def test_names_that_are_added_apart_are_divided_each_by_its_own_count(run) -> None:
    meter = Meter(run)
    meter.add(critic=6.0, count=3)
    meter.add(generator=6.0, count=2)
    meter.add(critic=4.0, generator=1.0, count=1)
    assert meter.read() == {"critic": 10 / 4, "generator": 7 / 3}


def test_a_filler_is_left_out(run) -> None:
    meter = Meter(run)
    meter.add(loss=3.0, count=1)
    run._in_filler = True
    meter.add(loss=float("nan"), count=1)
    run._in_filler = False
    assert meter.read() == {"loss": 3.0}


def test_a_tensor_may_count_and_gradients_are_not_kept(run) -> None:
    meter = Meter(run)
    weight = torch.ones((), requires_grad=True)
    meter.add(loss=weight * 6, count=torch.tensor(3))
    assert not meter._pending["loss"][0].requires_grad
    assert meter.read() == {"loss": 2.0}


@pytest.mark.parametrize("cut", [0, 1, 255, 256, 257, 700])
def test_saved_and_restored_in_the_middle_it_reads_the_same_bits(run, cut: int) -> None:
    values = torch.randn(700, generator=torch.Generator().manual_seed(0))
    straight, first, second = Meter(run), Meter(run), Meter(run)
    for value in values:
        straight.add(loss=value, count=1)
    for value in values[:cut]:
        first.add(loss=value, count=1)
    second.load_state_dict(first.state_dict())
    for value in values[cut:]:
        second.add(loss=value, count=1)
    assert second.read() == straight.read()


def test_what_two_processes_had_added_is_taken_up_by_one(run) -> None:
    meter = Meter(run)
    meter.load_state_dict({"processes": [{"loss": 2.0, "count loss": 1.0}, {"loss": 4.0, "count loss": 2.0}]})
    assert meter.read() == {"loss": 2.0}
