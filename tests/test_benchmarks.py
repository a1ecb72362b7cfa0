"""The benchmarks measure what is generated."""

import json
import random
import re
import sys
from pathlib import Path

import pytest
from support.sampled import every_third_day

pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import catalogue
import checkpoint_stall
import generated_loop
import large_templates
import library_comparison
import loop_contestants
import new_command
import resume_cost

from paccel.catalog.answers import resolve_answers
from paccel.catalog.catalog import DEFAULT_TEMPLATE, bundled_names, load_template
from paccel.render.render import render

pytestmark = pytest.mark.slow

LOOP = (
    "for batch in step:",
    "loss, _ = compute_loss(model, batch)",
    "run.backward(loss, count=step.num_samples)",
    "optimizer.step()",
    "optimizer.zero_grad()",
    "if run.stopping():",
)


@pytest.mark.parametrize("features", [True, False])
def test_the_loop_that_is_timed_is_the_rendered_one_and_trains(features: bool) -> None:
    seconds, updates, loss = loop_contestants.run("paccel", features, steps=100)
    assert 0 < seconds < 0.1
    assert updates == loop_contestants.WARMUP + 100
    assert loss < 1.5  # it starts at 2.4


def test_only_the_lines_of_the_features_are_deleted_where_they_are_off(tmp_path: Path) -> None:
    with generated_loop.generated(tmp_path / "all") as train:
        whole = Path(str(train.__file__)).read_text()
    bare = generated_loop.without_features(whole)
    gone = [line.strip() for line in whole.splitlines() if line not in bare.splitlines()]
    assert [line for line in gone if not line.startswith(generated_loop.FEATURES)] == [
        'run.log("train", train_meter.read(), learning_rate=learning_rate, grad_norm=grad_norm)'
    ]
    assert len(gone) == len(generated_loop.FEATURES) + 1
    for line in LOOP:
        assert line in bare


@every_third_day(1)
def test_the_loops_on_digits_make_the_same_steps_and_learn() -> None:
    names = [*library_comparison.BASELINES, "generated project"]
    found = library_comparison.compare(names, seeds=1, epochs=1, warm=False)
    for name in names:
        ((seconds, milliseconds, accuracy),) = found[name]
        assert 0 < milliseconds < 1e3 * seconds
        assert accuracy > 0.5, name


def test_resuming_is_timed_from_the_step_that_comes_next() -> None:
    found = resume_cost.measure(rounds=1, early=10, late=20_000, reread=30)
    assert {kind: sorted(steps) for kind, steps in found.items()} == {
        "index": [10, 20_000],
        "stateful stream": [10, 20_000],
        "stream without state": [10, 30],
    }
    assert all(wall > 0 for steps in found.values() for ((wall, _),) in steps.values())


def test_the_stall_of_both_ways_to_save_is_timed(tmp_path: Path) -> None:
    found, size = checkpoint_stall.measure(3.0, saves=1, folder=tmp_path)
    assert size > 9e6  # weights and two moments
    for way in found.values():
        assert len(way.stalls) == 1
        assert way.undisturbed
    assert found["background"].written[0] > found["background"].stalls[0]


def test_large_templates_are_timed_from_new_to_set(tmp_path: Path) -> None:
    assert large_templates.write_template(tmp_path / "template", 250, moved=True) == 100
    found = large_templates.measure(250, tmp_path)
    assert [*found] == ["new", "upgrade, up to date", "upgrade, 40 % moved", "set"]
    assert all(seconds > 0 for seconds in found.values())


def test_the_template_that_is_timed_gives_the_default_project(tmp_path: Path) -> None:
    single, layered = (load_template(name) for name in (str(new_command.single_layer(tmp_path)), DEFAULT_TEMPLATE))
    ours, theirs = (
        render(template, resolve_answers(template, {}, project_name=new_command.PROJECT))
        for template in (single, layered)
    )
    assert ours == theirs


@pytest.mark.parametrize("name", bundled_names())
def test_the_figure_that_a_template_is_held_to_is_in_its_readme_and_is_what_its_evaluation_prints(name: str) -> None:
    low, high = catalogue.stated(name)
    template = load_template(name)
    tree = render(template, resolve_answers(template, {}, project_name="my-project"))
    readme, train = (tree[path].content.decode() for path in ("README.md", "train.py"))
    assert {low, high} <= {float(number) for number in re.findall(r"\d+(?:\.\d+)?", readme)}
    assert re.search(rf"""(?:"|\b){catalogue.SCORES[name].key}(?:"|=)""", train)


def test_an_interrupted_run_is_equal_only_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = catalogue.Project(Path(sys.executable), tmp_path, threads=1)
    for name in ("one", "killed"):
        (tmp_path / "runs" / name / "weights").mkdir(parents=True)
        (tmp_path / "runs" / name / "weights" / "best.safetensors").write_bytes(b"weights")
        lines = ({"step": step, "train/loss": 1 / step, "time/seconds": len(name)} for step in range(1, 101))
        (tmp_path / "runs" / name / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.setattr(project, "interrupt", lambda _, step, *others: step)
    monkeypatch.setattr(project, "run", lambda *arguments: None)
    result = catalogue.killed_and_resumed(project, random.Random(0))
    assert re.fullmatch(r"killed after \d+, stopped after \d+ of 100: equal", result)
    (tmp_path / "runs" / "killed" / "weights" / "best.safetensors").write_bytes(b"Weights")
    with (tmp_path / "runs" / "killed" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 101}\n')
    result = catalogue.killed_and_resumed(project, random.Random(0))
    assert result.endswith("differ: best.safetensors, metrics.jsonl")
