"""The files of a project that matter for an upgrade, read once, so that planning does not touch the disk."""

import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from ..errors import PreconditionError
from ..files.names import is_text
from ..files.tree import File, Tree, read_file

MAX_FOUND = 100_000
MAX_STRAYS = 5000
MAX_STRAY_BYTES = 512 * 1024
MAX_BYTES_OF_STRAYS = 256 * 2**20

Kind = Literal["link", "folder", "file", "special"]

SKIPPED = {"__pycache__", "node_modules", "venv", "env", "site-packages", "runs", "build", "dist"}


class Obstacle(NamedTuple):
    """Something in the way of a file: it is never overwritten, and a link is never followed.

    Attributes:
        kind: A symbolic link; a folder where a file should be; a file where a folder should be; or something special.
        at: The path of the obstacle: the wanted path, or a parent of it.
        below: For a folder, the files in it.
    """

    kind: Kind
    at: str
    below: tuple[str, ...] = ()


class Snapshot(NamedTuple):
    """The project's side of a merge.

    Attributes:
        files: The wanted paths that are regular files.
        obstacles: The wanted paths with something in the way.
        strays: Files of the user, read only if a file of the template is missing: one of them may be that file, renamed.
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
    lookup = _Lookup(root)
    try:
        for path in paths:
            found = lookup.at(path)
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


class _Lookup:
    """Looks up paths below a project's folder, and each folder only once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.kinds: dict[str, Kind | None] = {}
        self.names: dict[str, frozenset[str]] = {}

    def at(self, path: str) -> File | Obstacle | None:
        pure = PurePosixPath(path)
        for parent in map(str, reversed(pure.parents[:-1])):
            if parent not in self.kinds:
                self.kinds[parent] = _kind(self.root / parent)
            kind = self.kinds[parent]
            if kind is None:
                return None
            if kind != "folder":
                return Obstacle(kind, parent)
        kind = _kind(self.root / path)
        if kind == "file":
            return read_file(self.root / path) if self._spelled_so(pure) else None
        if kind == "folder":
            return Obstacle(kind, path, tuple(_files_below(self.root, path)))
        return None if kind is None else Obstacle(kind, path)

    def _spelled_so(self, path: PurePosixPath) -> bool:
        """Whether a file has exactly this name: macOS and Windows also find it by other spellings."""
        folder = str(path.parent)
        if folder not in self.names:
            self.names[folder] = frozenset(os.listdir(self.root / folder))
        return path.name in self.names[folder]


def _kind(path: Path) -> Kind | None:
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISLNK(mode):
        return "link"
    if stat.S_ISDIR(mode):
        return "folder"
    return "file" if stat.S_ISREG(mode) else "special"


def _files_below(root: Path, folder: str) -> Iterator[str]:
    for place, _, names in os.walk(root / folder, onerror=_raise):
        for name in names:
            yield Path(place, name).relative_to(root).as_posix()


def _raise(error: OSError) -> None:
    raise error


def own_files(root: Path, folder: str, known: Collection[str]) -> list[str]:
    """Return the user's own files below a folder of the project, in path order, without bytecode.

    Args:
        root: The project.
        folder: The folder's path.
        known: The paths of the template's files.
    """
    found: list[str] = []
    for place, folders, names in os.walk(root / folder):
        folders[:] = [name for name in folders if name not in SKIPPED and not name.startswith(".")]
        found += [Path(place, name).relative_to(root).as_posix() for name in names if not name.endswith(".pyc")]
    return sorted({*found}.difference(known))


def _strays(root: Path, known: set[str], missing: list[str]) -> dict[str, File]:
    """Read files that may be a missing one under another path: small ones with its suffix, those with its name first."""
    suffixes = {PurePosixPath(path).suffix for path in missing}
    names_of_missing = {PurePosixPath(path).name for path in missing}
    hidden = {part for path in known for part in PurePosixPath(path).parts[:-1] if part.startswith(".")}
    found: list[Path] = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if _is_searched(name, hidden))
        for name in sorted(names):
            path = Path(folder, name)
            relative = path.relative_to(root).as_posix()
            if relative in known or path.suffix not in suffixes or not is_text(relative) or _kind(path) != "file":
                continue
            found.append(path)
        if len(found) >= MAX_FOUND:
            break
    strays: dict[str, File] = {}
    left = MAX_BYTES_OF_STRAYS
    for path in sorted(found, key=lambda path: path.name not in names_of_missing)[:MAX_STRAYS]:
        size = path.stat().st_size
        if size <= min(MAX_STRAY_BYTES, left) and os.access(path, os.R_OK):
            left -= size
            strays[path.relative_to(root).as_posix()] = read_file(path)
    return strays


def _is_searched(folder: str, hidden: set[str]) -> bool:
    """Whether a folder may hold moved files; a hidden folder only if the template has files in one of that name."""
    return folder not in SKIPPED and (not folder.startswith(".") or folder in hidden)
