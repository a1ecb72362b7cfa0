"""Check a merged project as a whole, before anything of it is written.

What counts is a difference: what is found in the merged project, and neither in the user's project nor in the new
render. So a tool's false alarms, its version and the project's own habits make no noise.
"""

import re
import time
from collections.abc import Mapping
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
from .sources import TooLarge, is_python, is_source, read_sources, sources


class Report(NamedTuple):
    """What a check found.

    Attributes:
        findings: What is wrong with the merged project and with neither side, in path order.
        unchecked: What was not checked, and why, as one sentence; empty if everything was.
        trees: What was compared.
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
    """Check what a project becomes.

    Args:
        root: The project's folder; its own files are read from there.
        before: Path -> the user's file, of those that are other on the disk than they were before the upgrade; None: none.
        after: Path -> file, of those that are other on the disk than they become.
        theirs: The new render.
        moved: Path afterwards -> path before, of files that move.
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
    """The files of both sides that the merged project has not."""

    def is_there(path: str) -> bool:
        return after[path] is not None if path in after else (root / path).exists()

    of_user = {*after, *(path for path, file in before.items() if file is not None)}
    return Gone(*(frozenset(path for path in paths if not is_there(path)) for paths in (of_user, theirs)))


def _changed(tree: Tree, files: Mapping[str, File | None]) -> dict[str, File]:
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
    seen = {(finding.path, finding.line) for finding in declared}
    cut = [*cut_references(trees, gone), *new_circles(trees)]
    declared += [finding for finding in cut if (finding.path, finding.line) not in seen]
    code = [{path: file for path, file in tree.items() if is_python(path)} for tree in trees[:3]]
    if code[2] in code[:2] or not any(path.endswith((".py", ".pyi", ".ipynb")) for path in code[2]):
        return declared, ""
    found, missing = tools.find_tools(find_interpreter(root).path)
    problems = [f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed; `{tools.INSTALL}`"]
    problems = problems if missing else []
    try:
        new, failed = _run(found, code, places) if found else ([], [])
    except OSError as error:
        new, failed = [], [f"the temporary folder cannot be written: {error.strerror}"]
    problems += failed
    unchecked = f"The merged project was not checked as a whole: {'; '.join(problems)}" if problems else ""
    seen = {(finding.path, finding.line) for finding in (*declared, *new)}
    lost = [finding for finding in lost_members(trees) if (finding.path, finding.line) not in seen]
    return sorted([*declared, *new, *lost]), unchecked


def _run(
    found: list[tools.Tool], code: list[dict[str, File]], places: Mapping[str, str]
) -> tuple[list[Finding], list[str]]:
    """What the tools find in the merged code alone. Most merges have no findings: the sides are checked only if it has."""
    deadline = time.monotonic() + tools.TIMEOUT_SECONDS
    with scratch_dir() as scratch:
        ours, theirs, merged = folders = [scratch / name for name in ("ours", "theirs", "merged")]
        (scratch / tools.NO_SETTINGS).touch()
        write_tree(merged, code[2])
        results, failed = tools.run_tools(found, {merged: code[2]}, deadline)
        suspects = [tool for tool, by_folder in results.items() if by_folder[merged]]
        if not suspects:
            return [], failed
        for folder, tree in zip(folders[:2], code[:2], strict=True):
            folder.mkdir(exist_ok=True)
            write_tree(folder, tree)
        sides, more = tools.run_tools(suspects, dict(zip(folders[:2], code[:2], strict=True)), deadline)
        new: list[Finding] = []
        for tool, by_folder in sides.items():
            new += new_findings(results[tool][merged], _placed(by_folder[ours], places), by_folder[theirs])
        own = {part for tree in code for path in tree for part in PurePosixPath(path).with_suffix("").parts}
        return [finding for finding in new if not _is_about_others(finding, own)], failed + more


def _is_about_others(finding: Finding, own: set[str]) -> bool:
    """Whether a tool does not find another package: that is a matter of what is installed, not of a merge."""
    module = re.search(r"imported module `(\w+)", finding.message)
    return module is not None and module[1] not in own


def _placed(findings: list[Finding], places: Mapping[str, str]) -> list[Finding]:
    """The findings of the user's project where their files are afterwards."""
    return [finding._replace(path=places.get(finding.path, finding.path)) for finding in findings]
