"""A tree of files in memory: what `render` returns, what `upgrade` merges, what snapshots compare."""

import os
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ..errors import TemplateError

STATE_DIR = ".paccel"
"""The folder in a project that belongs to paccel: manifest, baseline, an upgrade in progress."""

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
        TemplateError: The path is absolute, climbs out with `..`, or is not in normal form.
    """
    pure = PurePosixPath(path)
    inside = path and not pure.is_absolute() and ".." not in pure.parts and str(pure) == path and path != "."
    if not inside or "\\" in path or "\0" in path or (len(path) > 1 and path[1] == ":"):
        raise TemplateError(f"A file path leads outside the project: `{path}`")
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


def read_tree(root: Path, ignore: Iterable[str] = ("__pycache__", STATE_DIR, ".git")) -> dict[str, File]:
    """Read every regular file below `root`; folders named in `ignore` and byte-code are passed over."""
    ignored = set(ignore)
    tree: dict[str, File] = {}
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in ignored)
        for name in sorted(files):
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink() and path.suffix not in {".pyc", ".pyo"}:
                tree[path.relative_to(root).as_posix()] = read_file(path)
    return tree


def write_tree(root: Path, tree: Tree) -> None:
    """Write every file of `tree` below `root`, which need not exist; modes are 0644 or 0755 whatever the umask."""
    for path, file in tree.items():
        target = root / check_path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.content)
        target.chmod(0o755 if file.executable else 0o644)


def check_file_path(path: str) -> str:
    """Return `path` if a template may put a file there: inside the project, and not into `.git` or `.paccel`.

    Raises:
        TemplateError: It may not.
    """
    parts = PurePosixPath(check_path(path)).parts
    # Casefolded, because `.GIT/hooks` is `.git/hooks` on the disks of macOS and Windows.
    if parts[0].casefold() == STATE_DIR or any(part.casefold() == ".git" for part in parts):
        raise TemplateError(f"A template cannot write into `{parts[0]}`: `{path}`")
    return path
