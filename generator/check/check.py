"""Check a merged project as a whole, before any of it is written.

Only a difference counts: a finding in the merged project that neither the user's project nor the new render has. So a
tool's false positives, its version and the project's habits make no noise.
"""

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ..files.scratch import scratch_dir
from ..files.tree import File, Tree, write_tree
from ..project.interpreter import find_interpreter
from . import tools
from .blame import Trees, explained
from .circles import new_circles
from .declarations import check_declarations
from .finding import Finding, new_findings
from .members import lost_members
from .mentions import is_readme
from .references import Gone, cut_references
from .sources import TooLarge, is_code, is_python, is_source, read_sources, sources


class Report(NamedTuple):
    """The result of a check.

    Attributes:
        findings: What is wrong with the merged project and with neither side, by path.
        unchecked: What was not checked and why, in one sentence; empty if everything was.
        trees: The projects that were compared.
    """

    findings: tuple[Finding, ...] = ()
    unchecked: str = ""
    trees: Trees = Trees({}, {}, {})


def check_merge(
    root: Path,
    before: Mapping[str, File | None],
    after: Mapping[str, File | None],
    theirs: Tree,
    moved: Mapping[str, str],
) -> Report:
    """Check a merged project.

    Args:
        root: The project's folder; files that are in neither `before` nor `after` are read from there.
        before: Path -> the user's file before the upgrade, None for no file, where the disk differs from it.
        after: Path -> the merged file, None for no file, where the disk differs from it.
        theirs: The new render.
        moved: New path -> old path of files that move.
    """
    gone = _gone(root, before, after, theirs)
    if not (any(is_source(path) and not is_readme(path) for path in (*before, *after)) or gone.ours):
        return Report()
    try:
        here = read_sources(root)
    except TooLarge as error:
        return Report(unchecked=f"The merged project was not checked as a whole: {error}")
    trees = Trees(_changed(here, before), sources(theirs), _changed(here, after), moved)
    if trees.merged in (trees.ours, trees.theirs) and not gone.ours:
        return Report(trees=trees)
    findings, unchecked = _difference(root, trees, gone)
    return Report(tuple(explained(finding, trees) for finding in findings), unchecked, trees)


def _gone(root: Path, before: Mapping[str, File | None], after: Mapping[str, File | None], theirs: Tree) -> Gone:
    """The files of each side that the merged project does not have."""

    def is_there(path: str) -> bool:
        return after[path] is not None if path in after else (root / path).exists()

    of_user = {*after, *(path for path, file in before.items() if file is not None)}
    return Gone(*(frozenset(path for path in paths if not is_there(path)) for paths in (of_user, theirs)))


def _changed(tree: Tree, files: Mapping[str, File | None]) -> dict[str, File]:
    """The tree with some files replaced or, for None, removed."""
    changed = {path: file for path, file in tree.items() if path not in files}
    return dict(sorted((changed | sources({path: file for path, file in files.items() if file is not None})).items()))


def _difference(root: Path, trees: Trees, gone: Gone) -> tuple[list[Finding], str]:
    """The new findings, and what was not checked."""
    places = {old: new for new, old in trees.moved.items()}
    declared = new_findings(
        check_declarations(trees.merged),
        _placed(check_declarations(trees.ours), places),
        check_declarations(trees.theirs),
    )
    declared += _at_other_lines([*cut_references(trees, gone), *new_circles(trees)], declared)
    code = Trees(_python(trees.ours), _python(trees.theirs), _python(trees.merged))
    if code.merged in (code.ours, code.theirs) or not any(map(is_code, code.merged)):
        return declared, ""
    found, missing = tools.find_tools(find_interpreter(root).path)
    problems: list[str] = []
    if missing:
        are = "is" if len(missing) == 1 else "are"
        problems.append(f"{' and '.join(missing)} {are} not installed; `{tools.INSTALL}`")
    try:
        new, failed = _run(found, code, places) if found else ([], [])
    except OSError as error:
        new, failed = [], [f"the temporary folder cannot be written: {error.strerror}"]
    problems += failed
    unchecked = f"The merged project was not checked as a whole: {'; '.join(problems)}" if problems else ""
    new += _at_other_lines(lost_members(trees), [*declared, *new])
    return sorted([*declared, *new]), unchecked


def _at_other_lines(findings: Sequence[Finding], known: Sequence[Finding]) -> list[Finding]:
    """The findings at lines without a known one."""
    lines = {(finding.path, finding.line) for finding in known}
    return [finding for finding in findings if (finding.path, finding.line) not in lines]


def _python(tree: Tree) -> Tree:
    return {path: file for path, file in tree.items() if is_python(path)}


def _run(found: list[tools.Tool], code: Trees, places: Mapping[str, str]) -> tuple[list[Finding], list[str]]:
    """What the tools find in the merged code only, and which tools failed.

    Most merged projects have no findings, so the sides are checked only if there are some.
    """
    deadline = time.monotonic() + tools.TIMEOUT_SECONDS
    with scratch_dir() as scratch:
        ours, theirs, merged = (scratch / name for name in ("ours", "theirs", "merged"))
        (scratch / tools.NO_SETTINGS).touch()
        write_tree(merged, code.merged)
        results, failed = tools.run_tools(found, {merged: code.merged}, deadline)
        suspects = [tool for tool, by_folder in results.items() if by_folder[merged]]
        if not suspects:
            return [], failed
        sides = {ours: code.ours, theirs: code.theirs}
        for folder, tree in sides.items():
            folder.mkdir(exist_ok=True)
            write_tree(folder, tree)
        results_of_sides, more = tools.run_tools(suspects, sides, deadline)
        new: list[Finding] = []
        for tool, by_folder in results_of_sides.items():
            new += new_findings(results[tool][merged], _placed(by_folder[ours], places), by_folder[theirs])
        own = {part for tree in code[:3] for path in tree for part in PurePosixPath(path).with_suffix("").parts}
        return [finding for finding in new if not _is_about_package(finding, own)], failed + more


def _is_about_package(finding: Finding, own: set[str]) -> bool:
    """Whether another package cannot be imported: this depends on what is installed, not on the merge."""
    module = re.search(r"imported module `(\w+)", finding.message)
    return module is not None and module[1] not in own


def _placed(findings: list[Finding], places: Mapping[str, str]) -> list[Finding]:
    """Findings of the user's project, with the paths after the merge."""
    return [finding._replace(path=places.get(finding.path, finding.path)) for finding in findings]
