"""The project's own promise: six steps train, and a run that was stopped and resumed ends like one that was not."""

import json
import os
from pathlib import Path
import signal

import pytest
import torch

import evaluate
import train


@pytest.fixture
def settings() -> dict[str, object]:
    """Six small steps, an evaluation after each three."""
    return {
        "global_batch_size": 32,
        "max_steps": 6,
        "log_every": 1,
        "eval_every": 3,
    }


def metrics(run_dir: Path) -> list[dict[str, object]]:
    """What was logged, but for the wall-clock figures."""
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if not k.startswith("time/")} for line in lines]


def test_six_steps_leave_a_finished_run_with_finite_losses(tmp_path, settings):
    run_dir = tmp_path / "run"
    train.main(train.Config(run_dir=run_dir, **settings))

    losses = [line["train/loss"] for line in metrics(run_dir) if "train/loss" in line]
    assert len(losses) == 6
    assert torch.tensor(losses).isfinite().all()
    assert json.loads((run_dir / "status.json").read_text())["state"] == "finished"
    assert (run_dir / "curves.png").stat().st_size > 0
    scores = evaluate.main(evaluate.EvaluateConfig(run_dir=run_dir, split="test"))
    assert 0 <= scores["accuracy"] <= 1


def test_a_run_that_was_stopped_and_resumed_ends_like_one_that_was_not(tmp_path, settings, monkeypatch):
    train.main(train.Config(run_dir=tmp_path / "straight", **settings))

    calls, compute_loss = 0, train.compute_loss

    def stop_in_the_second_step(model, batch):
        nonlocal calls
        calls += model.training
        if calls == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return compute_loss(model, batch)

    monkeypatch.setattr(train, "compute_loss", stop_in_the_second_step)
    with pytest.raises(SystemExit) as stopped:
        train.main(train.Config(run_dir=tmp_path / "stopped", **settings))
    assert stopped.value.code == 75
    assert len(metrics(tmp_path / "stopped")) == 2

    monkeypatch.setattr(train, "compute_loss", compute_loss)
    train.main(train.Config(run_dir=tmp_path / "stopped", resume="auto", **settings))
    assert metrics(tmp_path / "stopped") == metrics(tmp_path / "straight")
    final = Path("weights", "final.safetensors")
    assert (tmp_path / "stopped" / final).read_bytes() == (tmp_path / "straight" / final).read_bytes()
