"""The user's own code: Python files and notebooks of a project that are not the template's, found without its data and runs."""

import os
from collections.abc import Collection, Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from ..files.git import GitError, run_git
from ..files.names import is_text
from ..files.tree import STATE_DIR, File, read_file
from .snapshot import PASSED_OVER

MAX_FILES = 5000
MAX_FILE_BYTES = 512 * 1024
MAX_BYTES = 64 * 2**20
MAX_LOOKED_AT = 200_000

_SUFFIXES = (".py", ".pyi", ".ipynb")
_GIT_SECONDS = 30


def read_own_code(root: Path, known: Collection[str]) -> tuple[dict[str, File], list[str]]:
    """Read the Python files, stubs and notebooks of a project that are not among `known`.

    Passed over are hidden folders, virtual environments, symbolic links, what git ignores (without git, what the root's
    `.gitignore` names plainly), and files that are too large for code.

    Returns:
        The files by path, and notes about files that were not searched.
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
            notes.append(f"`{path}` cannot be read ({error.strerror}), so no name in it was changed")
    return files, notes


def _paths(root: Path) -> Iterator[str]:
    ignored = _ignored(root)
    listed = _listed_by_git(root)
    looked_at = 0
    for place, folders, names in os.walk(root):
        relative = Path(place).relative_to(root).as_posix()
        prefix = "" if relative == "." else relative + "/"
        folders[:] = sorted(name for name in folders if not _is_passed_over(Path(place, name), prefix + name, ignored))
        looked_at += len(names)
        if looked_at > MAX_LOOKED_AT:
            return
        for name in names:
            path = prefix + name
            found = name.endswith(_SUFFIXES) and (listed is None or path in listed) and not ignored(path, False)
            if found and not Path(place, name).is_symlink() and Path(place, name).is_file():
                yield path


def _is_passed_over(folder: Path, path: str, ignored: "_Ignored") -> bool:
    name = folder.name
    return (
        name.startswith(".")
        or name in PASSED_OVER
        or folder.is_symlink()
        or (folder / "pyvenv.cfg").is_file()
        or (folder / STATE_DIR).is_dir()  # another project
        or ignored(path, True)
    )


def _listed_by_git(root: Path) -> set[str] | None:
    """What git tracks or would add; None outside of a repository, or where git cannot tell."""
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


class _Ignored:
    """The plain lines of a `.gitignore`: names, and paths from the root; git itself knows the rest."""

    def __init__(self, lines: list[str]) -> None:
        self.patterns: list[tuple[str, bool, bool]] = []
        for line in lines:
            line = line.strip()
            if line and line[0] not in "#!":
                pattern = line.rstrip("/")
                anchored = "/" in pattern
                self.patterns.append((pattern.removeprefix("/"), anchored, line.endswith("/")))

    def __call__(self, path: str, folder: bool) -> bool:
        name = PurePosixPath(path).name
        return any(
            fnmatchcase(path if anchored else name, pattern)
            for pattern, anchored, only_folders in self.patterns
            if folder or not only_folders
        )


def _ignored(root: Path) -> _Ignored:
    path = root / ".gitignore"
    try:
        return _Ignored(path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else [])
    except OSError:
        return _Ignored([])
