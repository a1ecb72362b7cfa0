"""Exact resume of all that a run can track, and from checkpoints that something has damaged, in one process."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.quick import quick_first
from support.sampled import sampled
from torch import nn
from torch.utils.data import TensorDataset

from paccel.runtime import EMA, CheckpointError, Checkpoints, EarlyStopping, Meter, Run, load_weights, schedules
from paccel.runtime.record.reporting import Reporter

SCHEDULES: dict[str, Callable[[torch.optim.Optimizer], Any]] = {
    "constant": lambda optimizer: schedules.constant(optimizer, warmup_steps=5),
    "linear": lambda optimizer: schedules.linear(optimizer, 12, warmup_steps=2, cooldown_steps=2),
    "cosine": lambda optimizer: schedules.cosine(optimizer, 12, warmup_steps=2, k_decay=2.0),
    "wsd": lambda optimizer: schedules.wsd(optimizer, 12, warmup_steps=2, decay_steps=6),
    "multi_step": lambda optimizer: schedules.multi_step(optimizer, [3, 5, 7]),
    "one_cycle": lambda optimizer: schedules.one_cycle(optimizer, 12),
    "from_function": lambda optimizer: schedules.from_function(optimizer, lambda step: 1 / step),
}
SCORES = {2: 0.5, 4: 0.4, 6: 0.6, 8: 0.7}  # the best at step 4, and enough of it at step 8


@pytest.fixture(autouse=True, scope="module")
def _without_curves() -> Iterator[None]:
    """They have tests of their own, and take longer than all the rest."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(Reporter, "draw", lambda *_, **__: None)
        yield


@dataclass
class Config:
    """What a run reads."""

    run_dir: Path
    resume: str = "never"


class Killed(Exception):
    """Stands for SIGKILL: the loop has no chance to save."""


def train(run_dir: Path, schedule: str = "cosine", killed_at: int = 0, resume: str = "never") -> None:
    """Up to 12 steps with a loss scaler, one of whose gradients overflows; early stopping ends it at step 8."""
    with Run(Config(run_dir, resume)) as run:
        inputs = torch.randn(14, 3, generator=torch.Generator().manual_seed(1))
        loader = run.loader(TensorDataset(inputs), 4, shuffle=True)
        model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.3), nn.Tanh(), nn.Linear(4, 1))
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
        model, optimizer = run.prepare(model, optimizer)
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)
        tracked: dict[str, Any] = {"model": model, "optimizer": optimizer, "scaler": scaler, "meter": Meter(run)}
        tracked |= {"schedule": SCHEDULES[schedule](optimizer), "ema": EMA(model, decay=0.8)}
        tracked |= {"early_stopping": EarlyStopping(patience=2)}
        checkpoints = Checkpoints(run, best="loss", keep_best=2, **tracked)
        checkpoints.restore()
        for _ in run.epochs(3):
            for step in run.steps(loader, accumulate=2):
                for (batch,) in step:
                    loss = (model(batch) - batch.sum(-1, keepdim=True)).square().sum()
                    overflow = float("inf") if step.number == 5 else 1.0
                    run.backward(scaler.scale(loss * overflow / step.num_samples))
                    tracked["meter"].add(loss=loss, count=step.micro_batch_samples)
                scaler.step(optimizer)
                scaler.update()
                tracked["schedule"].step()
                optimizer.zero_grad()
                tracked["ema"].update()
                if step.number == killed_at:
                    raise Killed
                if step.every(3):
                    rate = tracked["schedule"].get_last_lr()[0]
                    run.log("train", tracked["meter"].read(), learning_rate=rate, scale=scaler.get_scale())
                if step.due(2):
                    score = SCORES[step.number]
                    checkpoints.keep_best({"loss": score})
                    if tracked["early_stopping"].should_stop(score):
                        run.finish("no lower loss")
                    checkpoints.save()
        checkpoints.save_weights("final")


def left(run_dir: Path) -> dict[str, Any]:
    """All files of a run but for those with times in them, and what was logged."""
    paths = [*(run_dir / "weights").rglob("*"), *(run_dir / "checkpoints").rglob("*")]
    files: dict[str, Any] = {str(path.relative_to(run_dir)): path.read_bytes() for path in paths if path.is_file()}
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    files["metrics"] = [{k: v for k, v in line.items() if not k.startswith("time/")} for line in lines]
    return files


def killed(run_dir: Path, at: int, schedule: str = "cosine") -> Path:
    with pytest.raises(Killed):
        train(run_dir, schedule, killed_at=at)
    return run_dir


