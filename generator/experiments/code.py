"""Restore the code of a run from its git commit and `code.patch`, or use the project's files as they are now."""

import hashlib
import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from ..errors import PreconditionError
from ..files.git import GitError, run_git
from ..runs.folder import RunFolder
from .worktree import SECONDS, project_in, toplevel

_NOT_LINKED = {".git", "__pycache__"}


class Code(NamedTuple):
    """Code with which a run can be started.

    Attributes:
        folder: The folder to start the script in.
        origin: Where the code comes from, in words.
        changed: Source files that differ from what the run recorded.
        is_known: Whether the run recorded its source files.
    """

    folder: Path
    origin: str
    changed: tuple[str, ...]
    is_known: bool


def find_root(run: RunFolder) -> Path:
    """Return the project's folder: the nearest one above the run that has its training script, else the working directory.

    Raises:
        PreconditionError: None of them has the script.
    """
    path = Path(os.path.abspath(run.path))
    for folder in [*path.parents, Path.cwd()]:
        if (folder / run.program).is_file():
            return folder
    raise PreconditionError(
        f"The script of `{run.path}`, `{run.program}`, is in no folder above it: run this command in the project's folder"
    )


def restore_code(run: RunFolder, root: Path, scratch: Path, *, current: bool = False) -> Code:
    """Restore the code of a run.

    If the project's files are those of the run, they are used. Otherwise the run's git commit is checked out in `scratch`
    with its patch applied, and other files of the project, such as data, are linked there. Files that cannot be restored
    are listed in `changed`.

    Args:
        run: The run.
        root: The project's folder.
        scratch: A folder to check the code out in.
        current: Use the project's files as they are now.
    """
    is_known = bool(run.code_files)
    here = Code(root, "the project's files as they are now", changed_since(run, root), is_known)
    if current or run.git_commit is None:
        return here
    try:
        top = toplevel(root)
    except PreconditionError:  # not in a git repository
        return here
    if is_known and not here.changed and _head(root) == run.git_commit:
        return here._replace(origin="the project's files, unchanged since the run")
    try:
        folder = _check_out(run, root, top, scratch)
    except GitError:  # this clone lacks the commit, or the patch does not apply
        return here
    for name in changed_since(run, folder):  # such as a file that the patch leaves out
        if name not in here.changed and (root / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, folder / name)
    changed = changed_since(run, folder)
    if is_known and len(changed) > len(here.changed):
        return here
    patch = " and its code.patch" if run.patch() else ""
    return Code(folder, f"git commit {run.git_commit[:10]}{patch}", changed, is_known)


def changed_since(run: RunFolder, folder: Path) -> tuple[str, ...]:
    """Return the source files of a run that differ from those in a folder; none if the run has not recorded them."""
    recorded = run.code_files or {}
    return tuple(name for name, digest in sorted(recorded.items()) if _sha256(folder / name) != digest)


def _sha256(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _head(root: Path) -> str | None:
    try:
        return run_git("rev-parse", "HEAD", folder=root, seconds=SECONDS).decode().strip()
    except GitError:
        return None


def _check_out(run: RunFolder, root: Path, top: Path, scratch: Path) -> Path:
    """Check the run's commit out in `scratch`, apply its patch, and link the other files of the repository's folder.

    Nothing is written to the repository: git uses an index in `scratch`.

    Raises:
        GitError: The commit is missing, or the patch does not apply.
    """
    target = scratch / "code"
    target.mkdir()
    assert run.git_commit is not None
    index = str(scratch / "index")
    run_git("read-tree", run.git_commit, folder=top, seconds=SECONDS, GIT_INDEX_FILE=index)
    checkout = ("checkout-index", "--all", "--force", f"--prefix={target}/")
    run_git(*checkout, folder=top, seconds=SECONDS, GIT_INDEX_FILE=index)
    if patch := run.patch():
        run_git(
            "apply",
            "--whitespace=nowarn",
            "-",
            folder=target,
            seconds=SECONDS,
            typed=patch.encode("utf-8", "surrogateescape"),
            GIT_CEILING_DIRECTORIES=str(scratch.resolve()),
        )
    link_the_rest(top, target, Path(os.path.abspath(run.path)).resolve())
    return project_in(target, root, top)


def link_the_rest(source: Path, target: Path, run: Path, without: Collection[Path] = ()) -> None:
    """Link files of a project that its copy lacks, such as data. Python code and the run itself are not linked.

    Args:
        source: The folder with the files.
        target: The copy.
        run: The run directory.
        without: Files and folders of `source` that are not linked.
    """
    for entry in os.scandir(source):
        path, there = Path(entry.path), target / entry.name
        real = path.resolve()
        if entry.name in _NOT_LINKED or real == run or path in without or entry.name.endswith((".py", ".pyc")):
            continue
        if run.is_relative_to(real):
            there.mkdir(exist_ok=True)
        elif not os.path.lexists(there):
            there.symlink_to(real)
        if there.is_dir() and not there.is_symlink():
            link_the_rest(path, there, run, without)
