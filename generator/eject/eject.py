"""Copy the runtime into a project and rewrite the project for it, as one upgrade: planned, journaled, undone like any other.

The same rewriting is applied to the baseline and to the user's files, so nothing has to be merged. Later upgrades apply it
to each new render.
"""

import os
import tomllib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from .. import __version__
from ..errors import PreconditionError, UsageError
from ..files import disk
from ..files.names import is_text
from ..files.tree import PROJECT_FILE, File, Tree, check_file_path, is_junk
from ..project.folder import read_paths
from ..project.state import Manifest, read_state
from ..upgrade import apply
from ..upgrade.change import FileChange
from ..upgrade.preconditions import refuse_newer, refuse_unfinished
from ..upgrade.upgrade import Outcome, Plan, apply_plan
from ..vendor.rewrite import in_project, is_rewritten, lines_left, rewritten, uses_runtime
from ..vendor.runtime import PACKAGE, Vendored, runtime_files, vendored_at

MAX_BYTES = 8 * 2**20
"""Larger files are data."""

MAX_NAMES = 10

_PASSED_OVER = {"node_modules", "venv", "env", "site-packages", "runs", "build", "dist"}
_HIDDEN = {".github", ".gitlab", ".circleci", ".devcontainer", ".vscode", ".ci"}
_LOCKS = ("uv.lock", "poetry.lock", "pdm.lock", "pixi.lock", "conda-lock.yml")
_SOURCES = ("src", "lib")


class Ejection(NamedTuple):
    """What `eject` does, or would do.

    Attributes:
        plan: Each file that changes.
        vendored: The copy of the runtime.
    """

    plan: Plan
    vendored: Vendored


def make_ejection(root: Path, into: str | None = None) -> Ejection:
    """Decide what ejecting changes; writes nothing.

    Args:
        root: The project.
        into: The folder of the project in which the package goes; None: the one from which its code is imported.

    Raises:
        PreconditionError: The project is ejected already, was made by another paccel, does not use the runtime, has an
            unreadable state, or something is where the package goes.
        UsageError: `into` is not a folder of the project.
    """
    manifest, base = read_state(root)
    refuse_newer(manifest)
    _refuse_ejected(manifest)
    ours = _sources(root, base)
    users = [path for path, file in ours.items() if uses_runtime(path, file)]
    if not users:
        raise PreconditionError(
            "No file of this project imports `paccel.runtime`: there is nothing that `paccel eject` could copy for it"
        )
    folder = _place(root, into, users)
    vendored = vendored_at(f"{folder}/{PACKAGE}" if folder else PACKAGE)
    if os.path.lexists(root / vendored.path):
        raise PreconditionError(f"`{vendored.path}` exists already: move it away and try again")
    baseline = dict(in_project(base, vendored))
    changes = [
        FileChange(path, "updated", "uses the project's own runtime", file, rewritten(path, file))
        for path, file in ours.items()
        if rewritten(path, file) != file
    ]
    changes += [
        FileChange(f"{vendored.path}/{path}", "added", "a file of the runtime", None, file)
        for path, file in runtime_files().items()
    ]
    after = Manifest.of(
        manifest.template, manifest.answers, baseline, manifest.skipped, manifest.unformatted, manifest.drawn
    )._replace(vendored=vendored, answers_sha256=manifest.answers_sha256)
    notes = tuple(_notes(root, vendored, {path: rewritten(path, file) for path, file in ours.items()}))
    ordered = tuple(sorted(changes, key=lambda change: change.path))
    return Ejection(Plan(root, manifest, after, baseline, ordered, notes), vendored)


def eject(root: Path, into: str | None = None, *, allow_dirty: bool = False) -> tuple[Outcome, Vendored]:
    """Copy the runtime into a project and rewrite it, all or nothing; `upgrade --undo` takes it back.

    Raises:
        PreconditionError: As `make_ejection`, an upgrade is unfinished, or files to change are dirty in git.
    """
    with disk.locked(root):
        refuse_unfinished(root)
        apply.clear_leftovers(root)
        ejection = make_ejection(root, into)
        return apply_plan(ejection.plan, allow_dirty=allow_dirty), ejection.vendored


