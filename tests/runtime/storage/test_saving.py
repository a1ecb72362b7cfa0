"""What is saved and when: the same step twice, a fork, the average, after a non-finite gradient."""

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.scaling import loss_scaler
from torch import nn
from torch.utils.data import IterableDataset, TensorDataset

from paccel.runtime import (
    EMA,
    CheckpointError,
    Checkpoints,
    ConfigError,
    Meter,
    NonFiniteError,
    Run,
    Stopped,
    load_weights,
    schedules,
)
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


def test_a_fork_has_its_own_best_weights_even_if_its_origin_had_better_ones(tmp_path: Path) -> None:
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


def test_a_full_disk_keeps_the_only_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_an_error_of_the_last_save_in_the_background_fails_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError("full")

    for stopped in (False, True):
        run_dir = tmp_path / str(stopped)
        with pytest.raises(OSError, match="full"), monkeypatch.context() as patched, Run(Config(run_dir)) as run:
            patched.setattr("paccel.runtime.checkpointing.writer.write_checkpoint", full)
            Checkpoints(run, background=True, model=nn.Linear(1, 1)).save()
            if stopped:
                raise run.stopped()
        status = json.loads((run_dir / "status.json").read_text())
        assert (status["state"], status["reason"]) == ("failed", "step 0: OSError: full")


@pytest.mark.parametrize("background", [False, True])
def test_weights_files_hold_the_average_and_checkpoints_hold_both(tmp_path: Path, background: bool) -> None:
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


def test_nothing_is_saved_after_a_non_finite_gradient(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError), Run(Config(tmp_path / "run")) as run:
        run.guard.reads = False  # as on a GPU, where a norm is checked later
        model = nn.Linear(1, 1)
        checkpoints = Checkpoints(run, model=model)
        for write in (checkpoints.save, lambda: checkpoints.save_weights("final")):
            run.position.step += 1
            model(torch.full((1, 1), float("nan"))).sum().backward()
            run.clip_grad_norm(model, None)
            with pytest.raises(NonFiniteError, match=f"The gradient norm of step {run.position.step} is nan"):
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
    rates = [0.1 * (1 - updates / 8) for updates in (1, 2, 2, 3, 4, 4, 5, 6)]  # a skipped update is not counted
    assert [line["train/learning_rate"] for line in lines] == pytest.approx(rates)
    for stop_at in (2, 3, 4):
        run_dir = tmp_path / f"run-{stop_at}"
        assert scaled(run_dir, stop_at) + scaled(run_dir, resume="auto") == scales
        assert tree(run_dir / "weights") == tree(tmp_path / "straight" / "weights")


class Numbers(IterableDataset):
    def __iter__(self) -> Iterator[int]:
        return iter(range(10))


@pytest.mark.parametrize("is_stream", [False, True])
def test_resumed_after_a_save_at_the_end_of_an_epoch_nothing_is_repeated(tmp_path: Path, is_stream: bool) -> None:
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


# Weights files


def averaged(model: nn.Module, value: float) -> EMA:
    """An EMA whose weights are all `value`, of an unchanged model."""
    ema = EMA(model)
    state = ema.state_dict()
    ema.load_state_dict(state | {"averages": {k: torch.full_like(v, value) for k, v in state["averages"].items()}})
    return ema


def written(run: Run) -> dict[str, float]:
    """The first weight in each file."""
    return {
        path.name: next(iter(load_file(path).values())).flatten()[0].item() for path in run.run_dir.glob("weights/*")
    }


def test_each_model_has_a_file_with_its_own_average(tmp_path: Path) -> None:
    with Run(Config(tmp_path / "run")) as run:
        left, right, plain = (nn.Linear(1, 1) for _ in range(3))
        nn.init.constant_(plain.bias, 7.0)
        averages = {"right_ema": averaged(right, 2.0), "left_ema": averaged(left, 1.0)}
        Checkpoints(run, left=left, right=right, plain=plain, **averages).save_weights("last")
        expected = {"last-left.safetensors": 1.0, "last-right.safetensors": 2.0, "last-plain.safetensors": 7.0}
        assert written(run) == expected


def test_with_two_averages_of_one_model_the_user_must_choose(tmp_path: Path) -> None:
    with Run(Config(tmp_path / "run")) as run:
        model = nn.Linear(1, 1)
        slow, fast = averaged(model, 1.0), averaged(model, 2.0)
        tracked = {"model": model, "slow": slow, "fast": fast}
        with pytest.raises(
            ConfigError, match=r"`slow` and `fast` average `model`: say which .*`weights={\"model\": slow}`"
        ):
            Checkpoints(run, **tracked)
        Checkpoints(run, weights={"model": fast}, **tracked).save_weights("one")
        Checkpoints(run, weights={"slow": slow, "fast": fast}, **tracked).save_weights("each")
        expected = {"one.safetensors": 2.0, "each-slow.safetensors": 1.0, "each-fast.safetensors": 2.0}
        assert written(run) == expected


