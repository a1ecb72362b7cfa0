"""Run a variant and its parent with the same seeds and budget, and compare them."""

import ast
import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ..errors import PreconditionError
from ..files import disk
from ..runs.comparison import Comparison, compare, comparison_data
from ..runs.folder import RunFolder, read_run, require_run
from ..runs.scores import choose_metric
from ..runs.state import FINISHED
from .code import changed_since
from .repeat import Job, Outcome, make_jobs, run_jobs
from .variant import FOLDER, Variant, add_project_worktree
from .worktree import project_in, remove_worktree, toplevel, tree_of


class Trial(NamedTuple):
    """How a variant was run.

    Attributes:
        variant: The variant, with its verdict.
        outcomes: How the runs ended.
        comparison: Of the parent with the variant; None if one of them has no run to compare.
    """

    variant: Variant
    outcomes: list[Outcome]
    comparison: Comparison | None


def run_variant(variant: Variant, *, at_once: int = 1, tell: Callable[[str], None] = lambda text: None) -> Trial:
    """Run a variant and its parent with the same seeds and budget, and compare them. Finished runs are not run again.

    Args:
        variant: What to run.
        at_once: Runs side by side.
        tell: Takes a line for each run that starts or ends.

    Raises:
        PreconditionError: Nothing has changed in the worktree, the parent cannot be read, or another command is working on
            the variant.
    """
    with variant.locked():
        parent = require_run(variant.parent)
        _save_patch(variant, tell)
        with _parent_worktree(variant) as before:
            parent_jobs = _parent_jobs(variant, parent, before)
            variant_jobs = _variant_jobs(variant, parent, before)
            is_baseline = _is_baseline(variant, parent, before)
            outcomes: list[Outcome] = []
            if not is_baseline:
                folder = _parent_runs(variant)
                folder.mkdir(parents=True, exist_ok=True)
                with disk.locked_folder(folder, "Another variant is training the same parent: waiting for it", tell):
                    outcomes += run_jobs(parent_jobs, parent, at_once=at_once, seconds=variant.seconds, tell=tell)
            outcomes += run_jobs(variant_jobs, parent, at_once=at_once, seconds=variant.seconds, tell=tell)
        ended = (FINISHED, "stopped") if variant.seconds is not None else (FINISHED,)
        completed = {outcome.job.name for outcome in outcomes if outcome.state in ended}
        baseline = [replace(parent, name="parent")] if is_baseline else _read_runs(parent_jobs, completed)
        tried = _read_runs(variant_jobs, completed)
        if not baseline or not tried:
            return Trial(variant, outcomes, None)
        comparison = compare(
            [*baseline, *tried],
            against=baseline[0].name,
            metric=choose_metric(baseline),
            labels=("parent", variant.name),
        )
        verdicts = comparison_data(comparison)["verdicts"]
        variant = variant._replace(verdict=verdicts[0] if verdicts else None)
        variant.save()
        return Trial(variant, outcomes, comparison)


def _save_patch(variant: Variant, tell: Callable[[str], None]) -> None:
    """Write `variant.patch`. If the variant has been edited since its last run, its runs are removed.

    Raises:
        PreconditionError: Nothing has changed in the worktree.
    """
    patch = variant.diff()
    if not patch:
        raise PreconditionError(f"Nothing has changed in `{variant.folder}`: edit the code there, then run the variant")
    variant.runs.mkdir(parents=True, exist_ok=True)
    saved = variant.runs / "variant.patch"
    if saved.is_file() and saved.read_text(encoding="utf-8", errors="surrogateescape") != patch:
        shutil.rmtree(variant.runs / "variant", ignore_errors=True)
        tell("the variant was edited since its last run: its runs start over")
    disk.write_whole(saved, patch.encode("utf-8", "surrogateescape"))


@contextmanager
def _parent_worktree(variant: Variant) -> Iterator[Path]:
    """Check out the commit that the variant starts from, for the runs of its parent; yields the project's folder in it."""
    top = toplevel(variant.root)
    worktree = variant.root / FOLDER / f"{variant.name}.parent"
    remove_worktree(top, worktree)
    try:
        add_project_worktree(variant, worktree)
        yield project_in(worktree, variant.root, top)
    finally:
        remove_worktree(top, worktree)


def _parent_jobs(variant: Variant, parent: RunFolder, before: Path) -> list[Job]:
    jobs = make_jobs(parent, before, variant.seeds, _budget(variant), _parent_runs(variant))
    return [job._replace(name=f"parent {job.name}", start=variant.start) for job in jobs]


def _variant_jobs(variant: Variant, parent: RunFolder, before: Path) -> list[Job]:
    """The parent's settings, but for those whose default the variant has edited."""
    edited = _edited_defaults(before / parent.program, variant.folder / parent.program) - {"seed", "max_steps"}
    jobs = make_jobs(parent, variant.folder, variant.seeds, _budget(variant), variant.runs / "variant")
    return [
        job._replace(
            name=f"variant {job.name}",
            settings={name: value for name, value in job.settings.items() if name not in edited},
            start=variant.start,
        )
        for job in jobs
    ]


def _budget(variant: Variant) -> dict[str, list[int]]:
    return {} if variant.steps is None else {"max_steps": [variant.steps]}


def _read_runs(jobs: list[Job], completed: set[str]) -> list[RunFolder]:
    return [read_run(job.run_dir, job.name) for job in jobs if job.name in completed]


def _parent_runs(variant: Variant) -> Path:
    """The folder for runs of the parent: the same for the same files, settings, budget and start."""
    tree = tree_of(toplevel(variant.root), variant.base)
    parts = tree, str(variant.parent), str(variant.steps), str(variant.seconds), str(variant.start)
    return variant.root / "runs" / "try" / f"parent-{hashlib.sha256(' '.join(parts).encode()).hexdigest()[:10]}"


def _is_baseline(variant: Variant, parent: RunFolder, before: Path) -> bool:
    """Whether the parent run itself can be compared with the variant: same code, seed and budget, and finished."""
    same_budget = variant.steps in (None, parent.settings.get("max_steps")) and variant.seconds is None
    same_start = variant.start is None and variant.seeds == (parent.settings.get("seed"),)
    is_complete = parent.state == FINISHED and parent.code_files is not None
    return same_budget and same_start and is_complete and not changed_since(parent, before)


def _edited_defaults(before: Path, after: Path) -> set[str]:
    """Return the dataclass fields whose default differs between two scripts, or that the second one lacks."""
    old, new = _defaults(before), _defaults(after)
    return {name for name, default in old.items() if new.get(name) != default}


def _defaults(path: Path) -> dict[str, str]:
    """Return the fields of a script's dataclasses with their defaults, as source text."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return {}
    return {
        field.target.id: "" if field.value is None else ast.unparse(field.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and any("dataclass" in ast.unparse(mark) for mark in node.decorator_list)
        for field in node.body
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
    }
