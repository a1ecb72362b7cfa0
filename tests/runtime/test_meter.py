"""Reported numbers are true: sums over samples, divided once."""

import json
import os
import weakref
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from support.sampled import over_three_days
from support.together import free_ports, together
from torch import nn
from torch.utils.data import TensorDataset

from paccel.runtime import Meter, Run
from paccel.runtime.hardware.agreement import Agreement


@pytest.fixture(params=[True, False], ids=["reads", "waits"])
def run(request: pytest.FixtureRequest) -> SimpleNamespace:
    """What a meter needs of a run on one process, on a device where values are read immediately or later."""
    guard = SimpleNamespace(reads=request.param)
    return SimpleNamespace(micro_batch=SimpleNamespace(is_filler=False), agreement=Agreement(1, 0), guard=guard)


def test_the_mean_is_over_samples_and_not_over_batches(run) -> None:
    meter = Meter(run)
    meter.add(loss=torch.tensor(8.0), correct=torch.tensor(6), count=8)  # mean 1
    meter.add(loss=torch.tensor(10.0), correct=torch.tensor(1), count=1)  # mean 10
    assert meter.read() == {"loss": 2.0, "correct": 7 / 9}


def test_reading_resets_and_without_a_count_the_mean_is_nan(run) -> None:
    meter = Meter(run)
    meter.add(loss=1.0, count=1)
    meter.read()
    assert meter.read() == {}
    meter.add(loss=0.0, count=0)
    assert meter.read()["loss"] != meter.read().get("loss", 0)


def test_names_added_separately_are_divided_each_by_its_own_count(run) -> None:
    meter = Meter(run)
    meter.add(critic=6.0, count=3)
    meter.add(generator=6.0, count=2)
    meter.add(critic=4.0, generator=1.0, count=1)
    assert meter.read() == {"critic": 10 / 4, "generator": 7 / 3}


def test_a_filler_is_skipped(run) -> None:
    meter = Meter(run)
    meter.add(loss=3.0, count=1)
    run.micro_batch.is_filler = True
    meter.add(loss=float("nan"), count=1)
    run.micro_batch.is_filler = False
    assert meter.read() == {"loss": 3.0}


def test_values_are_copied_when_they_are_added(run) -> None:
    meter, buffer, count = Meter(run), torch.zeros(()), torch.zeros((), dtype=torch.int64)
    array = np.zeros(())
    for value in (1.0, 2.0, 3.0):
        loss = torch.tensor(value, requires_grad=True) * 1
        buffer.fill_(value)
        count.fill_(1)
        array[...] = value
        meter.add(loss=loss, buffer=buffer, array=array, count=count)
        loss /= 10  # scaled for the backward pass
        count.zero_()
    buffer.zero_()
    assert meter.read() == {"loss": 2.0, "buffer": 2.0, "array": 2.0}


def test_names_may_have_spaces_and_numbers_may_be_of_numpy(run) -> None:
    meter = Meter(run)
    meter.add(count=np.int64(4), **{"top 5": np.float32(3.0), "count top": 2, "top": torch.tensor([1.0])})
    assert meter.read() == {"top 5": 0.75, "count top": 0.5, "top": 0.25}


def test_a_value_that_is_no_single_number_is_named(run) -> None:
    with pytest.raises(ValueError, match=r"`loss` has the shape \(3,\)"):
        Meter(run).add(count=3, loss=torch.ones(3))
    with pytest.raises(ValueError, match="`loss` is not a number: 'low'"):
        Meter(run).add(count=3, loss="low")  # type: ignore[arg-type]


def test_the_count_may_be_a_tensor_and_graphs_are_not_kept(run) -> None:
    meter = Meter(run)
    loss = torch.ones((), requires_grad=True) * 6
    meter.add(loss=loss, count=torch.tensor(3))
    kept = weakref.ref(loss)
    del loss
    assert kept() is None
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


def test_the_sums_of_two_processes_are_restored_on_one(run) -> None:
    meter = Meter(run)
    meter.load_state_dict({"processes": [{"loss": 2.0, "count loss": 1.0}, {"loss": 4.0, "count loss": 2.0}]})
    assert meter.read() == {"loss": 2.0}


@dataclass
class Config:
    """What a run reads."""

    run_dir: Path


def report(accumulate: int) -> list[dict[str, float]]:
    """What is logged of a step of 5 samples with losses 1 to 5 and lengths 1, 2, 3, 4 and 6, and of a pass over them.

    The one weight is 1 and the step does not move it.
    """
    losses, lengths = torch.arange(1, 6, dtype=torch.float64), torch.tensor([1, 2, 3, 4, 6])
    with Run(Config(Path(f"run-{accumulate}"))) as run:
        loader = run.loader(TensorDataset(losses, lengths), 5)
        model = nn.Linear(1, 1, bias=False, dtype=torch.float64)
        nn.init.ones_(model.weight)
        model = run.prepare(model)
        by_sample, by_token, apart = Meter(run), Meter(run), Meter(run)
        for _ in run.epochs(1):
            for step in run.steps(loader, accumulate):
                tokens = step.total(lambda batch: batch[1].sum())
                assert tokens == 16
                for loss, length in step:
                    per_token = model(loss[:, None]).squeeze(-1)
                    by_sample.add(loss=per_token.sum(), count=len(loss))
                    by_token.add(loss=(per_token * length).sum(), count=length.sum())
                    apart.add(right=(loss > 2).sum(), count=len(loss))
                    apart.add(loss=(per_token * length).sum(), count=length.sum())
                    run.backward((per_token * length).sum() / tokens)
                norm = run.clip_grad_norm(model, None)
                run.log("train", by_sample.read(), grad_norm=norm)
                run.log("tokens", by_token.read(), apart.read())
        with run.evaluating(model) as inner:
            for loss, length in run.batches(loader):
                by_sample.add(loss=inner(loss[:, None]).sum(), length=length.sum(), count=len(loss))
        run.log("eval", by_sample.read())
    lines = [json.loads(line) for line in Path(f"run-{accumulate}", "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k.split("/")[0] in ("train", "tokens", "eval")} for line in lines]


def report_all(ports: list[int]) -> list[list[dict[str, float]]]:
    found = []
    for port, accumulate in zip(ports, (1, 2, 4), strict=True):
        os.environ["MASTER_PORT"] = str(port)
        found.append(report(accumulate))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("processes", over_three_days([1, 2], first=1))
def test_what_is_logged_is_what_a_hand_computes(tmp_path: Path, processes: int) -> None:
    # by samples (1 + 2 + 3 + 4 + 5) / 5; by tokens (1·1 + 2·2 + 3·3 + 4·4 + 5·6) / 16, which is the gradient too
    expected = [
        {"train/loss": 3.0, "train/grad_norm": 3.75},
        {"tokens/loss": 3.75, "tokens/right": 0.6},
        {"eval/loss": 3.0, "eval/length": 3.2},
    ]
    for result in together(report_all, tmp_path, free_ports(3), processes=processes):
        assert result == [expected] * 3


@pytest.mark.parametrize("value", [torch.tensor(1 + 2j), 1 + 2j, "3.5", b"3", None])
def test_a_value_that_is_no_real_number_is_named_when_it_is_added(value: Any, tmp_path: Path) -> None:
    with Run(Config(tmp_path), record=False) as run, pytest.raises(ValueError, match="`loss` "):
        Meter(run).add(loss=value, count=1)
