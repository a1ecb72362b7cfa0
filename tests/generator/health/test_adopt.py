"""`paccel adopt`: a baseline for a project that lost its own, and nothing else."""

import shutil
from pathlib import Path

import pytest
from support.upgraded import TRAIN, Case


def test_a_project_without_its_state_can_be_adopted(case: Case) -> None:
    assert case.run("set", "average=true").code == 0
    case.edit("train.py", "rate = 0.1", "rate = 0.5")
    assert case.run("adopt", "--template", case.source).code == 3  # it is sound
    shutil.rmtree(case.root / ".paccel")
    mine = case.tree()
    result = case.run("adopt", "--template", case.source, "--json")
    assert result.code == 0
    assert result.data["answers"]["average"] is True
    assert result.data["edited"] == ["train.py"]
    assert {path: case.tree()[path] for path in mine} == mine
    case.change("train.py", "third = 3", "third = 4")
    assert case.run("upgrade").code == 0
    assert "rate = 0.5" in case.read("train.py")
    assert "third = 4" in case.read("train.py")


def test_a_stranger_is_not_adopted(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    (stranger / "other.py").write_text("print(1)\n")
    monkeypatch.chdir(stranger)
    assert case.run("adopt", "--template", case.source).code == 2
    assert not (stranger / ".paccel").exists()


def test_adopting_can_be_tried_without_writing(case: Case) -> None:
    shutil.rmtree(case.root / ".paccel")
    assert case.run("adopt", "--template", case.source, "--dry-run").out.startswith("Would adopt as demo")
    assert not (case.root / ".paccel").exists()


def test_an_answer_that_is_given_is_no_guess(case: Case) -> None:
    assert case.run("set", "average=true").code == 0
    shutil.rmtree(case.root / ".paccel")
    found = case.run("adopt", "--template", case.source, "--set", "average=false", "--json").data
    assert found["answers"]["average"] is False
    assert found["edited"] == ["train.py"]


def test_an_answer_that_changes_nothing_is_the_default(case: Case) -> None:
    shutil.rmtree(case.root / ".paccel")
    assert case.run("adopt", "--template", case.source, "--json").data["answers"]["tracker"] == "none"


def test_a_choice_that_cannot_be_rendered_is_not_the_projects(case: Case) -> None:
    bad = "{% if cookiecutter.kind == 'bad' %}{{ nothing }}{% endif %}"
    picky = case.make({"train.py": TRAIN.replace("# %", "#") + bad}, {"kind": ["good", "bad"]}, name="picky")
    shutil.rmtree(case.root / ".paccel")
    assert case.run("adopt", "--template", picky, "--json").data["answers"]["kind"] == "good"
