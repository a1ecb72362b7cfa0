"""A `.gitignore` means what git makes of it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from paccel.files.gitignore import ignore_spec

TEXT = "# data\n/data/*\n!/data/keep.py\nruns/\n*.tmp\n!\n\\\ndocs/**/a.py\nnet/old\n"
PATHS = ["data/a.py", "data/keep.py", "data/b/c.py", "x/data/a.py", "runs/a.py", "x/runs/a.py", "a.tmp", "a.py"]
PATHS += ["docs/a.py", "docs/b/c/a.py", "net/old", "x/net/old", "!", "\\"]


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_same_paths_are_ignored_as_by_git(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True, timeout=60)
    (tmp_path / ".gitignore").write_text(TEXT)
    given = "\0".join(PATHS)
    asked = ["git", "check-ignore", "--no-index", "-z", "--stdin"]
    found = subprocess.run(asked, cwd=tmp_path, input=given, capture_output=True, text=True, timeout=60, check=False)
    assert [path for path in PATHS if ignore_spec(TEXT).match_file(path)] == found.stdout.split("\0")[:-1]


def test_a_folder_ends_with_a_slash() -> None:
    spec = ignore_spec(TEXT)
    assert [path for path in ("runs/", "runs", "x/runs/", "data/") if spec.match_file(path)] == ["runs/", "x/runs/"]
