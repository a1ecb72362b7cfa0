"""What the check of the whole project finds: shown, kept until it is resolved or accepted, and never lost on the way.

The fault is one that needs no tool: the user holds a package back in a file of their own, the template raises it.
"""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from support.upgraded import PROJECT, Case

from paccel.check import check, tools
from paccel.check.finding import Finding, new_findings
from paccel.errors import PreconditionError
from paccel.upgrade import apply
from paccel.upgrade.journal import UNDO_DIR, UPGRADE_DIR, read_journal, write_journal
from paccel.upgrade.upgrade import continue_upgrade

PROJECT_FILE = "[project]\nname = 'p'\ndependencies = ['numpy>=1']\n"
MESSAGE = "no version of `numpy` is both `numpy<2` and `numpy>=2`"


@pytest.fixture
def broken(case: Case) -> Case:
    """A project whose upgrade merges cleanly file by file, but leaves two contradicting pins."""
    (case.source / PROJECT / "pyproject.toml").write_text(PROJECT_FILE)
    assert case.run("upgrade").code == 0
    (case.root / "requirements.txt").write_text("numpy<2\n")
    case.change("pyproject.toml", "numpy>=1", "numpy>=2")
    return case


def test_a_finding_is_shown_with_both_places_and_waits(broken: Case) -> None:
    done = broken.run("upgrade")
    assert done.code == 1
    for part in ("requirements.txt:1", MESSAGE, "pyproject.toml:3", "the template", "--accept", "--continue"):
        assert part in done.out
    assert "numpy>=2" in broken.read("pyproject.toml")
    again = broken.run("upgrade")
    assert again.code == 3
    assert MESSAGE in again.err
    assert broken.run("upgrade", "--continue").code == 1
    assert broken.run("set", "average=true").code == 3


def test_it_is_foreseen_for_one_project_and_for_each(broken: Case) -> None:
    assert broken.run("upgrade", "--dry-run").code == 1
    each = broken.run("upgrade", "--each", str(broken.root), "--dry-run")
    assert (each.code, "findings" in each.out) == (1, True)
    assert broken.run("upgrade", "--each", str(broken.root), "--check").code == 10
    assert "numpy>=1" in broken.read("pyproject.toml")


def test_the_check_is_run_again_when_it_is_resolved(broken: Case) -> None:
    broken.run("upgrade")
    (broken.root / "requirements.txt").write_text("numpy<3\n")
    done = broken.run("upgrade", "--continue")
    assert (done.code, "Done" in done.out) == (0, True)
    assert broken.run("upgrade", "--check").code == 0
    assert broken.run("upgrade", "--undo").code == 0
    assert broken.read("pyproject.toml") == PROJECT_FILE
    assert broken.read("requirements.txt") == "numpy<3\n"


def test_it_may_be_resolved_in_the_upgraded_file_and_undone_still(broken: Case) -> None:
    broken.run("upgrade")
    broken.edit("pyproject.toml", "numpy>=2", "numpy>=1.9")
    assert broken.run("upgrade", "--continue").code == 0
    assert broken.run("upgrade", "--undo").code == 0
    assert broken.read("pyproject.toml") == PROJECT_FILE


@pytest.mark.parametrize("options", [["--accept"], ["--continue", "--accept"]])
def test_it_may_be_accepted(broken: Case, options: list[str]) -> None:
    broken.run("upgrade")
    assert broken.run("upgrade", *options).code == 0
    assert broken.run("upgrade").out.startswith("Up to date")
    assert "numpy>=2" in broken.read("pyproject.toml")


def test_nothing_is_accepted_where_nothing_waits(broken: Case) -> None:
    assert broken.run("upgrade", "--accept").code == 3
    assert broken.run("upgrade", "--accept", "--abort").code == 2


@pytest.mark.parametrize("way", ["--abort", "--undo"])
def test_it_may_be_taken_back(broken: Case, way: str) -> None:
    before = broken.tree()
    broken.run("upgrade")
    assert broken.run("upgrade", way).code == 0
    after = broken.tree()
    assert {path: after[path] for path in before} == before


