"""git commits and clones a project's state unchanged, or `doctor` says why not."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paccel.health import doctor
from paccel.health.git import examine_git
from paccel.project.state import (
    BASELINE_PATH,
    GITATTRIBUTES_PATH,
    GITIGNORE_PATH,
    MANIFEST_PATH,
    STATE_PATHS,
    read_state,
)

Run = Callable[..., Any]
Make = Callable[..., Path]

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("git") is None, reason="needs git")]


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's git settings, with a filter like that of Git LFS."""
    path = tmp_path / "gitconfig"
    path.write_text(
        "[user]\nname = T\nemail = t@example.com\n[init]\ndefaultBranch = main\n"
        '[filter "lfs"]\nclean = "echo version https://git-lfs.github.com/spec/v1"\nrequired = true\n'
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    return path


def git(folder: Path, *arguments: str) -> str:
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def made(paccel: Run, work: Path, template: Make, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in a repository, which is the working directory."""
    demo = template({"train.py": "".join(f"line_{i} = {i}\n" for i in range(200)), "crlf.txt": "a\r\nb\n"})
    git(work, "init", "-q", "net")
    assert paccel("new", "net", "--template", demo).code == 0
    monkeypatch.chdir(work / "net")
    monkeypatch.setattr(doctor, "examine_machine", lambda root: {"paccel": "0", "python": "3"})
    return work / "net"


def unguarded(root: Path) -> None:
    """The state as paccel 0.1.0 wrote it."""
    for path in (GITIGNORE_PATH, GITATTRIBUTES_PATH):
        (root / path).unlink()


@pytest.mark.parametrize(
    ("name", "rules"),
    [
        (".gitignore", "*.zip\n*.json\n"),
        (".gitignore", "*\n!*/\n!.gitignore\n"),
        (".gitattributes", "*.zip filter=lfs diff=lfs merge=lfs -text\n*.json filter=lfs diff=lfs merge=lfs -text\n"),
        (".gitattributes", "* text\n"),
        (".gitattributes", "* text eol=crlf ident\n"),
        (".gitattributes", "* text=auto eol=crlf\n"),
        (".gitattributes", "*.zip working-tree-encoding=UTF-16\n*.json working-tree-encoding=UTF-16\n"),
        (".git/info/exclude", "*.zip\n"),
    ],
)
def test_no_setting_of_the_project_keeps_the_state_from_a_clone(
    made: Path, work: Path, settings: Path, name: str, rules: str
) -> None:
    (made / name).write_text(rules)
    assert examine_git(made) == []
    git(made, "add", "-A")
    git(made, "commit", "-qm", "made")
    git(work, "clone", "-q", "net", "clone")
    for path in STATE_PATHS:
        assert (work / "clone" / path).read_bytes() == (made / path).read_bytes(), path
    assert read_state(work / "clone") == read_state(made)


def test_settings_of_the_user_do_not_either(made: Path, settings: Path, tmp_path: Path) -> None:
    (tmp_path / "ignored").write_text("*.zip\nmanifest.json\n")
    with settings.open("a") as file:
        file.write(f"[core]\nexcludesFile = {tmp_path / 'ignored'}\nautocrlf = true\n")
    assert examine_git(made) == []
    git(made, "add", "-A")
    assert {*STATE_PATHS} <= {*git(made, "ls-files").splitlines()}


def test_a_merge_takes_no_line_of_the_baseline_and_leaves_one_that_is_whole(made: Path) -> None:
    assert git(made, "check-attr", "merge", "diff", "--", BASELINE_PATH).count("unset") == 2
    assert git(made, "check-attr", "merge", "diff", "--", MANIFEST_PATH).count("unspecified") == 2


@pytest.mark.parametrize(
    ("rules", "line", "named"),
    [
        (".*\n", 1, f"git ignores `{MANIFEST_PATH}` and `{BASELINE_PATH}` because of `.*` in line 1"),
        ("x\n.paccel/\n", 2, f"git ignores `{MANIFEST_PATH}` and `{BASELINE_PATH}` because of `.paccel/` in line 2"),
        ("*.zip\n", 1, f"git ignores `{BASELINE_PATH}` because of `*.zip` in line 1 of `.gitignore`"),
    ],
)
def test_doctor_tells_what_git_ignores_and_what_helps(
    paccel: Run, made: Path, rules: str, line: int, named: str
) -> None:
    unguarded(made)
    (made / ".gitignore").write_text(rules)
    outcome = paccel("doctor", "--json")
    assert outcome.code == 3
    (problem,) = outcome.data["project"]["problems"]
    assert problem.startswith(named)
    git(made, *problem.rpartition("run `git ")[2].rstrip("`").split())  # as it says
    assert paccel("doctor", "--json").code == 0


@pytest.mark.parametrize(
    ("rules", "named"),
    [
        (
            "*.zip filter=lfs -text\n",
            f"git changes `{BASELINE_PATH}` in a clone, which may damage it (attribute `filter=lfs`)",
        ),
        ("* text\n", f"git changes `{BASELINE_PATH}` in a clone, which may damage it (attribute `text=set`)"),
        ("* eol=lf\n", f"git changes `{BASELINE_PATH}` in a clone, which may damage it (attribute `eol=lf`)"),
        (
            "*.json filter=lfs\n",
            f"git changes `{MANIFEST_PATH}` in a clone, which may damage it (attribute `filter=lfs`)",
        ),
        ("* text=auto\n", ""),
        ("*.json text\n", ""),
    ],
)
def test_doctor_tells_what_git_changes_and_what_helps(paccel: Run, made: Path, rules: str, named: str) -> None:
    unguarded(made)
    (made / ".gitattributes").write_text(rules)
    outcome = paccel("doctor", "--json")
    assert outcome.code == (3 if named else 0)
    if named:
        (problem,) = outcome.data["project"]["problems"]
        assert problem.startswith(named)
        (made / ".gitattributes").write_text(rules + problem.partition("add the line `")[2].partition("`")[0] + "\n")
        assert paccel("doctor", "--json").code == 0


def test_new_tells_it_too(paccel: Run, work: Path, template: Make) -> None:
    git(work, "init", "-q", "net")
    (work / "net" / ".gitignore").write_text(".*\n")
    outcome = paccel("new", "net", "--template", template())
    assert (outcome.code, outcome.err[:20]) == (0, "Warning: git ignores")


def test_a_project_that_is_ignored_as_a_whole_is_not_gits_business(paccel: Run, work: Path, template: Make) -> None:
    git(work, "init", "-q", ".")
    (work / ".gitignore").write_text("scratch/\n")
    assert paccel("new", "scratch/net", "--template", template()).err == ""


def test_the_next_upgrade_guards_the_state_of_an_older_project(paccel: Run, made: Path) -> None:
    unguarded(made)
    manifest = (made / MANIFEST_PATH).read_text()
    version = read_state(made)[0].paccel
    (made / MANIFEST_PATH).write_text(manifest.replace(f'"paccel": "{version}"', '"paccel": "0.1.0"'))
    assert paccel("upgrade").code == 0
    assert all((made / path).is_file() for path in STATE_PATHS)
    assert paccel("upgrade", "--undo").code == 0
    assert not (made / GITIGNORE_PATH).exists()


def test_a_hook_of_another_repository_is_not_asked(made: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(work, "init", "-q", "other")
    monkeypatch.setenv("GIT_DIR", str(work / "other" / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(work / "other"))
    unguarded(made)
    (made / ".gitignore").write_text(".*\n")
    assert len(examine_git(made)) == 1


def test_a_git_that_refuses_to_answer_is_told(made: Path) -> None:
    (made / ".git" / "HEAD").unlink()
    (problem,) = examine_git(made)
    assert problem.startswith(f"git does not say how it treats `{BASELINE_PATH}`: fatal: not a git repository")


def test_without_git_nothing_is_told(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    assert examine_git(made) == []


def test_only_the_state_goes_into_git_not_the_copies_of_files_that_paccel_puts_aside(made: Path) -> None:
    for place in ("incoming/.env", "aborted/train.py", "undo/old/0", "upgrade/new/0"):
        path = made / ".paccel" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("KEY=secret\n")
    git(made, "add", "-A")
    assert sorted(git(made, "ls-files", ".paccel").split()) == sorted(STATE_PATHS)
