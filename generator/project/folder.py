"""A project's folder: find it, read files in it, create a new one."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from ..errors import PreconditionError, UsageError
from ..files import disk
from ..files.names import folded
from ..files.scratch import remove
from ..files.tree import STATE_DIR, File, Tree, read_file, write_tree
from .snapshot import take_snapshot
from .state import Manifest, write_state


def find_project(start: Path) -> Path:
    """Return the folder of the project that contains `start`: the nearest one with a `.paccel`.

    Raises:
        PreconditionError: `start` is not in a project.
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
    """Read the `paths` below `root` that are files.

    Raises:
        PreconditionError: A file cannot be read.
    """
    try:
        return {path: read_file(root / path) for path in paths if (root / path).is_file()}
    except OSError as error:
        raise PreconditionError(f"`{error.filename}` cannot be read: {error.strerror}") from error


def check_target(target: Path) -> None:
    """Check that a new project can be created at `target`: nothing is there, or a folder that is not a project.

    Raises:
        UsageError: A project or a file is there, or a parent is not a folder.
    """
    try:
        if os.path.lexists(target / STATE_DIR):
            raise UsageError(
                f"`{target}` is a paccel project already: change it with `paccel upgrade` or `paccel set`; if its"
                f" `{STATE_DIR}` is damaged, run `paccel adopt` in it"
            )
        if os.path.lexists(target) and not target.is_dir():
            raise UsageError(f"`{target}` exists and is not a folder: give another path")
        parent = next(parent for parent in Path(os.path.abspath(target)).parents if os.path.lexists(parent))
    except OSError as error:
        raise UsageError(f"`{target}` cannot be used: {error.strerror}") from error
    if not parent.is_dir():
        raise UsageError(f"`{target}` cannot be created: `{parent}` is not a folder")


def check_room(target: Path, tree: Tree) -> None:
    """Check that `target` has no other file where a file of `tree` would go. A file with the same content is fine.

    Raises:
        UsageError: `check_target` fails, or files are in the way; the message lists all of them.
        PreconditionError: A file cannot be read.
    """
    check_target(target)
    if not target.is_dir():
        return
    found = take_snapshot(target, tree, {})
    words = {"folder": " (a folder)", "link": " (a symbolic link)", "file": " (a file)", "special": ""}
    taken = {path: f"`{path}`" for path, file in found.files.items() if file.content != tree[path].content}
    taken |= {obstacle.at: f"`{obstacle.at}`{words[obstacle.kind]}" for obstacle in found.obstacles.values()}
    taken |= {path: f"`{path}` (`{here}` in the template)" for path, here in _other_spellings(target, tree)}
    if taken:
        names = ", ".join(taken[path] for path in sorted(taken))
        raise UsageError(
            f"`{target}` has files where the template's would go: {names}; move them away, run the command again and"
            " merge them by hand, or choose another folder"
        )


def _other_spellings(root: Path, tree: Tree) -> Iterator[tuple[str, str]]:
    """Yield (path in `root`, path in `tree`) of files that differ only in case or accents: one file on macOS and Windows."""
    wanted: dict[str, set[str]] = {}
    for path in tree:
        for parent in PurePosixPath(path).parents:
            wanted.setdefault(str(parent), set()).add(path.removeprefix(f"{parent}/").partition("/")[0])
    for folder, names in wanted.items():
        here = set(os.listdir(root / folder)) if (root / folder).is_dir() else set()
        alike = {folded(name): name for name in here}
        for name in names - here:
            if folded(name) in alike:
                yield str(PurePosixPath(folder, alike[folded(name)])), str(PurePosixPath(folder, name))


def create_project(
    target: Path, manifest: Manifest, tree: Tree, baseline: Tree | None = None, folders: Iterable[str] = ()
) -> None:
    """Write a new project to `target`, all or nothing: after an error or Ctrl-C, `target` is as before.

    A new folder appears in one step. An existing folder is filled file by file, the state last: if the process is killed,
    every file is complete, and running the same command again finishes the project.

    Args:
        target: The project's folder.
        manifest: The manifest of the baseline.
        tree: The project's files.
        baseline: The same files without secret answers. None: `tree`.
        folders: Paths of folders to create, which may stay empty.

    Raises:
        UsageError: Files are in the way, or `target` cannot be written.
        PreconditionError: A file cannot be read.
    """
    check_room(target, tree)
    root = Path(os.path.abspath(target))
    exists = root.is_dir()
    place, prefix = root if exists else root.parent, f".{root.name}.paccel-"
    staging = place / f"{prefix}{os.getpid()}"
    parents = [parent for parent in root.parents if not parent.exists()]
    made: list[Path] = []
    try:
        for parent in reversed(parents):
            parent.mkdir()
        _remove_abandoned(place, prefix)
        with _recorded(staging, made):
            staging.mkdir()  # not `mkdtemp`: the project would keep its private mode
        write_tree(staging, tree)
        for folder in folders:
            (staging / folder).mkdir(parents=True, exist_ok=True)
        write_state(staging, manifest, tree if baseline is None else baseline)
        disk.settle_tree(staging)
        if exists:  # filled, not replaced: it may be a mount point, or the shell's working directory
            _fill(root, staging, made)
            remove(staging)
        else:
            with _recorded(root, made):
                disk.rename(staging, root)
            disk.settle(root.parent)
    except BaseException as error:
        for path in reversed(made):
            if path.is_dir():
                remove(path)
            else:
                path.unlink(missing_ok=True)
        for parent in parents:
            with contextlib.suppress(OSError):  # not created yet, or no longer empty
                parent.rmdir()
        if isinstance(error, OSError):
            raise UsageError(f"`{target}` cannot be written: {error.strerror}") from error
        raise


def _fill(folder: Path, staged: Path, made: list[Path]) -> None:
    """Move all staged files into `folder`, the `.paccel` folder last."""
    for entry in sorted(staged.iterdir(), key=lambda entry: (entry.name == STATE_DIR, entry.name)):
        place = folder / entry.name
        if entry.is_dir() and place.is_dir():
            _fill(place, entry, made)
        elif not os.path.lexists(place):
            with _recorded(place, made):
                disk.rename(entry, place)
        elif not place.is_file() or place.read_bytes() != entry.read_bytes():
            raise UsageError(f"`{place}` appeared while the project was being written: run `paccel new` again")
    disk.settle(folder)


def _remove_abandoned(place: Path, prefix: str) -> None:
    """Remove the staging folders that a killed `paccel new` left in `place`: their names end with the process's id."""
    if os.name == "nt":
        return  # signal 0 would not just test for the process there
    try:
        names = os.listdir(place)
    except PermissionError:
        return  # a folder may be writable, but not readable
    for name in names:
        number = name.removeprefix(prefix)
        if name.startswith(prefix) and number.isdecimal() and (place / name).is_dir():
            try:
                os.kill(int(number), 0)
            except (ProcessLookupError, OverflowError):
                remove(place / name)
            except PermissionError:
                continue  # a process of another user


@contextlib.contextmanager
def _recorded(path: Path, made: list[Path]) -> Iterator[None]:
    """Record `path` before the block creates it, as Ctrl-C may come right after; forget it if the block fails."""
    made.append(path)
    try:
        yield
    except OSError:
        made.pop()
        raise