def test_a_dry_run_shows_it_and_a_check_says_that_there_is_an_upgrade(broken: Case) -> None:
    before = broken.tree()
    for options, code in (
        (["--dry-run"], 1),
        (["--check"], 10),
        (["--dry-run", "--json"], 1),
        (["--check", "--json"], 10),
    ):
        done = broken.run("upgrade", *options)
        assert done.code == code
        assert MESSAGE in done.out
    assert done.data["findings"][0]["cause"]["path"] == "pyproject.toml"
    assert broken.run("set", "average=true", "--dry-run").code == 1
    assert broken.tree() == before


def test_json_has_it(broken: Case) -> None:
    data = broken.run("upgrade", "--json").data
    assert (data["state"], data["conflicts"]) == ("findings", [])
    (found,) = data["findings"]
    assert found["cause"] == {
        "path": "pyproject.toml",
        "line": 3,
        "text": found["cause"]["text"],
        "side": "template",
        "removed": False,
    }
    assert (found["path"], found["line"], found["tool"], found["rule"]) == (
        "requirements.txt",
        1,
        "paccel",
        "contradicting-pins",
    )
    assert broken.run("upgrade", "--continue", "--json").data["findings"] == data["findings"]


def test_answers_are_changed_through_the_same_check(broken: Case) -> None:
    assert broken.run("set", "average=true").code == 1
    assert broken.run("upgrade", "--accept").code == 0
    assert 'print("average")' in broken.read("train.py")


