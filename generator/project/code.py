"""The user's own code: the project's Python files and notebooks that are not from the template; data and runs are skipped."""

import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from ..files.git import GitError, run_git
from ..files.gitignore import ignore_spec
from ..files.names import is_text
from ..files.tree import STATE_DIR, File, read_file
from .snapshot import SKIPPED

MAX_FILES = 5000
MAX_FILE_BYTES = 512 * 1024
MAX_BYTES = 64 * 2**20
MAX_LOOKED_AT = 200_000

_SUFFIXES = (".py", ".pyi", ".ipynb")
_GIT_SECONDS = 30


def read_own_code(root: Path, known: Collection[str]) -> tuple[dict[str, File], list[str]]:
    """Read the Python files, stubs and notebooks of a project that are not among `known`.

    Skipped are hidden folders, virtual environments, symbolic links, files that git ignores (without git, those in the
    root's `.gitignore`), and files that are too large to be code.

    Returns:
        The files by path, and notes about files that were not read.
    """
    wanted = {*known}
    paths = sorted({path for path in _paths(root) if path not in wanted and is_text(path)})
    notes = []
    if len(paths) > MAX_FILES:
        notes.append(f"only the first {MAX_FILES} of your {len(paths)} Python files were searched for renamed names")
    files: dict[str, File] = {}
    left = MAX_BYTES
    for path in paths[:MAX_FILES]:
        try:
            size = (root / path).stat().st_size
            if size <= min(MAX_FILE_BYTES, left):
                left -= size
                files[path] = read_file(root / path)
        except OSError as error:
            notes.append(f"`{path}` cannot be read ({error.strerror}), so nothing was renamed in it")
    return files, notes


def _paths(root: Path) -> Iterator[str]:
    is_ignored = _ignored(root)
    listed = _listed_by_git(root)
    looked_at = 0
    for place, folders, names in os.walk(root):
        relative = Path(place).relative_to(root).as_posix()
        prefix = "" if relative == "." else relative + "/"
        folders[:] = sorted(
            name for name in folders if not _is_skipped(Path(place, name)) and not is_ignored(f"{prefix}{name}/")
        )
        looked_at += len(names)
        if looked_at > MAX_LOOKED_AT:
            return
        for name in names:
            path = prefix + name
            found = name.endswith(_SUFFIXES) and (listed is None or path in listed) and not is_ignored(path)
            if found and not Path(place, name).is_symlink() and Path(place, name).is_file():
                yield path


def _is_skipped(folder: Path) -> bool:
    return (
        folder.name.startswith(".")
        or folder.name in SKIPPED
        or folder.is_symlink()
        or (folder / "pyvenv.cfg").is_file()
        or (folder / STATE_DIR).is_dir()  # another project
    )


def _listed_by_git(root: Path) -> set[str] | None:
    """The files that git tracks or would add; None outside of a repository, or if git fails."""
    if not any((folder / ".git").exists() for folder in [root.absolute(), *root.absolute().parents]):
        return None
    try:
        found = run_git(
            *("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "."),
            folder=root,
            seconds=_GIT_SECONDS,
            GIT_OPTIONAL_LOCKS="0",
        )
    except GitError:
        return None
    return {os.fsdecode(path) for path in found.split(b"\0") if path}


def _ignored(root: Path) -> Callable[[str], bool]:
    """Whether the root's `.gitignore` ignores a path; the path of a folder ends with a slash."""
    path = root / ".gitignore"
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace") if path.is_file() else ""
    except OSError:
        text = ""
    return ignore_spec(text).match_file
