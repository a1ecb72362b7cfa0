"""The check of the whole project as part of an upgrade.

A finding that one of the template's changes to the same file causes becomes a conflict there; any other finding is left for
the user to resolve or accept.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..check.blame import template_line
from ..check.check import Report, check_merge
from ..check.finding import Finding
from ..files.archive import ArchiveError, read_zip
from ..files.tree import File, Tree
from ..merge.file import with_conflicts
from ..merge.markers import Labels
from ..project.state import BASELINE_PATH
from .change import FileChange
from .journal import UPGRADE_DIR, Journal, backup_file, staged_file

_REASON = "merged, the project would have an error that neither side has"


class Verdict(NamedTuple):
    """The result of checking a plan.

    Attributes:
        changes: The plan, with new conflicts.
        findings: The other findings.
        notes: What was not checked.
    """

    changes: tuple[FileChange, ...]
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()


def judge_plan(root: Path, changes: Sequence[FileChange], base: Tree, theirs: Tree, labels: Labels) -> Verdict:
    """Check the project as a plan would leave it, with its conflicts resolved for the user's side.

    Args:
        root: The project's folder.
        changes: The plan.
        base: The files as generated.
        theirs: The new render.
        labels: The labels of the sides in conflict markers.
    """
    after: dict[str, File | None] = {}
    moved: dict[str, str] = {}
    for change in changes:
        if change.moved_from is not None:
            after[change.moved_from] = None
            moved[change.path] = change.moved_from
    for change in changes:
        if change.writes:
            after[change.path] = change.before if change.status == "conflict" else change.after
    report = check_merge(root, {}, after, theirs, moved)
    blamed: dict[str, dict[int, Finding]] = {}
    for finding in report.findings:
        line = template_line(finding, report.trees)
        if line is not None:
            blamed.setdefault(finding.path, {}).setdefault(line, finding)
    judged = [
        _with_conflicts(change, base.get(change.moved_from or change.path), blamed.get(change.path, {}), report, labels)
        for change in changes
    ]
    conflicting = {new.path for new, old in zip(judged, changes, strict=True) if new is not old}
    left = [f for f in report.findings if f.path not in conflicting or template_line(f, report.trees) is None]
    return Verdict(tuple(judged), tuple(left), _notes(report))


def judge_again(root: Path, journal: Journal) -> Verdict:
    """Check the project as it is now, after the user resolved conflicts and findings.

    In a file that had conflicts, only what was found before counts.
    """
    before: dict[str, File | None] = {}
    for number, operation in enumerate(journal.operations):
        if not operation.is_incoming:
            backup = backup_file(root / UPGRADE_DIR, number)
            before[operation.path] = File(backup.read_bytes()) if operation.old is not None else None
    staged = [number for number, operation in enumerate(journal.everything) if operation.path == BASELINE_PATH]
    try:
        theirs = read_zip(staged_file(root / UPGRADE_DIR, staged[0]).read_bytes(), BASELINE_PATH) if staged else {}
    except (ArchiveError, OSError):
        theirs = {}  # more findings may look new; the user can still `--accept` them
    moved = {change.path: change.moved_from for change in journal.summary if change.moved_from is not None}
    report = check_merge(root, before, {}, theirs, moved)
    known = {(finding.path, finding.rule, finding.message) for finding in journal.findings}
    left = [
        finding
        for finding in report.findings
        if finding.path not in journal.conflicts or (finding.path, finding.rule, finding.message) in known
    ]
    if report.unchecked:  # findings of a tool that is missing now are not resolved
        left += [finding for finding in journal.findings if finding not in left]
    return Verdict((), tuple(left), _notes(report))


def _notes(report: Report) -> tuple[str, ...]:
    return (report.unchecked,) if report.unchecked else ()


def _with_conflicts(
    change: FileChange, base: File | None, blamed: Mapping[int, Finding], report: Report, labels: Labels
) -> FileChange:
    """The change with conflicts at the blamed lines; unchanged if the file is not a merge of both sides."""
    ours, merged = change.before, change.after
    if not blamed or base is None or ours is None or merged is None or change.status == "conflict":
        return change
    if report.trees.theirs.get(change.path) == merged or ours == merged:
        return change
    result = with_conflicts(base.content, ours.content, merged.content, [*blamed], labels)
    if not result.conflicts:
        return change
    reason = f"{_REASON}: {'; '.join(str(finding) for finding in blamed.values())}"
    after = File(result.content, merged.executable)
    return change._replace(status="conflict", reason=reason, after=after, conflicts=result.conflicts)
