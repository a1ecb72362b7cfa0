"""The files of a project that a check reads: Python, and what declares packages, scripts and jobs."""

import itertools
import os
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from ..errors import TemplateError
from ..files.tree import File, Tree, check_path, read_file
from .mentions import is_text_with_mentions

MAX_FILES = 5_000
MAX_FILE_BYTES = 2**20
MAX_BYTES = 64 * 2**20
MAX_SEEN = 200_000
MAX_TEXTS = 500
MAX_TEXT_BYTES = 128 * 1024

_SKIPPED = {"__pycache__", "node_modules", "venv", "env", "site-packages", "build", "dist", "wandb", "mlruns"}
_DATA = {"runs", "data", "datasets", "outputs", "checkpoints", "logs"}
_SETTINGS = {"pyproject.toml", "ty.toml", "ruff.toml", ".ruff.toml", "py.typed"}
_DECLARATIONS = (
    *("requirements*.txt", "*/requirements*.txt", "requirements/*.txt", "environment.yml", "environment.yaml"),
    *(".github/workflows/*.yml", ".github/workflows/*.yaml", ".gitlab-ci.yml"),
)


class TooLarge(Exception):
    """A project is too large to be checked; the message says why."""


def is_code(path: str) -> bool:
    """Whether a file holds Python code."""
    return path.endswith((".py", ".pyi", ".ipynb"))


def is_python(path: str) -> bool:
    """Whether a Python tool reads a file, as code or as settings."""
    return is_code(path) or PurePosixPath(path).name in _SETTINGS


def is_source(path: str) -> bool:
    """Whether a check reads a file."""
    return _is_read_always(path) or is_text_with_mentions(path)


def _is_read_always(path: str) -> bool:
    return is_python(path) or any(fnmatchcase(path, pattern) for pattern in _DECLARATIONS)


def sources(tree: Mapping[str, File]) -> dict[str, File]:
    """The files of a tree that a check reads."""
    return {path: file for path, file in tree.items() if is_source(path) and len(file.content) <= MAX_FILE_BYTES}


def read_sources(root: Path) -> Tree:
    """Read the files below `root` that a check reads; skips links, environments and data folders.

    Settings and scripts, which may mention code, are read only if they are small, and only the first ones: thousands of
    them are data.

    Raises:
        TooLarge: There are too many files.
    """
    found: dict[str, File] = {}
    seen = size = texts = 0
    for folder, folders, names in os.walk(root):
        relative = Path(folder).relative_to(root).as_posix()
        prefix = "" if relative == "." else f"{relative}/"
        seen += len(names) + len(folders)
        folders[:] = sorted(name for name in folders if _is_searched(Path(folder, name), prefix + name))
        for name in sorted(names):
            path, place = prefix + name, Path(folder, name)
            if not is_source(path) or not _is_path(path) or place.is_symlink() or not os.access(place, os.R_OK):
                continue
            try:
                is_text = not _is_read_always(path)
                limit = (MAX_TEXT_BYTES if texts < MAX_TEXTS else -1) if is_text else MAX_FILE_BYTES
                if place.stat().st_size <= limit and place.is_file():
                    texts += is_text
                    found[path] = read_file(place)
                    size += len(found[path].content)
            except OSError:
                continue  # deleted meanwhile
        if seen > MAX_SEEN or len(found) > MAX_FILES or size > MAX_BYTES:
            raise TooLarge("the project has too many files")
    return found


def _is_path(path: str) -> bool:
    """Whether a file name is allowed on every system."""
    try:
        return check_path(path) == path
    except TemplateError:
        return False


def _is_searched(folder: Path, path: str) -> bool:
    if folder.name in _SKIPPED or (folder.name.startswith(".") and path not in {".github", ".github/workflows"}):
        return False
    if folder.is_symlink() or (folder / "pyvenv.cfg").is_file():
        return False
    return folder.name not in _DATA or _holds_python(folder)


def _holds_python(folder: Path) -> bool:
    """Whether a folder with a name for data is in fact a package or holds scripts."""
    try:
        with os.scandir(folder) as entries:
            return any(entry.name.endswith(".py") for entry in itertools.islice(entries, 1_000))
    except OSError:
        return False
