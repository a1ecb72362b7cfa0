"""git is run in one place, isolated from any repository that a hook works on."""

import ast
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from paccel.files.git import GitError, GitMissingError, GitTimeoutError, run_git

GENERATOR = Path(__file__).parents[3] / "generator"

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def test_the_variables_of_a_hook_are_not_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = subprocess.run(["git", "rev-parse", "--local-env-vars"], check=True, capture_output=True, text=True)
    for name in listed.stdout.split():
        if not name.startswith("GIT_CONFIG"):
            monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    run_git("init", "--quiet", "repo", folder=tmp_path, seconds=60)
    (tmp_path / "repo" / "a.txt").write_text("a\n")
    run_git("add", "a.txt", folder=tmp_path / "repo", seconds=60)
    assert run_git("ls-files", folder=tmp_path / "repo", seconds=60) == b"a.txt\n"
    assert not (tmp_path / "elsewhere").exists()


def test_settings_given_in_the_environment_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("COUNT", "1"), ("KEY_0", "paccel.test"), ("VALUE_0", "kept")):
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    assert run_git("config", "paccel.test", seconds=60) == b"kept\n"


def test_a_reason_is_gits_own_without_its_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\nprintf 'ssh: Could not resolve \\033[1mhostname\\r\\n' >&2\nexit 255\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(ssh))
    with pytest.raises(GitError) as caught:
        run_git("clone", "git@host:x.git", str(tmp_path / "x"), seconds=60)
    assert caught.value.reason == (
        "ssh: Could not resolve  [1mhostname\n  fatal: Could not read from remote repository."
    )


def test_git_that_is_missing_or_slow_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = tmp_path / "ssh"
    slow.write_text("#!/bin/sh\nsleep 30\n")  # a helper that keeps what it was given open
    slow.chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(slow))
    start = time.monotonic()
    with pytest.raises(GitTimeoutError, match=r"did not answer within 0\.3 s"):
        run_git("clone", "git@host:x.git", str(tmp_path / "x"), seconds=0.3)
    assert time.monotonic() - start < 10
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(GitMissingError):
        run_git("version", seconds=60)


def test_no_other_file_runs_git() -> None:
    calls = [
        path.relative_to(GENERATOR).as_posix()
        for path in GENERATOR.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.List)
        and node.elts
        and isinstance(node.elts[0], ast.Constant)
        and node.elts[0].value == "git"
    ]
    assert {*calls} == {"files/git.py"}