def test_weights_other_than_models_and_averages_are_refused(tmp_path: Path) -> None:
    with Run(Config(tmp_path / "run")) as run, pytest.raises(ConfigError, match="`model` is a `dict`"):
        Checkpoints(run, weights={"model": {}}, meter=Meter(run))  # type: ignore[dict-item]


class Counted(nn.Module):
    """A metric like those of libraries: a module with buffers but no parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))


@pytest.mark.parametrize("other", ["loss", "metric", pytest.param("average of timm", marks=pytest.mark.slow)])
def test_a_second_module_leaves_the_model_s_file_its_name(tmp_path: Path, other: str) -> None:
    with Run(Config(tmp_path / "run")) as run:
        model, thing = nn.Linear(1, 1), nn.Linear(2, 2) if other == "loss" else Counted()
        nn.init.constant_(model.bias, 7.0)
        if other == "average of timm":
            thing = pytest.importorskip("timm.utils").ModelEmaV2(model)
        checkpoints = Checkpoints(run, best="loss", other=thing, model=model)
        assert checkpoints.keep_best({"loss": 1.0})
        files = written(run)
        assert files.pop("best.safetensors") == 7.0
        assert set(files) == (set() if other == "metric" else {"best-other.safetensors"})


def test_without_a_model_a_warning_says_that_no_weights_are_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Run(Config(tmp_path / "run")) as run:
        parameter = nn.Parameter(torch.ones(1))
        checkpoints = Checkpoints(run, best="loss", optimizer=torch.optim.SGD([parameter], 0.1))
        assert "no weights will be written" in capsys.readouterr().err
        checkpoints.save_weights("last")
        assert "no weights `last` are written" in capsys.readouterr().err
        assert not written(run)


class Odd:
    """Its state cannot be saved."""

    def state_dict(self) -> dict[str, Any]:
        return {"f": {"g": object()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        raise AssertionError("nothing was saved")


def test_a_state_that_cannot_be_saved_is_refused_before_the_first_step(tmp_path: Path) -> None:
    with Run(Config(tmp_path / "run")) as run:
        checkpoints = Checkpoints(run, model=nn.Linear(1, 1), odd=Odd())
        with pytest.raises(CheckpointError, match=r"odd.*object"):
            checkpoints.restore()


def evaluate_after_saving(config: Config, scores: list[float], kill_at: int | None = None) -> list[int]:
    """Save, then evaluate, at each step, with the step as the weight. Returns the evaluated steps."""
    evaluated: list[int] = []
    with suppress(KeyboardInterrupt), Run(config) as run:
        model = nn.Linear(1, 1, bias=False)
        checkpoints = Checkpoints(run, best="loss", model=model)

        def evaluate() -> None:
            evaluated.append(run.position.step)
            checkpoints.keep_best({"loss": scores[run.position.step - 1]})

        checkpoints.restore()
        if checkpoints.evaluation_is_due:
            evaluate()
        for step in range(run.position.step + 1, len(scores) + 1):
            run.position.step = step
            nn.init.constant_(model.weight, float(step))
            checkpoints.save(then_evaluate=True)
            if step == kill_at:
                raise KeyboardInterrupt
            evaluate()
        checkpoints.save()
    return evaluated


@pytest.mark.parametrize("kill_at", [1, 2, 3, 4])
def test_an_evaluation_that_was_lost_behind_a_save_is_made_first_and_the_best_is_right(
    tmp_path: Path, kill_at: int
) -> None:
    scores = [3.0, 1.0, 2.0, 1.5]
    run_dir = tmp_path / "run"
    assert evaluate_after_saving(Config(run_dir), scores, kill_at) == list(range(1, kill_at))
    assert evaluate_after_saving(Config(run_dir, "auto"), scores) == list(range(kill_at, 5))
    assert load_file(run_dir / "weights" / "best.safetensors")["weight"].item() == 2.0


def test_a_save_without_a_following_evaluation_makes_none_due(tmp_path: Path) -> None:
    with Run(Config(tmp_path / "run")) as run:
        run.position.step = 1
        Checkpoints(run, model=nn.Linear(1, 1)).save()
    with Run(Config(tmp_path / "run", "auto")) as run:
        checkpoints = Checkpoints(run, model=nn.Linear(1, 1))
        assert checkpoints.restore() == 1
        assert not checkpoints.evaluation_is_due


def test_weights_that_fit_are_loaded_and_the_differences_are_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "others.safetensors"
    save_file({"weight": torch.full((1, 1), 3.0), "old": torch.ones(1)}, path)
    model = nn.Linear(1, 1)
    with pytest.raises(CheckpointError):
        load_weights(path, model)
    differences = load_weights(path, model, strict=False)
    assert differences == ["missing: `bias`", "unexpected: `old`"]
    assert model.weight.item() == 3.0
    said = capsys.readouterr()
    for line in [*differences, f"{path} has no hash of paccel's"]:
        assert line in said.out + said.err
