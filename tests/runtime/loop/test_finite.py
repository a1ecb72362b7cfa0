"""A gradient that is not finite: stop, or skip the update and count, the same on all processes."""

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from paccel.runtime import Meter, Run
from paccel.runtime.errors import NonFiniteError
from paccel.runtime.loop.finite import FiniteGuard
from paccel.runtime.loop.position import Position


@dataclass
class Config:
    """The settings that a run reads."""

    run_dir: Path


def status(run_dir: Path) -> dict:
    return json.loads((run_dir / "status.json").read_text())


@pytest.mark.slow
def test_it_ends_the_run_before_the_update_and_names_step_and_samples(start, order, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    done = start(run_dir, fault="nan:5:0", log_every=100, save_every=4)
    assert done.returncode == 1
    samples = ", ".join(map(str, order(run_dir)[5]))
    reason = status(run_dir)["reason"]
    assert f"NonFiniteError: The gradient norm of step 5 is nan; its samples are {samples}" in reason
    assert [path.name for path in (run_dir / "checkpoints").iterdir()] == ["step-4"]


@pytest.mark.slow
def test_skipped_updates_are_counted_and_leave_weights_and_optimizer_as_they_were(
    start, metrics, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"skip_non_finite": 2, "max_steps": 8, "save_every": 1, "keep_last": 9}
    done = start(tmp_path / "run", fault="nan:5,6:0", **settings)
    assert done.returncode == 0, done.stderr
    assert "step 5 is skipped: its gradient norm is nan" in done.stderr
    counted = {line["step"]: line.get("train/skipped_updates") for line in metrics(tmp_path / "run")}
    assert counted == {1: None, 2: None, 3: None, 4: None, 5: 1, 6: 1, 7: None, 8: None}
    files = [tmp_path / "run" / "checkpoints" / f"step-{n}" for n in (4, 5, 6, 7)]
    for name in ("model.safetensors", "optimizer.safetensors"):
        before, first, second, after = ((folder / name).read_bytes() for folder in files)
        assert before == first == second != after


@pytest.mark.slow
def test_one_more_in_a_row_than_may_be_skipped_ends_the_run(start, tmp_path: Path) -> None:
    done = start(tmp_path / "run", fault="nan:2,4,5,6:0", skip_non_finite=2)
    assert done.returncode == 1
    assert "The gradient norm of step 6 is nan, as in the 2 steps before it" in status(tmp_path / "run")["reason"]


@pytest.mark.slow
def test_the_count_in_a_row_survives_a_resume(start, tmp_path: Path) -> None:
    assert start(tmp_path / "run", fault="nan:4,5:0", max_steps=5, skip_non_finite=2).returncode == 0
    done = start(tmp_path / "run", fault="nan:6:0", skip_non_finite=2, resume="auto", epochs=4, max_steps=8)
    assert "The gradient norm of step 6 is nan, as in the 2 steps before it" in done.stderr


@pytest.mark.slow
def test_a_loss_that_is_not_finite_ends_the_run_where_no_gradient_is_looked_at(start, tmp_path: Path) -> None:
    done = start(tmp_path / "run", log_every=5, epochs=2, fault="inf@loss:3:0")
    assert done.returncode == 1
    assert "The training loss became inf in steps 1 to 5" in status(tmp_path / "run")["reason"]


def test_a_mean_of_nothing_is_no_loss_that_is_not_finite(tmp_path: Path) -> None:
    with Run(Config(tmp_path / "run")) as run:
        meter = Meter(run)
        run.position.step = 1
        meter.add(loss=0.0, count=0)
        run.log("train", meter.read())
        run.position.step = 2
        meter.add(loss=float("nan"), count=4)
        with pytest.raises(NonFiniteError, match="became nan in step 2"):
            run.log("train", meter.read())


@pytest.mark.slow
def test_a_loss_alone_that_may_be_not_finite_is_a_warning_and_the_weights_are_those_without_it(
    start, metrics, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"skip_non_finite": 2, "max_steps": 6, "save_every": 1, "log_every": 1}
    assert start(tmp_path / "straight", **settings).returncode == 0
    done = start(tmp_path / "run", fault="inf@loss:1,2,4,5:0", **settings)
    assert done.returncode == 0, done.stderr
    assert "warning: The training loss became inf in step 2, while its gradients are finite" in done.stderr
    lines = [line for line in metrics(tmp_path / "run") if "train/loss" in line]
    assert [line["step"] for line in lines if line["train/loss"] is None] == [1, 2, 4, 5]
    assert not any("train/skipped_updates" in line for line in lines)
    ours, theirs = (tmp_path / name / "weights" / "final.safetensors" for name in ("run", "straight"))
    assert ours.read_bytes() == theirs.read_bytes()
    resumed = start(tmp_path / "run", fault="inf@loss:7,8:0", resume="auto", **settings | {"max_steps": 9})
    assert resumed.returncode == 0, resumed.stderr


@pytest.mark.slow
def test_the_count_of_such_losses_survives_a_resume(start, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"skip_non_finite": 2, "log_every": 2}
    assert start(tmp_path / "run", fault="inf@loss:1,3:0", max_steps=4, **settings).returncode == 0
    done = start(tmp_path / "run", fault="inf@loss:6:0", max_steps=8, resume="auto", **settings)
    expected = "The training loss became inf in steps 5 to 6, as at the 2 log points before it"
    assert done.returncode == 1
    assert expected in done.stderr


class TestOnADevice:
    """The code for a device, run on the CPU: no norm is read before the log point."""

    def make(self, may_skip: int, **options: Any) -> tuple[FiniteGuard, nn.Module, torch.optim.Optimizer, Any]:
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, **options)
        run = SimpleNamespace(
            position=Position(epoch=1), prepared=SimpleNamespace(loss_scaler=None, optimizers=[optimizer])
        )
        guard = FiniteGuard(run.position, run.prepared, lambda text: None, may_skip, reads=False)  # type: ignore[arg-type]
        return guard, model, optimizer, run

    def step(self, made: Any, factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
        guard, model, optimizer, run = made
        run.position.step += 1
        (model(torch.ones(1, 3)).sum() * factor).backward()
        parameters = list(model.parameters())
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters])
        with monkeypatch.context() as patched:  # reading a value would wait for a device
            patched.setattr(torch.Tensor, "item", lambda self: pytest.fail("a device was waited for"))
            patched.setattr(torch.Tensor, "__bool__", lambda self: pytest.fail("a device was waited for"))
            guard.check_norm(norm, parameters)
        optimizer.step()
        optimizer.zero_grad()

    @pytest.mark.parametrize("fused", [True, False])
    def test_a_bad_update_does_no_harm_and_a_fused_optimizer_skips_it(
        self, monkeypatch: pytest.MonkeyPatch, fused: bool
    ) -> None:
        made = self.make(1, fused=fused)
        guard, model, optimizer, _ = made
        self.step(made, 1.0, monkeypatch)
        before = [p.detach().clone() for p in model.parameters()]
        self.step(made, float("nan"), monkeypatch)
        for parameter, was in zip(model.parameters(), before, strict=True):
            assert torch.isfinite(parameter).all()
            assert torch.equal(parameter, was) is fused
            assert optimizer.state[parameter]["step"] == (1 if fused else 2)
        self.step(made, 1.0, monkeypatch)
        assert not torch.equal(next(model.parameters()), before[0])
        assert guard.read_skipped() == 1

    def test_a_bad_update_of_one_model_leaves_the_optimizers_of_others_alone(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = self.make(1, fused=True)
        _, model, optimizer, run = made
        others = [nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))]
        apart = torch.optim.AdamW(others[:1], fused=True)
        mixed = torch.optim.AdamW([*model.parameters(), others[1]], fused=True)
        run.prepared.optimizers += [apart, mixed]
        self.step(made, float("nan"), monkeypatch)
        assert optimizer.found_inf == 1.0
        assert not hasattr(apart, "found_inf")
        assert not hasattr(mixed, "found_inf")

    def test_skipped_updates_explain_a_loss_that_is_not_finite(self) -> None:
        guard = self.make(0)[0]
        guard.check_loss(float("nan"), skipped=1)
        with pytest.raises(NonFiniteError, match="The training loss became nan in step 0"):
            guard.check_loss(float("nan"), skipped=0)

    def test_the_norms_since_the_last_look_name_the_first_bad_step(self, monkeypatch: pytest.MonkeyPatch) -> None:
        made = self.make(0)
        for factor in (1.0, float("inf"), 1.0):
            self.step(made, factor, monkeypatch)
        with pytest.raises(NonFiniteError, match="The gradient norm of step 2 is"):
            made[0].check()
