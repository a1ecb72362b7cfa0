"""The little that an upgrade asks git: which files have changes that are not committed. Git is read, never written."""

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

TIMEOUT_SECONDS = 30


def dirty_files(root: Path, paths: Iterable[str]) -> list[str]:
    """Those of `paths` which git tracks and which differ from the last commit; none outside of a repository.

    Files that git does not know are not dirty: nothing of theirs could be got back from git anyway.
    """
    wanted = sorted(paths)
    if not wanted or not _in_repository(root):
        return []
    command = ["git", "status", "--porcelain", "-z", "--no-renames", "--untracked-files=no", "--", *wanted]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_LITERAL_PATHSPECS": "1"}
    try:
        done = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, timeout=TIMEOUT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    if done.returncode != 0:
        return []
    prefix = _prefix(root)
    names = [os.fsdecode(entry[3:]) for entry in done.stdout.split(b"\0") if len(entry) > 3]
    return sorted(name.removeprefix(prefix) for name in names)


def _in_repository(root: Path) -> bool:
    return any((folder / ".git").exists() for folder in [root.absolute(), *root.absolute().parents])


def _prefix(root: Path) -> str:
    """The project's path inside the repository, with which git's answers begin."""
    place = root.absolute()
    for folder in [place, *place.parents]:
        if (folder / ".git").exists():
            inside = place.relative_to(folder).as_posix()
            return "" if inside == "." else inside + "/"
    return ""
