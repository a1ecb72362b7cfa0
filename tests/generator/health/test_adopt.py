"""`paccel adopt`: a baseline for a project that lost its own, and nothing else."""

import shutil
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from support.upgraded import TRAIN, Case

from paccel.files import disk
from paccel.project.state import MANIFEST_PATH


def test_a_project_without_its_state_can_be_adopted(case: Case) -> None:
    assert case.run("set", "average=true").code == 0
    case.edit("train.py", "rate = 0.1", "rate = 0.5")
    assert case.run("adopt", "--template", case.source).code == 3  # its state is valid
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


def test_nothing_is_adopted_while_another_command_works(case: Case) -> None:
    (case.root / MANIFEST_PATH).unlink()
    with disk.locked(case.root):
        outcome = case.run("adopt", "--template", case.source)
    assert outcome.code == 3
    assert "Another paccel command is working" in outcome.err
    assert not (case.root / MANIFEST_PATH).exists()
    assert case.run("adopt", "--template", case.source).code == 0


def test_an_adoption_looks_again_before_it_writes(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another command may have written a valid state after the first look."""
    manifest = (case.root / MANIFEST_PATH).read_bytes()
    (case.root / MANIFEST_PATH).unlink()
    locked = disk.locked

    def late(root: Path) -> AbstractContextManager[None]:
        (root / MANIFEST_PATH).write_bytes(manifest)
        return locked(root)

    monkeypatch.setattr(disk, "locked", late)
    case.edit("train.py", "rate = 0.1", "rate = 0.5")
    outcome = case.run("adopt", "--template", case.source)
    assert (outcome.code, "valid `.paccel` already" in outcome.err) == (3, True)
    assert (case.root / MANIFEST_PATH).read_bytes() == manifest