def test_it_is_kept_when_the_upgrade_is_interrupted(broken: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed while replacing files: `--continue` replaces the rest, and then still waits for the user."""
    broken.run("upgrade")
    journal = read_journal(broken.root)
    assert journal is not None
    write_journal(broken.root, journal.in_phase("apply"))
    assert continue_upgrade(broken.root).state == "findings"
    assert continue_upgrade(broken.root, accept=True).state == "done"


def test_conflicts_come_first_and_what_breaks_elsewhere_after_them(broken: Case) -> None:
    broken.edit("pyproject.toml", "numpy>=1", "numpy>=1.5")
    done = broken.run("upgrade")
    assert (done.code, "Conflicts" in done.out, MESSAGE in done.out) == (1, True, False)
    assert broken.run("upgrade", "--continue").code == 3
    (broken.root / "pyproject.toml").write_text(PROJECT_FILE.replace(">=1", ">=2"))
    done = broken.run("upgrade", "--continue")
    assert (done.code, MESSAGE in done.out) == (1, True)
    (broken.root / "requirements.txt").unlink()
    assert broken.run("upgrade", "--continue").code == 0
    assert broken.run("upgrade", "--undo").code == 0


def test_what_the_user_resolved_a_conflict_into_is_their_word(broken: Case) -> None:
    broken.edit("pyproject.toml", "numpy>=1", "numpy>=1.5")
    broken.run("upgrade")
    broken.edit("requirements.txt", "numpy<2", "numpy")
    text = PROJECT_FILE + "[project.scripts]\nrun = 'train:nothing'\n"
    (broken.root / "pyproject.toml").write_text(text)
    assert broken.run("upgrade", "--continue").code == 0


def test_what_cannot_be_checked_again_is_not_resolved(broken: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    broken.run("upgrade")
    (broken.root / "requirements.txt").unlink()
    monkeypatch.setattr(check, "read_sources", too_large)
    done = broken.run("upgrade", "--continue")
    assert (done.code, MESSAGE in done.out, "too many files" in done.err) == (1, True, True)
    assert broken.run("upgrade", "--accept").code == 0


def too_large(root: Path) -> Any:
    raise check.TooLarge("the project has too many files")


def test_a_project_that_is_too_large_is_upgraded_and_that_is_said(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "read_sources", too_large)
    case.change("train.py", "rate = 0.1", "rate = 0.2")
    done = case.run("upgrade")
    assert (done.code, "was not checked as a whole: the project has too many files" in done.err) == (0, True)


def test_a_temporary_folder_that_is_full_and_odd_names_stop_no_upgrade(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    if os.name != "nt":
        (case.root / "a\\b.py").write_text("x = 1\n")
    monkeypatch.setattr(tools, "find_tools", lambda python: ([tools.Tool("ty", sys.executable, (("-c", ""),))], []))
    monkeypatch.setattr(check, "write_tree", full)
    case.edit("train.py", "first = 1", "first = 7")
    case.change("train.py", "third = 3", "third = 8")
    done = case.run("upgrade")
    assert (done.code, "cannot be written: No space left" in done.err) == (0, True)


def test_without_the_tools_one_line_says_so(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "find_tools", lambda python: ([], ["ty", "ruff"]))
    case.edit("train.py", "first = 1", "first = 7")
    case.change("train.py", "third = 3", "third = 8")
    done = case.run("upgrade")
    assert done.code == 0
    assert done.err.count("\n") == 1
    assert "not checked as a whole: ty and ruff are not installed; `pip install ty ruff`" in done.err


def test_nothing_is_checked_where_nothing_can_break(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> Any:
        raise AssertionError("a tool was looked for")

    monkeypatch.setattr(tools, "find_tools", refuse)
    monkeypatch.setattr(check, "check_declarations", refuse)
    # The user edited other files, and the template a text: no Python is merged.
    (case.source / PROJECT / "README.md").write_text("# A project\n")
    case.edit("train.py", "first = 1", "first = 7")
    assert case.run("upgrade").code == 0
    # An unedited project becomes the new render.
    case.edit("train.py", "first = 7", "first = 1")
    case.change("train.py", "third = 3", "third = 8")
    assert case.run("upgrade").code == 0
    # The user has the change already: nothing is merged.
    case.edit("train.py", "second = 2", "second = 5")
    case.change("train.py", "second = 2", "second = 5")
    assert case.run("upgrade").code == 0
    case.edit("train.py", "first = 1", "first = 7")
    case.change("train.py", "third = 8", "third = 9")
    with pytest.raises(AssertionError, match="looked for"):
        case.run("upgrade")


def test_a_damaged_finding_in_the_journal_is_an_error_and_an_older_journal_has_none(broken: Case) -> None:
    broken.run("upgrade")
    place = broken.root / UPGRADE_DIR / "journal.json"
    whole = place.read_text()
    for old, new in (('"requirements.txt"', '"../x"'), ('"line": 1', '"line": "x"'), ('"rule"', '"role"')):
        assert whole.count(old) >= 1
        place.write_text(whole.replace(old, new))
        with pytest.raises(PreconditionError, match="damaged"):
            read_journal(broken.root)
    place.write_text(whole.replace('"findings"', '"earlier"'))
    journal = read_journal(broken.root)
    assert journal is not None
    assert journal.findings == ()
    assert apply.resume(broken.root).phase == "finish"
    assert (broken.root / UNDO_DIR).is_dir()


def finding(path: str = "a.py", message: str = "bad", text: str = "x = 1", line: int = 1) -> Finding:
    return Finding(path, line, "ty", "rule", message, text)


@pytest.mark.parametrize(
    "before",
    [
        finding(line=9),
        finding(message="bad: other types"),
        finding(text="x = 2"),
        finding(path="b.py"),
    ],
)
def test_a_finding_that_one_side_has_is_not_new(before: Finding) -> None:
    assert new_findings([finding()], [before], []) == []
    assert new_findings([finding()], [], [before]) == []
    assert new_findings([finding(), finding(line=5)], [before], [before]) == []
    assert len(new_findings([finding(), finding(line=5)], [before], [])) == 1


def test_line_numbers_in_messages_do_not_count() -> None:
    assert (
        new_findings([finding(message="defined at line 3", text="a")], [finding(message="defined at line 5", text="b")])
        == []
    )


@pytest.mark.parametrize(
    "other", [finding(path="b.py", text="y"), finding(message="worse", text="y"), finding("b.py", "worse")]
)
def test_a_finding_that_is_like_none_before_is_new(other: Finding) -> None:
    assert new_findings([finding()], [other], [other]) == [finding()]
