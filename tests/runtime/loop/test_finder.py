"""`--find-non-finite`: the module and the step where a NaN or infinity first appears."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from paccel.runtime import NonFiniteError, Run, load_config
from paccel.runtime.loop.finder import VARIABLE


@dataclass
class Config:
    run_dir: Path | None = None


class Breaks(nn.Module):
    """Returns its input, or breaks its output or gradient."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        return {"output": x / 0, "gradient": torch.sqrt(x * 0), "": x}[self.how]


def train(folder: Path, how: str, value: float = 1.0, loss: Any = torch.sum) -> None:
    model = nn.Sequential(nn.Linear(2, 2), Breaks(how), nn.Linear(2, 1))
    with Run(Config(folder)) as run:
        model = run.prepare(model)
        optimizer = torch.optim.SGD(model.parameters())
        for _ in run.updates(2):
            run.backward(loss(model(torch.full((3, 2), value))))
            run.clip_grad_norm(model, None)
            optimizer.step()


@pytest.mark.parametrize(
    ("how", "value", "loss", "said"),
    [
        (
            "output",
            1.0,
            torch.sum,
            r"In step 1, the output of `1` \(Breaks\) is not finite \(6 of 6 values\); its input and parameters are finite",
        ),
        ("gradient", 1.0, torch.sum, r"In step 1, the gradient of the output of `0` \(Linear\) is not finite"),
        (
            "",
            float("inf"),
            torch.sum,
            r"`0` \(Linear\) is not finite .*; its input is not finite either",
        ),
        ("", 1.0, lambda x: x.sum() / 0, "In step 1, the loss is not finite"),
    ],
)
def test_the_first_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, value: float, loss: Any, said: str
) -> None:
    monkeypatch.setenv(VARIABLE, "1")
    with pytest.raises(NonFiniteError, match=said):
        train(tmp_path / "run", how, value, loss)


def test_parameters_and_their_gradients_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "1")
    model = nn.Linear(2, 1)
    with (
        pytest.raises(NonFiniteError, match="the gradient of the parameter `weight` is not finite"),
        Run(Config(tmp_path / "a")) as run,
    ):
        model = run.prepare(model)
        model.weight.grad = torch.full((1, 2), torch.nan)
        run.clip_grad_norm(model, None)
    with (
        pytest.raises(NonFiniteError, match="its parameter `weight` is not finite"),
        Run(Config(tmp_path / "b")) as run,
    ):
        model = run.prepare(nn.Linear(2, 1))
        nn.init.constant_(model.weight, torch.inf)
        model(torch.ones(1, 2))


class Returns(nn.Module):
    """A module that returns a parameter, for tied weights."""

    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.weight = weight

    def forward(self) -> Tensor:
        return self.weight


class Unusual(nn.Module):
    """A model with an in-place operation, tied weights, and a module that returns a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.relu = nn.Linear(2, 2), nn.Linear(2, 2), nn.ReLU(inplace=True)
        self.second.weight = self.first.weight
        self.tied = Returns(self.first.weight)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.first(x))
        return self.second(y) @ self.tied()


def test_tied_weights_and_work_in_place_are_no_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "1")
    with Run(Config(tmp_path / "run")) as run:
        model = run.prepare(Unusual())
        optimizer = torch.optim.SGD(model.parameters())
        for _ in run.updates(3):
            run.backward(model(torch.ones(3, 2)).sum())
            run.clip_grad_norm(model, None)
            optimizer.step()
    assert all(not weight._backward_hooks for weight in model.parameters())  # none is left


def test_without_it_the_error_says_how_to_find_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(NonFiniteError, match="gradient norm of step 1") as caught:
        train(tmp_path / "run", "output")
    assert f"paccel verify {tmp_path / 'run'} --find-non-finite" in caught.value.__notes__[0]


def test_the_flag_is_taken_from_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "0")
    assert load_config(Config, ["--run-dir", "x"]).run_dir == Path("x")
    assert os.environ[VARIABLE] == "0"
    load_config(Config, ["--find-non-finite", "--run-dir", "x"])
    assert os.environ[VARIABLE] == "1"


def test_a_full_gpu_leaves_a_snapshot_and_the_error_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda.memory, "_dump_snapshot", lambda path: Path(path).write_bytes(b"snapshot"))
    monkeypatch.setattr(torch.cuda, "memory_summary", lambda: "summary")
    run = Run(Config(tmp_path / "run"))
    with pytest.raises(torch.OutOfMemoryError), run:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        raise torch.OutOfMemoryError("CUDA out of memory")
    snapshot = tmp_path / "run" / "memory-step-0.pickle"
    assert snapshot.read_bytes() == b"snapshot"
    assert str(snapshot) in "".join(capfd.readouterr())
