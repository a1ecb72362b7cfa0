"""Blame: which change of the other side causes a finding, such as the removal of what the finding's line needs."""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import PurePosixPath
from typing import NamedTuple

from ..files.tree import File, Tree
from ..merge.diff import changes
from ..merge.text import decode
from .finding import MAX_TEXT, Finding, Place

# Words of many messages and lines: they do not tell which change is the cause.
_COMMON = frozenset(
    (
        *("Any", "None", "True", "False", "Literal", "Unknown", "Module", "Object", "Name"),
        *("int", "float", "str", "bool", "bytes", "list", "dict", "set", "tuple", "object", "type"),
        *("self", "cls", "args", "kwargs", "def", "class", "return", "import", "from"),
    )
)


class Trees(NamedTuple):
    """The projects of a merge.

    Attributes:
        ours: The user's project.
        theirs: The new render.
        merged: The result.
        moved: Path in `merged` -> path in `ours`, of files that move.
    """

    ours: Tree
    theirs: Tree
    merged: Tree
    moved: Mapping[str, str] = {}


class _Change(NamedTuple):
    """One side's change to a file.

    Attributes:
        lines: The changed lines of the merged file.
        removed: The lines before the change.
        added: The lines after it.
        below: The line below it.
    """

    lines: range
    removed: tuple[str, ...]
    added: tuple[str, ...]
    below: str


def explained(finding: Finding, trees: Trees) -> Finding:
    """The finding with its cause: a change of the template if the finding's line is the user's, and vice versa."""
    if finding.cause is not None:
        return finding
    of_template = _at(_template_changes(trees, finding.path), finding.line)
    of_user = _at(_user_changes(trees, finding.path), finding.line)
    return finding._replace(cause=_cause(finding, trees, by_template=of_user is not None or of_template is None))


def template_line(finding: Finding, trees: Trees) -> int | None:
    """The line in the finding's file where the template's change causes it; None if the cause is in another file.

    For a removed line, this is where it was in the merged file.
    """
    if _at(_template_changes(trees, finding.path), finding.line) is not None:
        return finding.line
    cause = finding.cause
    return cause.line if cause is not None and cause.side == "template" and cause.path == finding.path else None


def _cause(finding: Finding, trees: Trees, by_template: bool) -> Place | None:
    """The line in one side's changes that most likely causes a finding."""
    side = _template_changes if by_template else _user_changes
    best: tuple[float, Place] | None = None
    names = [name for name in finding.names if name not in _COMMON and len(name) > 1]
    for path in [finding.path, *sorted({*trees.ours, *trees.theirs, *trees.merged} - {finding.path})]:
        if not by_template and path not in trees.theirs and path != finding.path:
            continue  # the template never had this file: it is not an edit
        for change in side(trees, path):
            for offset, removed, text in _lines(change):
                own = path == finding.path and not removed and change.lines.start + offset + 1 == finding.line
                # A decorator is judged by the line that it decorates.
                score = 0.0 if own else _score(change.below if text.lstrip().startswith("@") else text, names, removed)
                if score and PurePosixPath(path).stem in finding.names:  # the finding names this module
                    score += 0.5
                if score and (best is None or score > best[0]):
                    line = change.lines.start + (0 if removed else offset) + 1
                    shown = text.strip()[:MAX_TEXT]
                    best = score, Place(path, line, shown, "template" if by_template else "you", removed)
    return best[1] if best else None


def _lines(change: _Change) -> Iterator[tuple[int, bool, str]]:
    """Yield each changed line as (offset in the change, whether it was removed, text)."""
    for removed, lines in ((True, change.removed), (False, change.added)):
        yield from ((offset, removed, text) for offset, text in enumerate(lines))


def _score(text: str, names: list[str], removed: bool) -> float:
    """How much a changed line concerns names: definitions and earlier names score higher, removed lines a little lower."""
    total = 0.0
    for place, name in enumerate(names):
        word = re.escape(name)
        if re.search(rf"(?<!\w){word}(?!\w)", text):
            defines = re.match(rf"\s*(?:async\s+)?(?:(?:def|class)\s+{word}\b|{word}\s*(?::|=(?!=)))", text) or (
                not removed and re.search(rf"\bimport\b.*(?<!\w){word}(?!\w)", text)
            )
            total += (4 if defines else 1) * (1 if removed else 1.1) / (1 + place)
    return total


def _at(found: tuple[_Change, ...], line: int) -> _Change | None:
    return next((change for change in found if line - 1 in change.lines), None)


def _template_changes(trees: Trees, path: str) -> tuple[_Change, ...]:
    return _changes(trees.ours.get(trees.moved.get(path, path)), trees.merged.get(path))


def _user_changes(trees: Trees, path: str) -> tuple[_Change, ...]:
    return _changes(trees.theirs.get(path), trees.merged.get(path))


@lru_cache(maxsize=1024)
def _changes(before: File | None, after: File | None) -> tuple[_Change, ...]:
    """The changes from one version of a file to the other; a missing file has no lines."""
    if before == after:
        return ()
    old, new = (decode(file.content).lines if file else () for file in (before, after))
    return tuple(
        _Change(
            range(b.start, b.stop),
            old[a.start : a.stop],
            new[b.start : b.stop],
            "".join(new[b.stop : b.stop + 1]),
        )
        for a, b in changes(old, new)
    )
