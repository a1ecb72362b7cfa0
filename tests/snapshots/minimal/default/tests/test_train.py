"""A run that was stopped and resumed ends with the same result as an uninterrupted one."""

import json
import os
from pathlib import Path
import signal
from typing import Any

import pytest

import train


def metrics(run_dir: Path) -> list[dict[str, Any]]:
    """Read the logged metrics, without wall-clock times."""
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if not k.startswith("time/")} for line in lines]


def test_a_stopped_and_resumed_run_ends_like_an_uninterrupted_one(tmp_path, monkeypatch):
    straight, stopped = (train.Config(epochs=2, run_dir=tmp_path / name) for name in ("straight", "stopped"))
    train.main(straight)
    assert json.loads((tmp_path / "straight" / "status.json").read_text())["state"] == "finished"
    assert metrics(tmp_path / "straight")[-1]["test/accuracy"] > 0.3

    steps = train.Run.steps

    def stop_in_step_25(run, *args, **options):
        for step in steps(run, *args, **options):
            if step.number == 25:
                os.kill(os.getpid(), signal.SIGTERM)
            yield step

    with monkeypatch.context() as patch:
        patch.setattr(train.Run, "steps", stop_in_step_25)
        with pytest.raises(SystemExit) as left:
            train.main(stopped)
    assert left.value.code == 75

    stopped.resume = "auto"
    train.main(stopped)
    assert metrics(tmp_path / "stopped") == metrics(tmp_path / "straight")
    best = Path("weights", "best.safetensors")
    assert (tmp_path / "stopped" / best).read_bytes() == (tmp_path / "straight" / best).read_bytes()
