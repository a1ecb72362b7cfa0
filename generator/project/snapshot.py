"""What is in a project's folder where an upgrade looks: read once, so that planning needs no disk."""

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from ..errors import PreconditionError
from ..files.tree import File, Tree, read_file

MAX_STRAYS = 2000
MAX_STRAY_BYTES = 512 * 1024

_PASSED_OVER = {"__pycache__", "node_modules", "venv", "env", "site-packages", "runs", "build", "dist"}


class Obstacle(NamedTuple):
    """Something at a path, or above it, that is not a regular file and is never written through or replaced.

    Attributes:
        kind: A symbolic link; a folder where a file should be; a file where a folder should be; or none of these.
        at: The path of the obstacle: the wanted path, or a parent of it.
        below: For a folder, the files in it.
    """

    kind: Literal["link", "folder", "file", "special"]
    at: str
    below: tuple[str, ...] = ()


class Snapshot(NamedTuple):
    """The project's side of a merge.

    Attributes:
        files: The wanted paths that are regular files.
        obstacles: The wanted paths that cannot be files now.
        strays: Files of the project that are not the template's, read only when a file of the template is missing:
            one of them may be that file, renamed.
    """

    files: Mapping[str, File]
    obstacles: Mapping[str, Obstacle] = {}
    strays: Mapping[str, File] = {}


def take_snapshot(root: Path, wanted: Iterable[str], base: Tree) -> Snapshot:
    """Read the `wanted` paths below `root`, and the strays if a file of `base` is missing.

    Raises:
        PreconditionError: A file cannot be read.
    """
    files: dict[str, File] = {}
    obstacles: dict[str, Obstacle] = {}
    paths = sorted(wanted)
    try:
        for path in paths:
            found = _look(root, path)
            if isinstance(found, File):
                files[path] = found
            elif found is not None:
                obstacles[path] = found
        missing = [path for path in base if path not in files and path not in obstacles]
        strays = _strays(root, set(paths), missing) if missing else {}
    except OSError as error:
        raise PreconditionError(
            f"`{error.filename}` cannot be read: {error.strerror}; make it readable and try again"
        ) from error
    return Snapshot(files, obstacles, strays)


def _look(root: Path, path: str) -> File | Obstacle | None:
    parts = PurePosixPath(path).parts
    for depth in range(1, len(parts)):
        parent = "/".join(parts[:depth])
        kind = _kind(root / parent)
        if kind is None:
            return None
        if kind != "folder":
            return Obstacle(kind, parent)
    kind = _kind(root / path)
    if kind == "file":
        if _case_differs(root / path):
            return None
        return read_file(root / path)
    if kind == "folder":
        return Obstacle(kind, path, tuple(_files_below(root, path)))
    return None if kind is None else Obstacle(kind, path)


def _kind(path: Path) -> Literal["link", "folder", "file", "special"] | None:
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISLNK(mode):
        return "link"
    if stat.S_ISDIR(mode):
        return "folder"
    return "file" if stat.S_ISREG(mode) else "special"


def _case_differs(path: Path) -> bool:
    """Whether the disk found `path` under another spelling, as those of macOS and Windows do."""
    return path.name not in os.listdir(path.parent) if path.name != path.name.swapcase() else False


def _files_below(root: Path, folder: str) -> Iterator[str]:
    for place, _, names in os.walk(root / folder):
        for name in names:
            yield Path(place, name).relative_to(root).as_posix()


def _strays(root: Path, known: set[str], missing: list[str]) -> dict[str, File]:
    """Files that may be a missing one under another name: of the same suffix, not large, not hidden."""
    suffixes = {PurePosixPath(path).suffix for path in missing}
    strays: dict[str, File] = {}
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _PASSED_OVER)
        for name in sorted(names):
            path = Path(folder, name)
            relative = path.relative_to(root).as_posix()
            if relative in known or path.suffix not in suffixes or _kind(path) != "file":
                continue
            if path.stat().st_size <= MAX_STRAY_BYTES and os.access(path, os.R_OK):
                strays[relative] = read_file(path)
                if len(strays) == MAX_STRAYS:
                    return strays
    return strays
