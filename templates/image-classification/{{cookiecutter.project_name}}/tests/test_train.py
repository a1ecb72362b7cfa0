"""The project's own promise: six steps train, and a run that was stopped and resumed ends like one that was not."""

import json
import os
from pathlib import Path
import signal

# % if cookiecutter.data == "folder"
from PIL import Image
# % endif
import pytest
import torch

import evaluate
import train


# % if cookiecutter.data == "mnist"
def write_idx(path: Path, array: torch.Tensor) -> None:
    """Write bytes in MNIST's own file format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = b"".join(size.to_bytes(4, "big") for size in array.shape)
    path.write_bytes(bytes([0, 0, 8, array.dim()]) + shape + array.to(torch.uint8).numpy().tobytes())


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A small MNIST of noise, where torchvision looks for the real one."""
    generator = torch.Generator().manual_seed(0)
    for name, size in (("train", 240), ("t10k", 60)):
        images = torch.randint(256, (size, 28, 28), generator=generator)
        write_idx(tmp_path / "MNIST" / "raw" / f"{name}-images-idx3-ubyte", images)
        write_idx(tmp_path / "MNIST" / "raw" / f"{name}-labels-idx1-ubyte", torch.arange(size) % 10)
    return tmp_path
# % elif cookiecutter.data == "folder"
@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Small images of noise in two classes."""
    generator = torch.Generator().manual_seed(0)
    for split, size in (("train", 80), ("test", 8)):
        for index in range(size):
            path = tmp_path / "images" / split / ("cats", "dogs")[index % 2] / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = torch.randint(256, (48, 40, 3), dtype=torch.uint8, generator=generator)
            Image.fromarray(pixels.numpy()).save(path)
    return tmp_path / "images"
# % endif


@pytest.fixture
# % if cookiecutter.data == "digits"
def settings() -> dict[str, object]:
# % else
def settings(data_dir: Path) -> dict[str, object]:
# % endif
    """Six small steps, an evaluation after each three."""
    return {
        # % if cookiecutter.data != "digits"
        "data_dir": data_dir,
        # % endif
        # % if cookiecutter.data == "folder"
        "image_size": 32,
        "num_workers": 0,
        # % endif
        "global_batch_size": 32,
        "max_steps": 6,
        "log_every": 1,
        "eval_every": 3,
        # % if cookiecutter.tracker in ["wandb", "mlflow"]
        "trackers": (),
        # % endif
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
