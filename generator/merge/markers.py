"""Conflict markers: write them, find them again, and tell them from text that looks like them."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from .pieces import Piece
from .text import decode

OWN_LABEL = "yours"
"""The label of the user's side in paccel's conflict markers; git's is `HEAD` or a branch."""


class Labels(NamedTuple):
    """The labels of the sides in conflict markers; those of the template contain the word `template`."""

    ours: str = OWN_LABEL
    base: str = "old template"
    theirs: str = "new template"


PLAIN_LABELS = Labels()

MARKER_SIZE = 7
"""The minimum length of a marker."""


def write(pieces: Sequence[Piece], labels: Labels) -> list[str]:
    """The lines of a merge, its conflicts between markers that are longer than any in the file itself."""
    size = _marker_size(line for piece in pieces for line in (*piece.lines, *piece.base, *(piece.theirs or ())))
    lines: list[str] = []
    for piece in pieces:
        if piece.theirs is None:
            lines += piece.lines
            continue
        lines += [f"{'<' * size} {labels.ours}", *piece.lines, f"{'|' * size} {labels.base}", *piece.base]
        lines += ["=" * size, *piece.theirs, f"{'>' * size} {labels.theirs}"]
    return lines


def has_markers(content: bytes) -> bool:
    """Whether `content` has conflict markers of paccel or git: start, middle and end, in this order.

    A heading underlined with `=======` or a single marker in a text about git does not count.
    """
    return next(_conflicts(content), None) is not None


def has_own_markers(content: bytes) -> bool:
    """Whether `content` has conflict markers with paccel's labels."""
    return any(ours == OWN_LABEL and "template" in theirs.split() for ours, theirs in _conflicts(content))


def _conflicts(content: bytes) -> Iterator[tuple[str, str]]:
    """Yield the labels of each conflict: ours, theirs."""
    if b"<<<<<<< " not in content:
        return
    wanted, size, ours = "<", 0, ""
    for line in decode(content).lines:
        run = len(line) - len(line.lstrip(line[:1])) if line[:1] in "<|=>" and line else 0
        label = line[run:]
        if line[:1] == "<" and run >= MARKER_SIZE and label[:1] == " ":
            wanted, size, ours = "=", run, label[1:]
        elif wanted == "=" and line == "=" * size:
            wanted = ">"
        elif wanted == ">" and line[:1] == ">" and run == size and label[:1] in {" ", ""}:
            wanted = "<"
            yield ours, label[1:]


def has_labelled_marker(content: bytes, ends: Collection[str], before: bytes = b"") -> bool:
    """Whether any marker with a known label is left, even a single one.

    Args:
        ends: What follows the signs of these markers: a space and the label.
        before: The file before the merge; lines that it already had are not markers.
    """
    known = {*decode(before).lines}
    for line in decode(content).lines:
        sign = line[:1]
        is_marker = sign and sign in "<|>" and line.startswith(sign * MARKER_SIZE) and line.lstrip(sign) in ends
        if is_marker and line not in known:
            return True
    return False


def _marker_size(lines: Iterable[str]) -> int:
    """A length for conflict markers at which no line looks like one."""
    size = MARKER_SIZE
    for line in lines:
        for sign in "<|=>":
            run = len(line) - len(line.lstrip(sign))
            if run >= size and line[run : run + 1] in {"", " "}:
                size = run + 1
    return size