@pytest.mark.parametrize("schedule", quick_first(SCHEDULES))
def test_schedule_scaler_early_stopping_and_the_best_go_on_to_the_bit(tmp_path: Path, schedule: str) -> None:
    train(tmp_path / "straight", schedule)
    expected = left(tmp_path / "straight")
    assert [line["train/scale"] for line in expected["metrics"]] == [16.0, 16.0]  # halved at 5, after 16 and 32
    assert {name for name in expected if "best" in name} == {
        f"weights/{name}.safetensors" for name in ("best", "best-2", "best-4")
    }
    assert {name.split("/")[1] for name in expected if "checkpoints" in name} == {"step-6", "step-8"}
    for at in sampled((1, 4, 5, 6, 8), 2):
        run_dir = killed(tmp_path / f"run-{at}", at, schedule)
        train(run_dir, schedule, resume="auto")
        ours = left(run_dir)
        assert sorted(ours) == sorted(expected)
        assert [name for name in ours if ours[name] != expected[name]] == []


# Damage


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 16
    file.write_bytes(content)


def tear(folder: Path) -> None:
    """A part of the files, as after a power failure on a disk that forgets what was written last."""
    (folder / "manifest.json").unlink()
    cut(folder / "optimizer.safetensors")


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "truncated": (
        lambda folder: cut(folder / "model.safetensors"),
        r"`model.safetensors` has \d+ bytes instead of \d+",
    ),
    "bit-flipped": (lambda folder: flip(folder / "optimizer.safetensors"), "the right size and the wrong content"),
    "state flipped": (lambda folder: flip(folder / "state.json"), "`state.json` has the right size and the wrong"),
    "manifest flipped": (lambda folder: flip(folder / "manifest.json"), "`manifest.json`"),
    "half-deleted": (lambda folder: (folder / "ema.safetensors").unlink(), "`ema.safetensors` is missing"),
    "torn": (tear, "`manifest.json` is missing"),
    "emptied": (empty, "`manifest.json` is missing"),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run to its end, and one killed in step 7 with checkpoints of steps 4 and 6."""
    folder = tmp_path_factory.mktemp("runs")
    train(folder / "straight")
    killed(folder / "killed", 7)
    return folder


@pytest.mark.parametrize("kind", quick_first(DAMAGES))
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_leads_to_the_same_end(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    damage, said = DAMAGES[kind]
    run_dir = shutil.copytree(runs / "killed", tmp_path / "run")
    damage(run_dir / "checkpoints" / "step-6")
    train(run_dir, resume="auto")
    printed = capsys.readouterr()
    assert "falling back to the checkpoint before it" in printed.err
    (line,) = [line for line in printed.err.splitlines() if "step-6 is damaged (" in line]
    assert re.search(said, line), line
    assert "resuming at step 4" in printed.out
    assert left(run_dir) == left(runs / "straight")


def test_where_all_are_damaged_the_run_does_not_start_over_and_nothing_is_removed(runs: Path, tmp_path: Path) -> None:
    run_dir = shutil.copytree(runs / "killed", tmp_path / "run")
    for step in (4, 6):
        flip(run_dir / "checkpoints" / f"step-{step}" / "model.safetensors")
    before = left(run_dir)
    with pytest.raises(CheckpointError, match=r"All 2 checkpoints in .* are damaged"):
        train(run_dir, resume="auto")
    assert left(run_dir) == before


# What is tracked


def test_an_object_that_is_missing_or_unknown_is_named(tmp_path: Path) -> None:
    model, run_dir = nn.Linear(1, 1), tmp_path / "run"
    with Run(Config(run_dir)) as run:
        Checkpoints(run, model=model, critic=nn.Linear(1, 1), stopping=EarlyStopping(1)).save()
    with (
        Run(Config(run_dir, "auto")) as run,
        pytest.raises(
            CheckpointError,
            match="the checkpoint has no `meter`; the checkpoint has `critic`, `stopping`, not passed to `Checkpoints`",
        ),
    ):
        Checkpoints(run, model=model, meter=Meter(run)).restore()


class Tied(nn.Module):
    """An output layer that is its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.output = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
        self.output.weight = self.embedding.weight


@pytest.mark.parametrize("with_ema", [False, True])
@pytest.mark.slow
def test_tied_and_compiled_weights_are_exported_under_the_model_s_own_names_and_go_on_without_the_compiler(
    tmp_path: Path, with_ema: bool
) -> None:
    run_dir, model = tmp_path / "run", Tied()

    def track(run: Run, model: nn.Module) -> Checkpoints:
        optimizer = torch.optim.AdamW(model.parameters())
        model, optimizer = run.prepare(model, optimizer)
        return Checkpoints(run, model=model, optimizer=optimizer, **({"ema": EMA(model)} if with_ema else {}))

    with Run(Config(run_dir)) as run:
        checkpoints = track(run, torch.compile(model))
        checkpoints.save_weights("final")
        checkpoints.save()
    assert list(load_file(run_dir / "weights" / "final.safetensors")) == ["embedding.weight"]
    exported, resumed = Tied(), Tied()
    load_weights(run_dir / "weights" / "final.safetensors", exported)
    with Run(Config(run_dir, "auto")) as run:
        track(run, resumed).restore()
    for other in (exported, resumed):
        assert torch.equal(other.embedding.weight, model.embedding.weight)
        assert other.output.weight is other.embedding.weight
