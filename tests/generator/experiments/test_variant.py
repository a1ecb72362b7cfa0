"""Variants without training: names, locks, and merging them into the project."""

import json
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.run_folders import write_run

from paccel.errors import PreconditionError, UsageError
from paccel.experiments.keep import keep
from paccel.experiments.trial import run_variant
from paccel.experiments.variant import Variant, begin, drop, find_variant, read_variants
from paccel.files.disk import locked_folder

pytestmark = pytest.mark.slow


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def project(work: Path) -> Path:
    (work / "train.py").write_text("rate = 1\nwidth = 2\n")
    (work / ".gitignore").write_text("runs/\n")
    git(work, "init", "-q")
    git(work, "add", "-A")
    git(work, "commit", "-qm", "first")
    write_run(work / "runs" / "a", learning_rate=1, seed=0)
    return work


def edited(project: Path, what: str, text: str) -> Variant:
    variant = begin(project, what)
    (variant.folder / "train.py").write_text(text)
    return variant


@pytest.mark.parametrize(
    ("what", "name"),
    [
        ('It\'s a "test" / of $x', "it-s-a-test-of-x"),
        ("Größere Breite", "größere-breite"),
        ("学習率を上げる", "学習率を上げる"),
    ],
)
def test_an_idea_may_be_told_in_any_language(project: Path, what: str, name: str) -> None:
    variant = begin(project, what)
    assert (variant.name, variant.folder.is_dir(), find_variant(project, name).what) == (name, True, what)
    with pytest.raises(UsageError, match="exists already"):
        begin(project, what)
    drop(variant)
    assert read_variants(project) == []


def test_words_that_name_no_folder_are_refused(project: Path) -> None:
    with pytest.raises(UsageError, match="describe the idea in words"):
        begin(project, "?!")


def test_a_variant_that_is_being_run_is_left_alone(project: Path) -> None:
    variant = edited(project, "one", "rate = 3\nwidth = 2\n")
    with locked_folder(variant.worktree, ""):
        for command in (run_variant, keep, drop):
            with pytest.raises(PreconditionError, match="Another paccel command is working on `one`"):
                command(variant)
    assert keep(variant).conflicts == {}


def test_a_folder_that_is_held_is_waited_for_and_that_is_said(tmp_path: Path) -> None:
    said: list[str] = []

    def wait() -> None:
        with locked_folder(tmp_path, "busy", said.append):
            said.append("free")

    with ThreadPoolExecutor() as pool:
        with locked_folder(tmp_path, ""):
            waiting = pool.submit(wait)
            while not said and not waiting.done():
                time.sleep(0.01)
            assert said == ["busy"]
        waiting.result(60)
    assert said == ["busy", "free"]


def test_conflicts_are_resolved_before_a_variant_is_gone(project: Path) -> None:
    one, two = edited(project, "one", "rate = 3\nwidth = 2\n"), edited(project, "two", "rate = 5\nwidth = 2\n")
    assert keep(one).conflicts == {}
    assert list(keep(two).conflicts) == ["train.py"]
    marked = (project / "train.py").read_bytes()
    for content in (marked, marked[marked.index(b"=======") :]):  # untouched, and half resolved
        (project / "train.py").write_bytes(content)
        assert keep(find_variant(project, "two")).conflicts == {"train.py": "it still has conflict markers"}
        assert (project / "train.py").read_bytes() == content
    (project / "train.py").write_text("rate = 4\nwidth = 2\n")
    (two.folder / "later.py").write_text("x = 1\n")
    with pytest.raises(PreconditionError, match="was edited after it was merged with conflicts"):
        keep(find_variant(project, "two"))
    (two.folder / "later.py").unlink()
    assert keep(find_variant(project, "two")).conflicts == {}
    assert (project / "train.py").read_text() == "rate = 4\nwidth = 2\n"
    assert (read_variants(project), two.worktree.exists()) == ([], False)
    assert len(git(project, "worktree", "list").splitlines()) == 1


def test_a_worktree_that_is_gone_or_damaged_is_dropped(project: Path) -> None:
    variant = edited(project, "one", "rate = 3\n")
    (variant.worktree / ".git").unlink()
    with pytest.raises(PreconditionError):
        keep(variant)
    drop(variant)
    assert read_variants(project) == []
    (project / ".tries" / "torn.json").write_text(json.dumps({"what": "x"})[:-1])
    assert read_variants(project) == []
    assert begin(project, "one").folder.is_dir()
