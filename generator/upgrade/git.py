"""What an upgrade asks git: which files have uncommitted edits, which are unmerged, and whether file modes count.

The repository is never changed.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from ..errors import PreconditionError
from ..files.git import GitError, run_git
from ..files.tree import Tree
from ..project.compare import modes_tell

TIMEOUT_SECONDS = 30


def dirty_files(root: Path, paths: Iterable[str]) -> list[str]:
    """The paths that git tracks and that differ from the last commit; none outside of a repository.

    Untracked files are not dirty: git could not restore them anyway.

    Raises:
        PreconditionError: There is a repository, but git fails.
    """
    wanted = {*paths}
    if not wanted or not _in_repository(root):
        return []
    options = ("--porcelain", "-z", "--no-renames", "--untracked-files=no", "--ignore-submodules=all")
    try:
        # For the whole project: its list of files may be too long for a command line.
        prefix = _ask(root, "rev-parse", "--show-prefix").removesuffix(b"\n")
        entries = _ask(root, "status", *options, "--", ".").split(b"\0")
    except GitError as error:
        raise PreconditionError(
            f"git cannot tell which files of `{root}` have uncommitted edits: {error.reason}\nFix that, or add"
            " `--allow-dirty` to upgrade without this check"
        ) from error
    names = {os.fsdecode(entry[3:].removeprefix(prefix)) for entry in entries if len(entry) > 3}
    return sorted(names & wanted)


def unmerged_files(root: Path, paths: Iterable[str]) -> set[str]:
    """The paths that git lists as unmerged, with conflicts of `git merge`; none if git cannot tell."""
    wanted = {*paths}
    if not wanted or not _in_repository(root):
        return set()
    try:
        entries = _ask(root, "ls-files", "--unmerged", "-z", "--", ".").split(b"\0")
    except GitError:
        return set()
    return {os.fsdecode(entry.partition(b"\t")[2]) for entry in entries if entry} & wanted


def modes_count(root: Path, base: Tree, here: Tree) -> bool:
    """Whether file modes are the user's: the disk stores them, and git's `core.fileMode` is not off.

    Args:
        root: The project.
        base: The files as generated.
        here: The user's files.
    """
    if all(file.executable == base[path].executable for path, file in here.items() if path in base):
        return True
    if not modes_tell(base, here):
        return False
    if not _in_repository(root):
        return True
    try:
        return _ask(root, "config", "--type=bool", "core.fileMode").strip() != b"false"
    except GitError:  # not set, or git fails
        return True


def _in_repository(root: Path) -> bool:
    return any((folder / ".git").exists() for folder in [root.absolute(), *root.absolute().parents])


def _ask(root: Path, *arguments: str) -> bytes:
    return run_git(*arguments, folder=root, seconds=TIMEOUT_SECONDS, GIT_OPTIONAL_LOCKS="0")
