"""A project's folder: finding it, reading the template's files in it, creating a new one."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..errors import PreconditionError, UsageError
from ..files import disk
from ..files.scratch import remove
from ..files.tree import STATE_DIR, File, Tree, read_file, write_tree
from .state import Manifest, write_state


def find_project(start: Path) -> Path:
    """Return the folder of the project that `start` is in: the nearest one with a `.paccel`.

    Raises:
        PreconditionError: There is none.
    """
    start = Path(os.path.abspath(start))
    for folder in [start, *start.parents]:
        if (folder / STATE_DIR).is_dir():
            return folder
    raise PreconditionError(
        f"`{start}` is not in a paccel project: go to the project's folder, or run `paccel adopt` if it lost its"
        f" `{STATE_DIR}`"
    )


def read_paths(root: Path, paths: Iterable[str]) -> dict[str, File]:
    """Read those of `paths` that are files below `root`.

    Raises:
        PreconditionError: One cannot be read.
    """
    try:
        return {path: read_file(root / path) for path in paths if (root / path).is_file()}
    except OSError as error:
        raise PreconditionError(f"`{error.filename}` cannot be read: {error.strerror}") from error


def check_target(target: Path) -> None:
    """Check that a new project can be written to `target`: nothing is there, or an empty folder.

    Raises:
        UsageError: Something is there, or a parent is not a folder.
    """
    try:
        if target.is_dir():
            if any(target.iterdir()):
                raise UsageError(f"`{target}` is not empty: give a new or an empty folder")
        elif os.path.lexists(target):
            raise UsageError(f"`{target}` exists and is not a folder: give another path")
        parent = next(parent for parent in Path(os.path.abspath(target)).parents if os.path.lexists(parent))
    except OSError as error:
        raise UsageError(f"`{target}` cannot be used: {error.strerror}") from error
    if not parent.is_dir():
        raise UsageError(f"`{target}` cannot be created: `{parent}` is not a folder")


def create_project(target: Path, manifest: Manifest, tree: Tree) -> None:
    """Write a new project to `target`, all or nothing: a failure or Ctrl-C leaves what was there before.

    Raises:
        UsageError: `target` is taken, or cannot be written.
    """
    check_target(target)
    root = Path(os.path.abspath(target))
    exists = root.is_dir()
    staging = (root if exists else root.parent) / f".{root.name}.paccel-{os.getpid()}"
    parents = [parent for parent in root.parents if not parent.exists()]
    made: list[Path] = []
    try:
        for parent in reversed(parents):
            parent.mkdir()
        with _recorded(staging, made):
            staging.mkdir()  # not `mkdtemp`, whose mode would stay the project's
        write_tree(staging, tree)
        write_state(staging, manifest, tree)
        disk.settle_tree(staging)
        if not exists:
            with _recorded(root, made):
                disk.rename(staging, root)
            disk.settle(root.parent)
            return
        # A folder that exists is filled, not replaced: it may be a mount, or the shell's working directory.
        for entry in sorted(staging.iterdir(), key=lambda entry: (entry.name == STATE_DIR, entry.name)):
            with _recorded(root / entry.name, made):
                disk.rename(entry, root / entry.name)
        staging.rmdir()
        disk.settle(root)
    except BaseException as error:
        for path in reversed(made):
            if path.is_dir():
                remove(path)
            else:
                path.unlink(missing_ok=True)
        for parent in parents:
            with contextlib.suppress(OSError):  # not made yet, or not ours alone any more
                parent.rmdir()
        if isinstance(error, OSError):
            raise UsageError(f"`{target}` cannot be written: {error.strerror}") from error
        raise


@contextlib.contextmanager
def _recorded(path: Path, made: list[Path]) -> Iterator[None]:
    """Record `path` before the block makes it, because Ctrl-C may come in between; a failed operation made nothing."""
    made.append(path)
    try:
        yield
    except OSError:
        made.pop()
        raise
