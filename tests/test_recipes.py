"""The edits of docs/recipes.md are made to the default project, and what they make trains, stops and resumes."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from support.beside import modules_of
from support.patches import patched
from support.sampled import over_three_days
from support.together import together

from paccel.runtime import Run, Stopped
from paccel.runtime.record.reporting import Reporter

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PROJECT = ROOT / "tests" / "snapshots" / "image-classification" / "default"
PAGE = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
RECIPES = {
    section.partition("\n")[0]: re.findall(r"^```(diff|python)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    for section in PAGE.split("\n### ")[1:]
}
EDITS = [title for title, blocks in RECIPES.items() if blocks and blocks[0][0] == "diff"]


def edited(title: str) -> str:
    """The default `train.py` with the edit of a recipe."""
    return patched((PROJECT / "train.py").read_text(encoding="utf-8"), RECIPES[title][0][1])


def load(title: str) -> ModuleType:
    module = ModuleType("train_of_a_recipe")
    module.__dict__["__file__"] = str(PROJECT / "train.py")
    with modules_of(PROJECT, "train_of_a_recipe", "data", "model"):
        sys.modules["train_of_a_recipe"] = module
        exec(compile(edited(title), title, "exec"), module.__dict__)
    return module


def train(title: str, run_dir: Path, resume: str = "never", accumulate: int = 1) -> None:
    """4 steps in 2 epochs with the edit of a recipe."""
    module = load(title)
    Reporter.draw = lambda *_, **__: None  # the curves have tests of their own
    start: Callable[[Any], None] = getattr(module, "phases", module.main)
    config = module.Config(
        run_dir=run_dir, width=8, global_batch_size=16, eval_batch_size=50, limit_batches=2, epochs=2, max_steps=4
    )
    config.log_every, config.resume, config.accumulate = 1, resume, accumulate
    start(config)


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(Reporter, "draw", Reporter.draw)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def end(run_dir: Path) -> tuple[list[dict[str, Any]], dict[Path, bytes]]:
    """What a run logged but for the time, and its weights, of all its phases."""
    lines = [json.loads(x) for file in sorted(run_dir.rglob("metrics.jsonl")) for x in file.read_text().splitlines()]
    logged = [{key: value for key, value in line.items() if not key.startswith("time/")} for line in lines]
    return logged, {path.relative_to(run_dir): path.read_bytes() for path in run_dir.rglob("weights/*.safetensors")}


def has_predictions(run_dir: Path) -> None:
    pairs = json.loads((run_dir / "predictions.json").read_text())
    right = sum(predicted == label for predicted, label in pairs)
    assert len(pairs) == 100
    assert right / 100 == pytest.approx(end(run_dir)[0][-1]["eval/accuracy"])


def has_larger_images(run_dir: Path) -> None:
    assert json.loads((run_dir / "large" / "config.json").read_text())["settings"]["image_size"] == 12
    first = end(run_dir / "large")[0][0]
    assert first["train/loss"] < end(run_dir / "small")[0][0]["train/loss"]


RESULTS: dict[str, Callable[[Path], Any]] = {
    "Find a learning rate": lambda run_dir: (run_dir / "learning_rate.png").stat().st_size > 10_000,
    "Keep the checkpoint from before the decay": lambda run_dir: (run_dir / "checkpoints/step-4").exists(),
    "Profile some steps": lambda run_dir: list((run_dir / "profile").glob("*.json")),
    "A metric of torchmetrics": lambda run_dir: 0 <= end(run_dir)[0][-1]["eval/f1"] <= 1,
    "Save predictions": lambda run_dir: has_predictions(run_dir) is None,
    "A custom tracker": lambda run_dir: len((run_dir / "log.txt").read_text().splitlines()) == 6,
    "A second phase with other settings: larger images": lambda run_dir: has_larger_images(run_dir) is None,
}


@pytest.mark.parametrize("title", over_three_days(EDITS))
@pytest.mark.filterwarnings("ignore")
def test_an_edited_project_trains_and_stopped_it_ends_as_if_it_had_not_been(
    title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "timm" in edited(title):
        pytest.importorskip("timm")
    if "torchmetrics" in edited(title):
        pytest.importorskip("torchmetrics")
    train(title, tmp_path / "straight")
    assert RESULTS.get(title, end)(tmp_path / "straight")
    with monkeypatch.context() as patch:
        patch.setattr(Run, "stopping", lambda run: run.position.step == 2)
        with pytest.raises(Stopped):
            train(title, tmp_path / "run")
    train(title, tmp_path / "run", resume="auto")
    logged, weights = end(tmp_path / "run")
    assert (logged, sorted(weights)) == (end(tmp_path / "straight")[0], sorted(end(tmp_path / "straight")[1]))
    assert weights == end(tmp_path / "straight")[1]
    assert len(weights) >= 2


@pytest.mark.parametrize(
    ("title", "said"),
    [
        (
            "Train on after a finished cosine run",
            "the schedule was cosine over 4 steps and is constant: its rate goes from 5.0e-04 to 1.0e-03",
        ),
        ("Resume with a new EMA", "`ema` is not in the checkpoint: it starts from the restored weights"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_new_run_from_a_checkpoint_of_an_unedited_script_goes_on_with_the_edit(
    title: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train("Clip by value", tmp_path / "first")  # the same objects as without an edit
    train(title, tmp_path / "on", resume=str(tmp_path / "first" / "checkpoints" / "step-2"))
    assert end(tmp_path / "on")[0][-1]["step"] == 4
    assert said in capsys.readouterr().out


def test_clipping_by_value_is_of_the_step_s_gradient_with_any_accumulation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, clipped = torch.nn.utils.clip_grad_value_, []
    monkeypatch.setattr(
        torch.nn.utils, "clip_grad_value_", lambda parameters, value: clipped.append(clip(parameters, value / 100))
    )
    for accumulate in (1, 4):
        train("Clip by value", tmp_path / str(accumulate), accumulate=accumulate)
    assert len(clipped) == 2 * 4  # once in each step
    whole, parts = (
        [line["train/loss"] for line in end(tmp_path / name)[0] if "train/loss" in line] for name in ("1", "4")
    )
    assert parts == pytest.approx(whole, rel=1e-4)


def test_each_recipe_has_at_most_one_edit_or_program() -> None:
    assert EDITS
    assert all(len(blocks) <= 1 for blocks in RECIPES.values())


def test_the_notebook_s_cell_trains(tmp_path: Path) -> None:
    module = load("Clip by value")
    Reporter.draw = lambda *_, **__: None
    config = module.Config(run_dir=tmp_path / "run", width=8, limit_batches=1, epochs=1)
    exec(RECIPES["In a notebook"][0][1], {"main": module.main, "config": config})
    assert (tmp_path / "run" / "weights" / "final.safetensors").exists()


def test_updates_without_a_loader_learn_and_are_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reporter, "draw", lambda *_, **__: None)
    monkeypatch.chdir(tmp_path)
    program = RECIPES["Reinforcement learning: updates without a loader"][0][1]
    module = sys.modules["program_of_a_recipe"] = ModuleType("program_of_a_recipe")
    try:
        exec(program.replace("max_steps: int = 60", "max_steps: int = 20"), module.__dict__)
        exec(program, module.__dict__)
    finally:
        del sys.modules["program_of_a_recipe"]
    rewards = [line["train/reward"] for line in end(tmp_path / "runs" / "bandit")[0]]
    assert len(rewards) == 3
    assert rewards[-1] > 0.8 > rewards[0]


def test_predictions_of_two_processes_are_those_of_one(tmp_path: Path) -> None:
    train("Save predictions", tmp_path / "one")
    together(train, tmp_path, "Save predictions", tmp_path / "two")
    has_predictions(tmp_path / "two")
    labels = [
        [label for _, label in json.loads((tmp_path / name / "predictions.json").read_text())]
        for name in ("one", "two")
    ]
    assert labels[0] == labels[1]
