"""What is saved when, and what is not: the same step twice, a fork, the average, what is not finite."""

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.scaling import loss_scaler
from torch import nn
from torch.utils.data import IterableDataset, TensorDataset

from paccel.runtime import EMA, CheckpointError, Checkpoints, Meter, NonFiniteError, Run, Stopped, schedules
from paccel.runtime.storage import files
from paccel.runtime.storage.checkpoint import verify_checkpoint


@dataclass
class Config:
    """What a run reads."""

    run_dir: Path
    resume: str = "never"


def tree(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix == ".safetensors"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_step_is_saved_once_and_the_status_says_which(tmp_path: Path) -> None:
    with Run(Config(tmp_path / "run")) as run:
        model = nn.Linear(1, 1)
        checkpoints = Checkpoints(run, model=model)
        run.position.step, run.position.epoch = 3, 1
        checkpoints.save()
        before = tree(run.run_dir)
        status = json.loads((run.run_dir / "status.json").read_text())
        assert (status["state"], status["step"], status["epoch"]) == ("running", 3, 1)
        nn.init.zeros_(model.weight)
        checkpoints.save()
        assert tree(run.run_dir) == before
        run.position.step = 4
        checkpoints.save()
        assert set(tree(run.run_dir)) == {f"checkpoints/step-{step}/model.safetensors" for step in (3, 4)}


def test_a_fork_saves_the_step_it_begins_with_and_refuses_a_damaged_one(tmp_path: Path) -> None:
    model = nn.Linear(1, 1)
    with Run(Config(tmp_path / "first")) as run:
        run.position.step = 3
        Checkpoints(run, model=model).save()
    source = tmp_path / "first" / "checkpoints" / "step-3"
    with Run(Config(tmp_path / "second", str(source))) as run:
        checkpoints = Checkpoints(run, model=model)
        assert checkpoints.restore() == 3
        checkpoints.save()
        assert (run.run_dir / "checkpoints" / "step-3" / "manifest.json").exists()
    (source / "model.safetensors").write_bytes(b"damaged")
    with Run(Config(tmp_path / "third", str(source))) as run:
        with pytest.raises(CheckpointError, match=r"cannot be resumed from: `model.safetensors` has 7 bytes"):
            Checkpoints(run, model=model).restore()
        shutil.rmtree(source)


def test_a_fork_has_best_weights_of_its_own_even_where_none_are_better_than_those_before_it(tmp_path: Path) -> None:
    model = nn.Linear(1, 1)
    with Run(Config(tmp_path / "first")) as run:
        checkpoints = Checkpoints(run, best="loss", model=model)
        run.position.step = 3
        assert checkpoints.keep_best({"loss": 1.0})
        checkpoints.save()
    source = tmp_path / "first" / "checkpoints" / "step-3"
    with Run(Config(tmp_path / "second", str(source))) as run:
        checkpoints = Checkpoints(run, best="loss", model=model)
        checkpoints.restore()
        run.position.step = 4
        assert checkpoints.keep_best({"loss": 2.0})
        assert (run.run_dir / "weights" / "best.safetensors").exists()


def test_where_the_disk_is_full_the_only_checkpoint_that_was_to_stay_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError("full")

    with Run(Config(tmp_path / "run")) as run:
        checkpoints = Checkpoints(run, keep_last=1, model=nn.Linear(1, 1))
        run.position.step = 1
        checkpoints.save()
        run.position.step = 2
        with monkeypatch.context() as patched, pytest.raises(OSError, match="full"):
            patched.setattr(files, "durable_write", full)
            checkpoints.save()
        assert verify_checkpoint(run.run_dir / "checkpoints" / "step-1") is None
        checkpoints.save()
        assert [path.name for path in (run.run_dir / "checkpoints").iterdir()] == ["step-2"]


def test_an_error_of_the_last_save_in_the_background_is_the_end_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError("full")

    for stopped in (False, True):
        run_dir = tmp_path / str(stopped)
        with pytest.raises(OSError, match="full"), monkeypatch.context() as patched, Run(Config(run_dir)) as run:
            patched.setattr("paccel.runtime.checkpoints.write_checkpoint", full)
            Checkpoints(run, background=True, model=nn.Linear(1, 1)).save()
            if stopped:
                raise run.stopped()
        status = json.loads((run_dir / "status.json").read_text())
        assert (status["state"], status["reason"]) == ("failed", "step 0: OSError: full")


@pytest.mark.parametrize("background", [False, True])
def test_weights_are_the_average_and_a_checkpoint_holds_both(tmp_path: Path, background: bool) -> None:
    with Run(Config(tmp_path / "run")) as run:
        model = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(model.weight)
        ema = EMA(model, decay=0.75, warmup=False)
        nn.init.ones_(model.weight)
        ema.update()
        checkpoints = Checkpoints(run, best="loss", background=background, model=model, ema=ema)
        checkpoints.keep_best({"loss": 1.0})
        checkpoints.save_weights("final")
        checkpoints.save()
    assert model.weight.item() == 1.0
    for name in ("best", "final"):
        assert load_file(tmp_path / "run" / "weights" / f"{name}.safetensors")["weight"].item() == 0.25
    saved = tmp_path / "run" / "checkpoints" / "step-0"
    assert load_file(saved / "model.safetensors")["weight"].item() == 1.0
    assert load_file(saved / "ema.safetensors")["averages.weight"].item() == 0.25


def test_what_is_not_finite_gets_into_no_file(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError), Run(Config(tmp_path / "run")) as run:
        run.guard.reads = False  # as on a GPU, where a norm is looked at later
        model = nn.Linear(1, 1)
        checkpoints = Checkpoints(run, model=model)
        for write in (checkpoints.save, lambda: checkpoints.save_weights("final")):
            run.position.step += 1
            model(torch.full((1, 1), float("nan"))).sum().backward()
            run.clip_grad_norm(model, None)
            with pytest.raises(NonFiniteError, match=f"The gradient of step {run.position.step} has the norm nan"):
                write()
        assert not tree(run.run_dir)
        raise NonFiniteError


def scaled(run_dir: Path, stop_at: int = 0, resume: str = "never") -> list[float]:
    """8 steps with accelerate's loss scaler, as on a GPU in fp16, of which 3 and 6 overflow; returns the scale after each."""
    scales = []
    try:
        with loss_scaler(init_scale=8.0, growth_interval=2), Run(Config(run_dir, resume)) as run:
            loader = run.loader(TensorDataset(torch.linspace(-1, 1, 16)[:, None]), 4, shuffle=True)
            model = nn.Linear(1, 1)
            model, optimizer = run.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
            schedule, meter = schedules.linear(optimizer, 8), Meter(run)
            tracked = {"model": model, "optimizer": optimizer, "schedule": schedule, "meter": meter}
            checkpoints = Checkpoints(run, **tracked)
            checkpoints.restore()
            for _ in run.epochs(2):
                for step in run.steps(loader):
                    for (inputs,) in step:
                        loss = (model(inputs) - 1).square().sum()
                        run.backward(loss * (float("inf") if step.number in (3, 6) else 1.0) / step.num_samples)
                        meter.add(loss=loss, count=len(inputs))
                    run.clip_grad_norm(model, None)
                    optimizer.step()
                    schedule.step()
                    optimizer.zero_grad()
                    scales.append(run.accelerator.scaler.get_scale())
                    run.log("train", meter.read(), learning_rate=schedule.get_last_lr()[0])
                    if step.number == stop_at:
                        checkpoints.save()
                        raise run.stopped()
            checkpoints.save_weights("final")
    except SystemExit:
        pass
    return scales


@pytest.mark.slow
def test_what_a_loss_scaler_skips_is_counted_and_no_error_and_its_scale_is_resumed(tmp_path: Path) -> None:
    scales = scaled(tmp_path / "straight")
    assert scales == [8, 16, 8, 8, 16, 8, 8, 16]
    lines = [json.loads(line) for line in (tmp_path / "straight" / "metrics.jsonl").read_text().splitlines()]
    assert [line.get("train/skipped_updates", 0) for line in lines] == [0, 0, 1, 0, 0, 1, 0, 0]
    rates = [0.1 * (1 - updates / 8) for updates in (1, 2, 2, 3, 4, 4, 5, 6)]  # a skipped update is none
    assert [line["train/learning_rate"] for line in lines] == pytest.approx(rates)
    for stop_at in (2, 3, 4):
        run_dir = tmp_path / f"run-{stop_at}"
        assert scaled(run_dir, stop_at) + scaled(run_dir, resume="auto") == scales
        assert tree(run_dir / "weights") == tree(tmp_path / "straight" / "weights")


class Numbers(IterableDataset):
    def __iter__(self) -> Iterator[int]:
        return iter(range(10))


@pytest.mark.parametrize("is_stream", [False, True])
def test_of_an_epoch_that_ended_with_a_save_nothing_is_done_twice(tmp_path: Path, is_stream: bool) -> None:
    def done(folder: str, fails_at: int = 0, resume: str = "never") -> list[str]:
        with Run(Config(tmp_path / folder, resume)) as run:
            checkpoints = Checkpoints(run, model=nn.Linear(1, 1))
            checkpoints.restore()
            loader, found = run.loader(Numbers() if is_stream else TensorDataset(torch.arange(10)), 2), []
            with suppress(KeyError):
                for epoch in run.epochs(3):
                    for step in run.steps(loader):
                        list(step)
                        found.append(f"step {step.number}")
                        if step.number == fails_at:
                            raise KeyError
                    found.append(f"evaluation {epoch}")
                    checkpoints.save()
                return found
            raise run.stopped()

    straight = done("straight")
    assert straight[4:7] == ["step 5", "evaluation 1", "step 6"]
    with pytest.raises(Stopped):
        done("run", fails_at=7)
    assert done("run", resume="auto") == straight[6:]
