"""`paccel adopt` recreates a lost baseline, and changes nothing else."""

import os
import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from support.upgraded import TRAIN, Case

from paccel.cli import console
from paccel.files import disk
from paccel.health import adopt
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


def test_answers_keep_their_case_and_may_come_from_a_file(
    paccel: Any, template: Any, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "{{ cookiecutter.title }}\n{{ cookiecutter.license }}\n{{ cookiecutter.parts }}\n"
    source = template(
        {"README.md": text},
        {"title": "x", "license": ["MIT", "BSD-3"], "parts": ["A", "B"]},
        metadata="[questions.parts]\nmultiple = true\n",
    )
    kept = (
        '{"context": {"cookiecutter": {"title": "My Net", "license": "BSD-3", "parts": ["A", "B"], "_template": "x"}}}'
    )
    (work / ".cruft.json").write_text(kept)
    (work / "README.md").write_text("My Net\nBSD-3\n['A', 'B']\n")
    out = paccel("adopt", "--template", source, "--answers", ".cruft.json").out
    assert out.startswith("Adopted as demo (project_name=work, title=My Net, license=BSD-3, parts=A,B)\n")
    assert "edited:  none" in out


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


def test_a_long_search_says_what_it_does_and_a_quick_one_nothing(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(case.root / ".paccel")
    assert case.run("adopt", "--template", case.source, "--dry-run").err == ""
    monkeypatch.setattr(console, "SECONDS_BETWEEN_LINES", -1.0)
    outcome = case.run("adopt", "--template", case.source, "--dry-run", "--json")
    assert outcome.data["complete"] is True
    assert outcome.err.splitlines() == [
        f"Comparing with `demo`{rest} \u2026" for rest in ("", ": `average=true`", ": `tracker=tb`")
    ]


def test_a_search_ends_when_its_time_is_up(case: Case) -> None:
    assert case.run("set", "average=true").code == 0
    shutil.rmtree(case.root / ".paccel")
    found = adopt.adopt(case.root, template=str(case.source), seconds=0, dry_run=True)
    assert (found.complete, found.manifest.answers["average"], found.edited) == (False, False, ("train.py",))


def test_only_the_templates_that_are_most_alike_are_searched(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    other = case.make({"other.py": "x = 1\n"}, {"kind": ["a", "b"]}, name="other")
    monkeypatch.setattr(adopt, "bundled_names", lambda: [str(other), str(case.source)])
    monkeypatch.setattr(adopt, "MAX_SEARCHED", 1)
    told: list[str] = []
    shutil.rmtree(case.root / ".paccel")
    assert adopt.adopt(case.root, tell=told.append).manifest.template.name == "demo"
    assert told[:2] == ["Comparing with `other`", "Comparing with `demo`"]
    assert not any("kind" in text for text in told)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
@pytest.mark.parametrize("step", ["make_folder", "write_whole", "replace_file"])
def test_an_adoption_that_fails_leaves_nothing(
    case: Case, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
) -> None:
    shutil.rmtree(case.root / ".paccel")
    before = case.tree()
    original = getattr(disk, step)

    def fail(*arguments: Any) -> None:
        if isinstance(error, KeyboardInterrupt):
            original(*arguments)
        raise error

    monkeypatch.setattr(disk, step, fail)
    assert case.run("adopt", "--template", case.source).code == (130 if isinstance(error, KeyboardInterrupt) else 3)
    assert not (case.root / ".paccel").exists()
    assert case.tree() == before


@pytest.mark.skipif(os.name == "nt", reason="no FIFOs there")
def test_a_pipe_in_the_project_is_not_waited_for(case: Case) -> None:
    shutil.rmtree(case.root / ".paccel")
    os.mkfifo(case.root / "pyproject.toml")
    assert case.run("adopt", "--template", case.source, "--json").data["answers"]["project_name"] == "project"
