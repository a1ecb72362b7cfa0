"""`paccel upgrade --each`: upgrade several projects, and print a table of the results."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ..errors import PaccelError, PreconditionError
from ..files.tree import STATE_DIR
from .console import UPGRADE_FOUND, slow_progress

if TYPE_CHECKING:
    from ..upgrade.upgrade import Outcome, Plan

_FROM_GOOD_TO_BAD = (0, UPGRADE_FOUND, 1, 3, 4)

_COLOURS = {"failed": "red", "conflicts": "red", "done": "green"}


class Result(NamedTuple):
    """The result for one project.

    Attributes:
        path: The project, as given on the command line.
        state: "up to date", "available", "done", "conflicts", "findings" or "failed".
        detail: A remark on it, in one line.
        exit_code: The exit code of the command for this project alone.
        data: Its data for `--json`.
    """

    path: str
    state: str
    detail: str
    exit_code: int
    data: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {"path": self.path, "exit_code": self.exit_code, **self.data}


def upgrade_each(
    paths: Sequence[str], *, check: bool, dry_run: bool, verified: bool, allow_dirty: bool, template: str | None
) -> list[Result]:
    """Upgrade each project, or with `check` or `dry_run` plan it. A failure does not stop the others."""
    tell = slow_progress()
    results: list[Result] = []
    once: dict[str, str] = {}  # each project once, even if it is given by several paths
    for path in paths:
        once.setdefault(os.path.realpath(path), os.path.normpath(path))
    for path in once.values():
        tell(f"Upgrading {path}")
        try:
            if not (Path(path) / STATE_DIR).is_dir():
                raise PreconditionError(f"`{path}` is not the folder of a paccel project: it has no `{STATE_DIR}`")
            root = Path(os.path.abspath(path))
            results.append(_one(path, root, check, dry_run, verified, allow_dirty, template))
        except PaccelError as error:
            results.append(_failed(path, str(error), error.exit_code))
        except Exception as error:  # any error: the other projects are still upgraded
            results.append(_failed(path, f"{type(error).__name__}: {error}", PreconditionError.exit_code))
    return results


def exit_code_of(results: Sequence[Result]) -> int:
    """Return the worst exit code; from good to bad: 0, 10 of `--check`, 1 for conflicts, then failures."""
    codes = [result.exit_code for result in results]
    return max(codes, key=lambda code: _FROM_GOOD_TO_BAD.index(code) if code in _FROM_GOOD_TO_BAD else 99, default=0)


def table(results: Sequence[Result]) -> str:
    """Return one line per project, then the number of projects in each state."""
    width = max(len(result.path) for result in results)
    lines = [
        f"  {click.style(f'{result.state:<10}', fg=_COLOURS.get(result.state))}  {result.path:<{width}}  {result.detail}".rstrip()
        for result in results
    ]
    counts = Counter(result.state for result in results)
    total = "1 project" if len(results) == 1 else f"{len(results)} projects"
    return "\n".join([*lines, "", f"{total}: " + ", ".join(f"{count} {state}" for state, count in counts.items())])


def _one(
    path: str, root: Path, check: bool, dry_run: bool, verified: bool, allow_dirty: bool, template: str | None
) -> Result:
    from ..upgrade import upgrade as engine
    from ..upgrade.preconditions import refuse_unfinished

    if check or dry_run:
        refuse_unfinished(root)
        return _planned(path, engine.make_plan(root, template=template), check)
    outcome = engine.upgrade(root, template=template, allow_dirty=allow_dirty)
    return _applied(path, root, outcome, verified)


def _planned(path: str, plan: "Plan", check: bool) -> Result:
    left_to_user = bool(plan.conflicts or plan.findings)
    code = (UPGRADE_FOUND if plan.found else 0) if check else int(left_to_user)
    state = "available" if plan.found else "up to date"
    if left_to_user:
        state = "conflicts" if plan.conflicts else "findings"
    files = sum(change.writes for change in plan.changes)
    return Result(path, state, _files(plan.conflicts, files), code, plan.to_json())


def _applied(path: str, root: Path, outcome: "Outcome", verified: bool) -> Result:
    state = {"nothing": "up to date"}.get(outcome.state, outcome.state)
    files = sum(change.status != "kept" for change in outcome.changes)
    detail, code, data = _files(outcome.conflicts, files), outcome.exit_code, outcome.to_json()
    if verified and outcome.state in {"done", "nothing"}:
        from ..health.verify import verify_project

        checked = verify_project(root)
        data["verification"] = checked.to_json()
        if checked.problems:
            return Result(path, "failed", f"{detail}; {checked.problems[0]}".removeprefix("; "), 1, data)
        detail = f"{detail}; verified".removeprefix("; ")
    return Result(path, state, detail, code, data)


def _files(conflicts: Sequence[str], count: int) -> str:
    if conflicts:
        return f"resolve {', '.join(conflicts)}"
    return "" if not count else "1 file" if count == 1 else f"{count} files"


def _failed(path: str, message: str, code: int) -> Result:
    lines = message.splitlines() or [""]
    return Result(path, "failed", lines[0], code, {"state": "failed", "error": {"message": message, "exit_code": code}})
