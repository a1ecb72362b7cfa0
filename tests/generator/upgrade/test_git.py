"""The check for uncommitted edits asks the project's own repository, and reports if git fails."""

import os
import subprocess
from pathlib import Path

import pytest

from paccel.errors import PreconditionError
from paccel.upgrade import git as module
from paccel.upgrade.git import dirty_files


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, timeout=60)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project in a folder of a repository, with one edited file of two."""
    root = tmp_path / "repository" / "sub" / "net"
    root.mkdir(parents=True)
    git(tmp_path / "repository", "init", "-q")
    for name in ("a.txt", "b.txt"):
        (root / name).write_text("old\n")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "x")
    (root / "a.txt").write_text("edited\n")
    return root


def test_only_the_named_files_are_looked_at(project: Path) -> None:
    assert dirty_files(project, ["a.txt", "b.txt", "new.txt"]) == ["a.txt"]
    assert dirty_files(project, ["b.txt"]) == dirty_files(project, []) == []


def test_more_files_than_a_command_line_can_hold(project: Path) -> None:
    assert dirty_files(project, ["a.txt", *(f"{number:0200}.txt" for number in range(20_000))]) == ["a.txt"]


def test_another_repository_in_the_environment_is_not_asked(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "-q", "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "other" / "index"))
    assert dirty_files(project, ["a.txt", "b.txt"]) == ["a.txt"]


def test_line_ends_that_a_checkout_changes_are_no_edit(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "settings"
    settings.write_text("[core]\n\tautocrlf = true\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    (project / "b.txt").unlink()
    git(project, "checkout", "-q", "--", "b.txt")
    assert (project / "b.txt").read_bytes() == b"old\r\n"
    os.utime(project / "b.txt", (0, 0))  # git looks at its content
    assert dirty_files(project, ["b.txt"]) == []


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
def test_a_git_that_takes_too_long_is_a_reason_not_to_upgrade(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dirty_files(project, ["b.txt"]) == []  # answered from git's index
    slow = tmp_path / "bin" / "git"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.2)
    with pytest.raises(PreconditionError, match=r"did not answer within 0\.2 s"):
        dirty_files(project, ["a.txt"])


def test_a_git_that_does_not_answer_is_a_reason_not_to_upgrade(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
        patch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
        with pytest.raises(PreconditionError, match=r"uncommitted edits: [\s\S]*dubious ownership[\s\S]*--allow-dirty"):
            dirty_files(project, ["a.txt"])
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path / "nothing"))
        with pytest.raises(PreconditionError, match="git is not installed"):
            dirty_files(project, ["a.txt"])
        assert dirty_files(tmp_path, ["a.txt"]) == []  # no repository
    (project / ".git").write_text("gitdir: /gone\n")  # a work tree whose repository has moved
    with pytest.raises(PreconditionError, match="not a git repository: /gone"):
        dirty_files(project, ["a.txt"])
