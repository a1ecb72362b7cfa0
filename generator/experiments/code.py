"""The code of a run, put together again: from its git commit and the patch that it keeps, or as it is now."""

import hashlib
import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import PreconditionError
from ..files.git import GitError, run_git
from ..runs.folder import RunFolder

_SECONDS = 120
_NOT_LINKED = {".git", "__pycache__"}


class Code(NamedTuple):
    """Where the code of a run can be started.

    Attributes:
        folder: In which to start it.
        program: The script, from there.
        origin: What it was put together from, in words.
        changed: Source files that differ from what the run recorded.
        is_known: Whether the run recorded its source files.
    """

    folder: Path
    program: str
    origin: str
    changed: tuple[str, ...]
    is_known: bool


def find_root(run: RunFolder) -> Path:
    """Return the folder of the project that a run belongs to: the nearest above it, or the working one, with its script.

    Raises:
        PreconditionError: There is none.
    """
    program = program_of(run)
    path = Path(os.path.abspath(run.path))
    for folder in [*path.parents, Path.cwd()]:
        if (folder / program).is_file():
            return folder
    raise PreconditionError(
        f"`{run.path}` was made by `{program}`, which is in no folder above it: run this command in the project's folder"
    )


def program_of(run: RunFolder) -> str:
    code = run.environment.get("code")
    program = code.get("program") if isinstance(code, Mapping) else None
    return program if isinstance(program, str) and program else "train.py"


def restore_code(run: RunFolder, root: Path, scratch: Path, *, current: bool = False) -> Code:
    """Put the code of a run together again.

    The project's own folder serves where its files are as the run had them. Otherwise the run's git commit is checked out
    in `scratch` and its patch applied; what else lies in the project, such as data, is linked there. What cannot be
    had is named in `changed`.

    Args:
        run: The run.
        root: The project's folder.
        scratch: A folder for it.
        current: Take the files as they are now, whatever the run had.
    """
    recorded = _recorded(run)
    here = Code(root, program_of(run), "the project's files as they are now", _changed(root, recorded), bool(recorded))
    top = _toplevel(root)
    if current or top is None or run.git_commit is None:
        return here
    if recorded and not here.changed and _head(root) == run.git_commit:
        return here._replace(origin="the project's files, which are as the run had them")
    try:
        folder = _check_out(run, root, top, scratch)
    except GitError:  # the commit is not in this clone, or the patch belongs to another one
        return here
    for name in _changed(folder, recorded):  # such as a file that the patch leaves out
        if name not in here.changed and (root / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, folder / name)
    changed = _changed(folder, recorded)
    if recorded and len(changed) > len(here.changed):
        return here
    patch = " and its code.patch" if run.patch() else ""
    return Code(folder, here.program, f"git commit {run.git_commit[:10]}{patch}", changed, bool(recorded))


def changed_since(run: RunFolder, folder: Path) -> tuple[str, ...]:
    """The source files of a run that differ from those in a folder; none where the run has not recorded them."""
    return _changed(folder, _recorded(run))


def _recorded(run: RunFolder) -> dict[str, str]:
    code: Any = run.environment.get("code")
    files = code.get("files") if isinstance(code, Mapping) else None
    return {str(name): str(digest) for name, digest in files.items()} if isinstance(files, Mapping) else {}


def _changed(folder: Path, recorded: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(name for name, digest in sorted(recorded.items()) if _sha256(folder / name) != digest)


def _sha256(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _toplevel(root: Path) -> Path | None:
    try:
        found = run_git("rev-parse", "--show-toplevel", folder=root, seconds=_SECONDS)
    except GitError:
        return None
    return Path(os.fsdecode(found).rstrip("\n"))


def _head(root: Path) -> str | None:
    try:
        return run_git("rev-parse", "HEAD", folder=root, seconds=_SECONDS).decode().strip()
    except GitError:
        return None


def _check_out(run: RunFolder, root: Path, top: Path, scratch: Path) -> Path:
    """Write the files of the run's commit, patched, to `scratch`, and link what else the repository's folder holds.

    Nothing of this is written to the repository: the index is a file of its own.

    Raises:
        GitError: The commit is not there, or the patch does not fit.
    """
    target = scratch / "code"
    target.mkdir()
    assert run.git_commit is not None
    index = str(scratch / "index")
    run_git("read-tree", run.git_commit, folder=top, seconds=_SECONDS, GIT_INDEX_FILE=index)
    run_git(
        "checkout-index", "--all", "--force", f"--prefix={target}/", folder=top, seconds=_SECONDS, GIT_INDEX_FILE=index
    )
    if patch := run.patch():
        run_git(
            "apply",
            "--whitespace=nowarn",
            "-",
            folder=target,
            seconds=_SECONDS,
            typed=patch.encode("utf-8", "surrogateescape"),
            GIT_CEILING_DIRECTORIES=str(scratch.resolve()),
        )
    link_the_rest(top, target, Path(os.path.abspath(run.path)).resolve())
    return target / os.path.relpath(root.resolve(), top.resolve())


def link_the_rest(source: Path, target: Path, run: Path, without: Collection[Path] = ()) -> None:
    """Link what `target` lacks of a project's folder, such as data, but no code, not a run, and not what is `without`."""
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
