"""Answers that were edited in the manifest, or merged there by git, apply like `paccel set`."""

import json
from pathlib import Path

import pytest
from support.upgraded import PROJECT, Case

from paccel.health import doctor
from paccel.project.state import MANIFEST_PATH, read_manifest

NOTE = "Note: the answers in the manifest were edited since the last upgrade: they apply from now on\n"


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "examine_machine", lambda root: {})


def answer(case: Case, **answers: object) -> None:
    """Edit answers in the manifest."""
    path = case.root / MANIFEST_PATH
    data = json.loads(path.read_text())
    data["answers"] |= answers
    path.write_text(json.dumps(data, indent=2))


def both(case: Case) -> None:
    """Let two files of the template ask for the same answer."""
    (case.source / PROJECT / "data.py").write_text("x = 1\n# % if cookiecutter.average\ny = 1\n# % endif\n")
    assert case.run("upgrade").code == 0


@pytest.mark.parametrize("command", [["upgrade"], ["set", "average=true"], ["set", "tracker=none"]])
def test_an_edited_answer_is_noticed_and_merged(case: Case, command: list[str]) -> None:
    case.edit("train.py", "rate = 0.1", "rate = 0.5")
    answer(case, average=True)
    outcome = case.run("doctor", "--json")
    assert outcome.code == 3
    assert outcome.data["project"]["problems"] == [
        "the answers in `.paccel/manifest.json` are not those that the files were rendered with: run `paccel upgrade`"
    ]
    assert case.run("upgrade", "--check").code == 10
    outcome = case.run(*command)
    assert (outcome.code, outcome.err) == (0, NOTE)
    text = case.read("train.py")
    assert 'print("average")' in text
    assert "rate = 0.5" in text
    assert case.run("doctor", "--json").code == 0
    assert case.run("upgrade").out == "Up to date\n"
    assert case.run("upgrade", "--undo").code == 0
    assert 'print("average")' not in case.read("train.py")


def test_setting_it_back_changes_nothing(case: Case) -> None:
    before = case.read("train.py")
    answer(case, average=True)
    assert case.run("set", "average=false").code == 0
    assert case.read("train.py") == before
    assert not read_manifest(case.root).answers_edited


def test_an_answer_that_is_typed_as_on_the_command_line_is_understood(case: Case) -> None:
    answer(case, average="yes")
    assert case.run("upgrade").code == 0
    assert 'print("average")' in case.read("train.py")
    assert read_manifest(case.root).answers["average"] is True


@pytest.mark.parametrize(
    ("answers", "code", "message"),
    [
        ({"average": "perhaps"}, 2, "`average=perhaps` is neither `true` nor `false`"),
        ({"tracker": "tbb"}, 2, "`tracker=tbb` is not valid; choose from `none`, `tb`; did you mean `tb`?"),
        ({"tracker": 3}, 3, "the answer `tracker` must be text, true, false or a list"),
    ],
)
def test_an_answer_that_is_none_is_named(case: Case, answers: dict[str, object], code: int, message: str) -> None:
    before = case.read("train.py")
    answer(case, **answers)
    outcome = case.run("upgrade")
    assert (outcome.code, message in outcome.err, case.read("train.py")) == (code, True, before)


def test_an_answer_to_no_question_is_dropped_and_named(case: Case) -> None:
    answer(case, avrage=True)
    outcome = case.run("upgrade")
    assert outcome.code == 0
    assert "the answer `avrage=true` is dropped" in outcome.err
    assert "avrage" not in read_manifest(case.root).answers


def test_an_upgrade_of_one_file_leaves_the_answer_for_the_others(case: Case) -> None:
    both(case)
    answer(case, average=True)
    assert case.run("upgrade", "data.py").code == 0
    assert "y = 1" in case.read("data.py")
    assert 'print("average")' not in case.read("train.py")
    assert case.run("upgrade").code == 0
    assert 'print("average")' in case.read("train.py")


def test_answers_of_one_branch_with_the_files_of_another_become_one(case: Case, tmp_path: Path) -> None:
    """git took the answers from one side and everything else from the other."""
    assert case.run("set", "average=true").code == 0
    theirs = json.loads((case.root / MANIFEST_PATH).read_text())["answers"]
    assert case.run("upgrade", "--undo").code == 0
    assert case.run("set", "tracker=tb").code == 0
    answer(case, **theirs)
    assert case.run("upgrade").code == 0
    assert read_manifest(case.root).answers == theirs
    assert 'print("average")' in case.read("train.py")


def test_a_rebuilt_baseline_proves_the_answers_it_was_rendered_with(case: Case) -> None:
    answer(case, tracker="tb")  # which renders the same files
    assert case.run("doctor", "--rebuild-baseline").code == 0
    assert not read_manifest(case.root).answers_edited
    answer(case, average=True)
    outcome = case.run("doctor", "--rebuild-baseline")
    assert outcome.code == 3
    assert "the answers in it were edited: undo that, or" in outcome.err
