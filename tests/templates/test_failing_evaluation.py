"""An evaluation that fails, or never ends, costs no epoch: the checkpoint was there before it."""

import json
from pathlib import Path

import pytest
from support.generated import rendered
from support.in_project import run_in
from support.sampled import over_three_days

from paccel.files.tree import write_tree

pytestmark = pytest.mark.slow

BROKEN = """
import train
from paccel.runtime import exit_with_message, load_config

evaluate, calls = train.evaluate, []

def fails_after_the_rehearsal(*arguments):
    calls.append(arguments)
    if len(calls) == 2:
        raise ValueError("sample 7 is broken")
    return evaluate(*arguments)

train.evaluate = fails_after_the_rehearsal
with exit_with_message():
    train.main(load_config(train.Config))
"""
STEPS = ["--max-steps=4", "--eval-every=2", "--save-every=2", "--log-every=1", "--limit-batches=2"]
OPTIONS = {"gan": STEPS, "image-classification": STEPS, "minimal": ["--epochs=2"]}


@pytest.mark.parametrize(
    ("name", "answers"),
    over_three_days(
        [("image-classification", {"ema": True, "early_stopping": True}), ("gan", {}), ("minimal", {})],
    ),
)
def test_the_resumed_run_evaluates_first_and_trains_no_step_again(
    name: str, answers: dict[str, bool], tmp_path: Path
) -> None:
    project = tmp_path / "my-project"
    write_tree(project, rendered(name, answers))
    (project / "broken.py").write_text(BROKEN)
    run_in(project, "train", "--run-dir=runs/straight", *OPTIONS[name])
    assert "sample 7 is broken" in run_in(project, "broken", "--run-dir=runs/broken", *OPTIONS[name], code=1)
    (saved,) = (project / "runs" / "broken" / "checkpoints").iterdir()
    step = int(saved.name.removeprefix("step-"))
    assert max(line["step"] for line in logged(project / "runs" / "broken")) == step
    resumed = run_in(project, "train", "--run-dir=runs/broken", "--resume=auto", *OPTIONS[name])
    assert resumed.index("eval") < resumed.index("train  ")
    straight, broken = project / "runs" / "straight", project / "runs" / "broken"
    assert logged(broken) == logged(straight)
    weights = sorted(path.name for path in (straight / "weights").iterdir())
    assert weights == sorted(path.name for path in (broken / "weights").iterdir())
    for file in weights:
        assert (broken / "weights" / file).read_bytes() == (straight / "weights" / file).read_bytes(), file


def logged(run_dir: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{key: line[key] for key in line if not key.startswith("time")} for line in lines]
