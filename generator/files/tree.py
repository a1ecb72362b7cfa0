"""A tree of files in memory: what `render` returns, what `upgrade` merges, what snapshots compare."""

import errno
import os
import re
from collections.abc import Iterable, Mapping
from fnmatch import translate
from functools import cache, lru_cache
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ..errors import TemplateError
from .names import is_spelling_of, is_text, problem_of_name

MAX_FILES = 20_000
MAX_BYTES = 256 * 2**20

STATE_DIR = ".paccel"
"""The folder in a project that belongs to paccel: manifest, baseline, an upgrade in progress."""

JUNK = (
    *(".git", ".hg", ".svn", STATE_DIR),
    *(
        ".DS_Store",
        "._*",
        "__MACOSX",
        "[Tt]humbs.db",
        "[Dd]esktop.ini",
        ".directory",
        ".Trash-*",
        ".fuse_hidden*",
        ".nfs*",
    ),
    *("*~", ".*.sw[a-p]", ".#*", "#*#"),
    *("__pycache__", "*.pyc", "*.pyo", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis", ".pytype"),
    *(".ipynb_checkpoints", ".tox", ".nox", ".venv", "*.egg-info"),
)
"""Patterns of what version control, systems, editors and Python's tools put into a folder. Other spellings of `.git` and
`.paccel` are not among them: those are refused, see `check_file_path`."""

PROJECT_FILE = "pyproject.toml"
"""The file of a render that says how its Python files are formatted."""


class File(NamedTuple):
    """One file: its bytes, and whether it is executable (the only part of a mode that a tree keeps)."""

    content: bytes
    executable: bool = False

    @property
    def sha256(self) -> str:
        return sha256(self.content).hexdigest()


Tree = Mapping[str, File]
"""POSIX path relative to the project's root -> file. Built as a plain `dict`."""


def check_path(path: str) -> str:
    """Return `path` if it names something inside the project.

    Raises:
        TemplateError: The path is absolute, climbs out with `..`, is not in normal form, or cannot be written as UTF-8.
    """
    pure = PurePosixPath(path)
    inside = path and not pure.is_absolute() and ".." not in pure.parts and str(pure) == path and path != "."
    if not inside or "\\" in path or "\0" in path or (len(path) > 1 and path[1] == ":"):
        raise TemplateError(f"A file path leads outside the project: `{path}`")
    if not is_text(path):
        raise TemplateError(f"A file path has control characters or is not valid Unicode: {path!a}")
    return path


def tree_hash(tree: Tree) -> str:
    """SHA-256 over every path, mode and content, in path order."""
    digest = sha256()
    for path in sorted(tree):
        file = tree[path]
        digest.update(f"{path}\0{int(file.executable)}\0{file.sha256}\n".encode())
    return digest.hexdigest()


def read_file(path: Path) -> File:
    """Read one regular file; on Windows, where there is no such bit, a `#!` line makes it executable."""
    content = path.read_bytes()
    executable = content.startswith(b"#!") if os.name == "nt" else bool(path.stat().st_mode & 0o100)
    return File(content, executable)


def read_inside(path: Path, within: Path) -> File:
    """Read one regular file; a symbolic link is followed where it does not leave `within`.

    Raises:
        TemplateError: It is a link that leaves `within`.
    """
    real = _real(path, within, path.name)
    assert real is not None
    return read_file(real)


def read_tree(root: Path, ignore: Iterable[str] = JUNK, within: Path | None = None) -> dict[str, File]:
    """Read every file below `root`, which need not exist.

    Args:
        root: A folder.
        ignore: Patterns of names that are passed over; virtual environments are too.
        within: The folder that symbolic links must not leave: what they point to is read in their place. None: links are
            passed over.

    Raises:
        TemplateError: A link leaves `within`, goes round in circles or points to nothing, a name is not UTF-8, or there
            are too many files or bytes.
    """
    tree: dict[str, File] = {}
    junk = _pattern(tuple(ignore))
    size = folders = 0
    # Each with its path in the tree, and the real folders from the root to it, in which a link would go round.
    start = _real(root, within, root.name) if root.is_symlink() else root
    waiting: list[tuple[str, Path, tuple[Path, ...]]] = []
    if start is not None and start.is_dir():
        waiting = [("", start.resolve(), (start.resolve(),))]
    while waiting:
        prefix, folder, above = waiting.pop()
        folders += 1
        for name in sorted(os.listdir(folder)):
            path, place = prefix + name, folder / name
            if junk.fullmatch(name):
                continue
            if not is_text(name):
                raise TemplateError(f"A file name has control characters or is not valid Unicode: {path!a}")
            real = _real(place, within, path)
            if real is None:
                continue
            if real.is_dir():
                if _is_environment(real):
                    continue
                if real in above:
                    raise TemplateError(f"The symbolic link `{path}` leads to a folder that it is in")
                waiting.append((path + "/", real, (*above, real)))
            elif real.is_file():
                size += real.stat().st_size
                if len(tree) == MAX_FILES or size > MAX_BYTES:
                    raise _too_large(root)
                tree[path] = read_file(real)
        if folders + len(waiting) > MAX_FILES:
            raise _too_large(root)
    return tree


def empty_folders(root: Path, ignore: Iterable[str] = JUNK) -> list[str]:
    """Return the paths of the folders below `root` in which there is nothing, or nothing but what `read_tree` passes over."""
    junk = _pattern(tuple(ignore))
    found: list[str] = []
    for folder, folders, files in os.walk(root):
        kept = [name for name in folders if not junk.fullmatch(name) and not _is_environment(Path(folder, name))]
        folders[:] = sorted(kept)
        if not folders and all(junk.fullmatch(name) for name in files) and Path(folder) != root:
            found.append(Path(folder).relative_to(root).as_posix())
    return found


def is_junk(name: str) -> bool:
    """Whether a file or folder of this name is passed over, see `JUNK`."""
    return _pattern(JUNK).fullmatch(name) is not None


@cache
def _pattern(ignore: tuple[str, ...]) -> re.Pattern[str]:
    """One pattern for all of `ignore`; for none of them, one that matches no name."""
    return re.compile("|".join(translate(pattern) for pattern in ignore) or "(?!)")


def _is_environment(folder: Path) -> bool:
    return (folder / "pyvenv.cfg").is_file()


def _real(place: Path, within: Path | None, shown: str) -> Path | None:
    """Return where a file or folder is, after following links; None for a link that is to be passed over.

    Raises:
        TemplateError: It is a link that leaves `within`.
    """
    if not place.is_symlink():
        return place
    if within is None:
        return None
    target = os.readlink(place)
    if os.path.isabs(target):
        raise _link_error(shown, target, "an absolute path, which others do not have")
    try:
        real = place.resolve(strict=True)
    except FileNotFoundError as error:
        raise _link_error(shown, target, "which does not exist") from error
    except (OSError, RuntimeError) as error:  # RuntimeError: a circle of links, before Python 3.13
        raise _link_error(shown, target, "which cannot be followed: the links go round in a circle") from error
    if not real.is_relative_to(within.resolve()):
        raise _link_error(shown, target, f"outside of the template's folder `{within.name}`")
    if {".git", STATE_DIR} & {*real.relative_to(within.resolve()).parts}:
        raise _link_error(shown, target, "which belongs to git or paccel")
    return real


def _link_error(shown: str, target: str, reason: str) -> TemplateError:
    return TemplateError(
        f"The symbolic link `{shown}` points to `{target}`, {reason}: replace it with a copy of the file that is meant"
    )


def _too_large(root: Path) -> TemplateError:
    return TemplateError(f"`{root}` has more than {MAX_FILES} files or {MAX_BYTES // 2**20} MiB")


def write_tree(root: Path, tree: Tree) -> None:
    """Write every file of `tree` below `root`, which need not exist; modes are 0644 or 0755 whatever the umask."""
    for path, file in tree.items():
        target = root / check_path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.content)
        set_mode(target, 0o755 if file.executable else 0o644)


def set_mode(path: Path, mode: int) -> None:
    """Give a file or folder these permission bits; nothing on a disk that holds none, like exFAT or a network share."""
    try:
        os.chmod(path, mode)
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP}:
            raise


@lru_cache(maxsize=1 << 16)  # a command asks for each file of the template, the baseline and the manifest
def check_file_path(path: str) -> str:
    """Return `path` if a template may put a file there: inside the project, not into `.git` or `.paccel` on any disk.

    Raises:
        TemplateError: It may not.
    """
    for part in PurePosixPath(check_path(path)).parts:
        for folder in (".git", STATE_DIR):
            if is_spelling_of(part, folder):
                some = "" if part == folder else f", which is `{folder}` on some disks"
                raise TemplateError(f"A template cannot write into `{part}`{some}: {path!a}")
        problem = problem_of_name(part)
        if problem:
            raise TemplateError(f"A template cannot write `{path}`: the name `{part}` {problem}")
    return path
