"""The project cases in `tests/project_cases`: edits that merge file by file, and what is then wrong with the project.

`tests/project_cases/README.md` describes the keys of a case.
"""

import tomllib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from support.merge_cases import Case, Entry, Tree, read_files
from support.released import RELEASED

FOLDER = Path(__file__).parents[1] / "project_cases"
NAMES = sorted(path.stem for path in FOLDER.glob("*.toml"))


@dataclass(frozen=True)
class ProjectCase:
    """One edit, one change, and what paccel should report about the merged project.

    Attributes:
        case: The trees, as a merge case without an expected tree.
        outcome: "found", "conflict" or "clean".
        at: The file in which something is reported.
        cause: The file of the other change; empty if none is named.
        tool: The tool needed to see it.
        needs: For "clean": a path, and a text that must be in that file afterwards.
    """

    case: Case
    outcome: Literal["found", "conflict", "clean"]
    at: str
    cause: str
    tool: str
    needs: tuple[str, ...]


def load_project_case(name: str) -> ProjectCase:
    about = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    base = _project(about.get("project", ""))
    outcome = about["outcome"]
    case = Case(
        name,
        about["title"],
        "project",
        "clean" if outcome == "clean" else "conflict",
        base,
        _edited(base, about["ours"]),
        _edited(base, about["theirs"]),
        (),
    )
    parts = (about.get(key, "") for key in ("at", "cause", "tool"))
    return ProjectCase(case, outcome, *parts, tuple(about.get("needs", ())))


def _project(name: str) -> Tree:
    """The files of `_project`, or of a project as 0.1.0 generated it from one of its templates."""
    if not name:
        return read_files(FOLDER / "_project")
    with zipfile.ZipFile(RELEASED / "0.1.0" / name / "baseline.zip") as files:
        return {path: Entry(files.read(path)) for path in sorted(files.namelist())}


def _edited(base: Tree, edits: Sequence[Sequence[str]]) -> Tree:
    tree = dict(base)
    for path, *edit in edits:
        if not edit:
            del tree[path]
        elif len(edit) == 1:
            tree[edit[0]] = tree.pop(path)
        elif not edit[0]:
            assert path not in tree, path
            tree[path] = Entry(edit[1].encode())
        else:
            old, new = (text.encode() for text in edit)
            assert old in tree[path].content, (path, edit[0])
            tree[path] = Entry(tree[path].content.replace(old, new))
    return tree