def _refuse_ejected(manifest: Manifest) -> None:
    if manifest.vendored is not None:
        raise PreconditionError(
            f"The project has its own runtime already, in `{manifest.vendored.path}`: `paccel upgrade` keeps it up to date"
        )
    if manifest.paccel != __version__:
        raise PreconditionError(
            f"The project was rendered by paccel {manifest.paccel}, and the runtime to copy is of paccel {__version__}: run"
            " `paccel upgrade` first, so that they belong together"
        )


def _place(root: Path, into: str | None, users: list[str]) -> str:
    """The folder of the package: as given, else `src` where that is what holds the code, else the project's own."""
    if into is None:
        tops = {PurePosixPath(path).parts[0] for path in users if not PurePosixPath(path).parts[0].startswith("test")}
        return next((name for name in _SOURCES if tops == {name} and not (root / name / "__init__.py").exists()), "")
    folder = into.replace("\\", "/").removeprefix("./").rstrip("/")
    if folder in {"", "."}:
        return ""
    try:
        check_file_path(folder)
    except ValueError as error:
        raise UsageError(f"`--into {into}` is not a folder inside the project") from error
    if not (root / folder).is_dir() or (root / folder).is_symlink():
        raise UsageError(f"`--into {into}`: there is no such folder in the project")
    return folder


def _sources(root: Path, base: Tree) -> dict[str, File]:
    """Read the template's files in the project, and the user's own code, text and settings."""
    found = dict(read_paths(root, [path for path in base if not (root / path).is_symlink()]))
    for path in _walked(root):
        if path not in found:
            found |= {
                path: file for path, file in read_paths(root, [path]).items() if b"paccel" in file.content.lower()
            }
    return dict(sorted(found.items()))


def _walked(root: Path) -> Iterator[str]:
    for place, folders, names in os.walk(root):
        folders[:] = sorted(
            name
            for name in folders
            if name not in _PASSED_OVER
            and not is_junk(name)
            and (not name.startswith(".") or name in _HIDDEN)
            and not (Path(place, name) / "pyvenv.cfg").is_file()
        )
        for name in sorted(names):
            path = Path(place, name)
            relative = path.relative_to(root).as_posix()
            is_source = (
                is_text(relative)
                and is_rewritten(relative)
                and not path.is_symlink()
                and path.is_file()
                and os.access(path, os.R_OK)
            )
            if is_source and not is_junk(name) and path.stat().st_size <= MAX_BYTES:
                yield relative


def _notes(root: Path, vendored: Vendored, files: Tree) -> Iterator[str]:
    """What the user has to look at: what still asks for paccel, locked versions, scripts that are elsewhere."""
    left = [f"`{path}` line {line}" for path, file in files.items() for line in lines_left(path, file)]
    if left:
        yield f"paccel is still imported or installed in {_named(left)}: the generator is not copied, so change these by hand"
    locks = [name for name in _LOCKS if (root / name).is_file()]
    if locks:
        yield f"{_named([f'`{name}`' for name in locks])} still has paccel: lock again"
    if PROJECT_FILE in files and _finds_packages(files) and str(PurePosixPath(vendored.path).parent) == ".":
        yield (
            f"`pip install .` now finds several packages in the project's folder: list them under `[tool.setuptools]` in"
            f" `{PROJECT_FILE}`, `packages = [...]`"
        )
    here = PurePosixPath(vendored.path).parent
    elsewhere = [
        f"`{path}`"
        for path, file in files.items()
        if path.endswith(".py")
        and uses_runtime(path, file)
        and PurePosixPath(path).parent != here
        and not {"test", "tests"} & {*PurePosixPath(path).parts}
        and f"{PurePosixPath(path).parent}/__init__.py" not in files
    ]
    if elsewhere:
        shown = "." if str(here) == "." else str(here)
        yield (
            f"{_named(elsewhere)} import the runtime and are not beside `{vendored.path}`: run them with `PYTHONPATH={shown}`, or"
            " install the package with the project"
        )


def _finds_packages(files: Tree) -> bool:
    """Whether setuptools looks for the project's one package by itself, and would find the runtime beside it."""
    try:
        data = tomllib.loads(files[PROJECT_FILE].content.decode())
        backend = data.get("build-system", {}).get("build-backend", "setuptools")
        settings = {*data.get("tool", {}).get("setuptools", {})}
    except (ValueError, AttributeError):  # not TOML, or not a table where there should be one
        return False
    packages = [path for path in files if path.count("/") == 1 and path.endswith("/__init__.py")]
    return "setuptools" in str(backend) and not {"packages", "py-modules"} & settings and bool(packages)


def _named(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more
