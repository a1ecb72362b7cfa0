"""Two runs of the same code, settings, data and seed with different losses: the second one says so."""

import itertools
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from paccel.runtime import Run

_calls = itertools.count(1)


@dataclass
class Config:
    run_dir: Path
    seed: int = 0


def train(folder: Path, data: float = 1.0, seed: int = 0, *, draws_outside: bool = False) -> None:
    with Run(Config(folder, seed)) as run:
        loader = run.loader(TensorDataset(torch.full((4, 2), data)), 2, shuffle=True)
        model = run.prepare(nn.Linear(2, 1))
        for _ in run.epochs(1):
            for step in run.steps(loader):
                for (batch,) in step:
                    loss = model(batch).sum() + (next(_calls) if draws_outside else 0)
                    run.backward(loss, count=step.num_samples)
                run.log("train", loss=loss)


def test_a_twin_with_other_losses_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train(tmp_path / "a", draws_outside=True)
    train(tmp_path / "b", draws_outside=True)
    said = capfd.readouterr().err
    assert f"warning: `{tmp_path / 'a'}` has the same code, settings, data and seed, but its loss" in said
    assert said.count("warning") == 1


@pytest.mark.slow
def test_runs_that_are_the_same_or_differ_for_a_reason_are_not_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path / "a")
    train(tmp_path / "b")
    train(tmp_path / "c", data=2.0)
    train(tmp_path / "d", seed=1)
    (tmp_path / "a" / "config.json").write_text("{")
    (tmp_path / "b" / "metrics.jsonl").write_text("torn")
    train(tmp_path / "e")
    assert "warning" not in capfd.readouterr().err
