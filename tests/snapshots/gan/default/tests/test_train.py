"""Six steps train, and a run that was stopped and resumed ends with the same result as an uninterrupted one."""

import json
import math
import os
from pathlib import Path
import signal
from typing import Any

import pytest

import evaluate
import train

SIX_STEPS: dict[str, Any] = {"max_steps": 6, "log_every": 1, "eval_every": 3}


def metrics(run_dir: Path) -> list[dict[str, Any]]:
    """Read the logged metrics, without wall-clock times."""
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if not k.startswith("time/")} for line in lines]


def test_six_steps_leave_a_finished_run_with_finite_losses(tmp_path, settings):
    run_dir = tmp_path / "run"
    train.main(train.Config(run_dir=run_dir, **SIX_STEPS, **settings))

    losses = [v for line in metrics(run_dir) for k, v in line.items() if k.startswith("train/") and k.endswith("loss")]
    assert len(losses) >= 6
    assert all(math.isfinite(loss) for loss in losses)
    assert json.loads((run_dir / "status.json").read_text())["state"] == "finished"
    assert (run_dir / "curves.png").stat().st_size > 0
    scores = evaluate.main(evaluate.EvaluateConfig(run_dir=run_dir, split="test"))
    assert scores
    assert all(math.isfinite(score) for score in scores.values())


def test_a_stopped_and_resumed_run_ends_like_an_uninterrupted_one(tmp_path, settings, monkeypatch):
    train.main(train.Config(run_dir=tmp_path / "straight", **SIX_STEPS, **settings))

    steps = train.Run.steps

    def stop_in_the_second_step(run, *args, **options):
        for step in steps(run, *args, **options):
            if step.number == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            yield step

    with monkeypatch.context() as patch:
        patch.setattr(train.Run, "steps", stop_in_the_second_step)
        with pytest.raises(SystemExit) as stopped:
            train.main(train.Config(run_dir=tmp_path / "stopped", **SIX_STEPS, **settings))
    assert stopped.value.code == 75
    assert len(metrics(tmp_path / "stopped")) == 2

    train.main(train.Config(run_dir=tmp_path / "stopped", resume="auto", **SIX_STEPS, **settings))
    assert metrics(tmp_path / "stopped") == metrics(tmp_path / "straight")
    weights = sorted((tmp_path / "straight" / "weights").glob("*.safetensors"))
    assert weights
    for path in weights:
        assert (tmp_path / "stopped" / "weights" / path.name).read_bytes() == path.read_bytes()
