"""The merge cases in `tests/merge_cases`: a project, a user's edit, a template's change, and the right outcome.

`tests/merge_cases/README.md` describes the files of a case.
"""

import os
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

FOLDER = Path(__file__).parents[1] / "merge_cases"
PROJECTS = FOLDER / "_projects"
NAMES = sorted(path.parent.name for path in FOLDER.glob("*/case.toml"))


@dataclass(frozen=True)
class Entry:
    """A file on disk; the content of a link is its target."""

    content: bytes
    kind: Literal["file", "executable", "link"] = "file"


Tree = Mapping[str, Entry]


@dataclass(frozen=True)
class Case:
    """One edit, one change, one outcome.

    Attributes:
        name: The case's folder.
        title: What happens, in a sentence.
        kind: What the case is about.
        outcome: "clean": exactly an expected tree, and no conflict. "conflict": both texts are there to choose from, and
            the tool reports it. "either": a conflict is acceptable, and so is an expected tree.
        base: The project that the template generated.
        ours: The project as the user edited it.
        theirs: What the template generates now.
        expected: The right merges, equally good; none for "conflict".
        open: Why paccel does not reach the outcome yet; empty if it does.
        needs: "tools" if paccel reaches it only with the tools that check a merged project, "runtime" if these must also
            find paccel's runtime; empty if nothing is needed.
    """

    name: str
    title: str
    kind: str
    outcome: Literal["clean", "conflict", "either"]
    base: Tree
    ours: Tree
    theirs: Tree
    expected: tuple[Tree, ...]
    open: str = ""
    needs: str = ""


def about_case(name: str) -> dict[str, str]:
    """The contents of a case's `case.toml`."""
    return tomllib.loads((FOLDER / name / "case.toml").read_text(encoding="utf-8"))


def load_case(name: str) -> Case:
    """Read a case; `git apply` makes its trees."""
    folder, about = FOLDER / name, about_case(name)
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch) / "base"
        shutil.copytree(PROJECTS / about.pop("project", "digits"), base)
        if (folder / "base").is_dir():
            shutil.copytree(folder / "base", base, dirs_exist_ok=True)
        return Case(
            name,
            base=read_files(base),
            ours=_patched(base, folder / "ours.diff"),
            theirs=_patched(base, folder / "theirs.diff"),
            expected=tuple(
                _patched(base, path) for path in sorted(folder.glob("expected*.diff"), key=lambda it: it.stem)
            ),
            **about,
        )


def _patched(base: Path, diff: Path) -> Tree:
    """The files of `base` with a diff applied; without a diff, unchanged."""
    if not diff.exists() or not diff.read_bytes():
        return read_files(base)
    with tempfile.TemporaryDirectory(dir=base.parent) as scratch:
        shutil.copytree(base, scratch, dirs_exist_ok=True)
        settings = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CEILING_DIRECTORIES": scratch}
        command = ["git", "apply", "--whitespace=nowarn", str(diff.resolve())]
        subprocess.run(command, cwd=scratch, env={**os.environ, **settings}, check=True, timeout=60)
        return read_files(Path(scratch))


def changes(before: Tree, after: Tree) -> dict[str, Entry | None]:
    """Path -> the new state of a changed file; None if deleted."""
    return {path: after.get(path) for path in sorted({*before, *after}) if before.get(path) != after.get(path)}


def read_files(root: Path) -> dict[str, Entry]:
    """Every file below `root`, except git's own."""
    files: dict[str, Entry] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if name.startswith(".git/") or (path.is_dir() and not path.is_symlink()):
            continue
        if path.is_symlink():
            files[name] = Entry(os.readlink(path).encode(), "link")
        else:
            files[name] = Entry(path.read_bytes(), "executable" if path.stat().st_mode & 0o100 else "file")
    return files


def write_files(root: Path, before: Tree, after: Tree) -> None:
    """Turn the files below `root`, those of `before`, into those of `after`."""
    for path in before.keys() - after.keys():
        (root / path).unlink()
        parent = (root / path).parent
        if parent != root and not any(parent.iterdir()):
            parent.rmdir()
    for path, entry in after.items():
        if before.get(path) == entry:
            continue
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        if entry.kind == "link":
            target.symlink_to(entry.content.decode())
        else:
            target.write_bytes(entry.content)
            target.chmod(0o755 if entry.kind == "executable" else 0o644)
