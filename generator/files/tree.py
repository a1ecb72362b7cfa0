"""A tree of files in memory: `render` returns it, `upgrade` merges it, snapshots compare it."""

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
"""Patterns of files that version control, operating systems, editors and Python tools create. Other spellings of `.git`
and `.paccel` are not among them: they are refused, see `check_file_path`."""

PROJECT_FILE = "pyproject.toml"
"""The file with the settings of a project: its requirements, and how its Python files are formatted."""


class File(NamedTuple):
    """One file: its bytes, and whether it is executable (the only part of a file mode that a tree keeps)."""

    content: bytes
    executable: bool = False

    @property
    def sha256(self) -> str:
        return sha256(self.content).hexdigest()


Tree = Mapping[str, File]
"""POSIX path relative to the project's root -> file. Built as a plain `dict`."""


def check_path(path: str) -> str:
    """Return `path` if it is inside the project.

    Raises:
        TemplateError: The path is absolute, leads outside with `..`, is not in normal form, or is not valid UTF-8.
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
    """Read one regular file. On Windows, which has no executable bit, a `#!` line makes it executable."""
    content = path.read_bytes()
    executable = content.startswith(b"#!") if os.name == "nt" else bool(path.stat().st_mode & 0o100)
    return File(content, executable)


def read_inside(path: Path, within: Path) -> File:
    """Read one regular file, or the target of a symbolic link inside `within`.

    Raises:
        TemplateError: A link leaves `within`.
    """
    real = _real(path, within, path.name)
    assert real is not None
    return read_file(real)


def read_tree(root: Path, ignore: Iterable[str] = JUNK, within: Path | None = None) -> dict[str, File]:
    """Read every file below `root`, which need not exist.

    Args:
        root: A folder.
        ignore: Patterns of names to skip. Virtual environments are always skipped.
        within: Follow symbolic links, which must not leave this folder. None: skip links.

    Raises:
        TemplateError: A link leaves `within`, is circular or broken, a name is not UTF-8, or there are too many files or
            bytes.
    """
    tree: dict[str, File] = {}
    junk = _pattern(tuple(ignore))
    size = folders = 0
    # Folders to read: the path in the tree, the folder, and the real folders above it, to detect circular links.
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
    """Return the paths of the folders below `root` that are empty, apart from names that `read_tree` skips."""
    junk = _pattern(tuple(ignore))
    found: list[str] = []
    for folder, folders, files in os.walk(root):
        kept = [name for name in folders if not junk.fullmatch(name) and not _is_environment(Path(folder, name))]
        folders[:] = sorted(kept)
        if not folders and all(junk.fullmatch(name) for name in files) and Path(folder) != root:
            found.append(Path(folder).relative_to(root).as_posix())
    return found


def is_junk(name: str) -> bool:
    """Whether files and folders of this name are skipped, see `JUNK`."""
    return _pattern(JUNK).fullmatch(name) is not None


@cache
def _pattern(ignore: tuple[str, ...]) -> re.Pattern[str]:
    """Combine patterns into one; without patterns, it matches nothing."""
    return re.compile("|".join(translate(pattern) for pattern in ignore) or "(?!)")


def _is_environment(folder: Path) -> bool:
    return (folder / "pyvenv.cfg").is_file()


def _real(place: Path, within: Path | None, shown: str) -> Path | None:
    """Return the real path of a file or folder; None for a link that is skipped.

    Raises:
        TemplateError: A link is broken, circular, or leaves `within`.
    """
    if not place.is_symlink():
        return place
    if within is None:
        return None
    target = os.readlink(place)
    if os.path.isabs(target):
        raise _link_error(shown, target, "an absolute path, which may not exist on other machines")
    try:
        real = place.resolve(strict=True)
    except FileNotFoundError as error:
        raise _link_error(shown, target, "which does not exist") from error
    except (OSError, RuntimeError) as error:  # RuntimeError: circular links, before Python 3.13
        raise _link_error(shown, target, "which cannot be followed: the links go round in a circle") from error
    if not real.is_relative_to(within.resolve()):
        raise _link_error(shown, target, f"outside of the template's folder `{within.name}`")
    if {".git", STATE_DIR} & {*real.relative_to(within.resolve()).parts}:
        raise _link_error(shown, target, "which belongs to git or paccel")
    return real


def _link_error(shown: str, target: str, reason: str) -> TemplateError:
    return TemplateError(
        f"The symbolic link `{shown}` points to `{target}`, {reason}: replace it with a copy of the file"
    )


def _too_large(root: Path) -> TemplateError:
    return TemplateError(f"`{root}` has more than {MAX_FILES} files or {MAX_BYTES // 2**20} MiB")


def write_tree(root: Path, tree: Tree) -> None:
    """Write every file of `tree` below `root`, which need not exist. Modes are 0644 or 0755, whatever the umask."""
    for path, file in tree.items():
        target = root / check_path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.content)
        set_mode(target, 0o755 if file.executable else 0o644)


def set_mode(path: Path, mode: int) -> None:
    """Set the permission bits of a file or folder, unless the disk has none, like exFAT or a network share."""
    try:
        os.chmod(path, mode)
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP}:
            raise


@lru_cache(maxsize=1 << 16)  # a command checks the files of the template, the baseline and the manifest
def check_file_path(path: str) -> str:
    """Return `path` if a template may write it: it is inside the project, and not in `.git` or `.paccel` on any disk.

    Raises:
        TemplateError: The path is not allowed.
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
