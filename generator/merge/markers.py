"""Conflict markers: how they are written, and how they are found again and told from text that looks like them."""

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from .pieces import Piece
from .text import decode

OWN_LABEL = "yours"
"""What paccel's conflict markers call the user's side; git calls it `HEAD`, or a branch."""


class Labels(NamedTuple):
    """What conflict markers call the sides; the template's are called something with `template`."""

    ours: str = OWN_LABEL
    base: str = "old template"
    theirs: str = "new template"


PLAIN_LABELS = Labels()

MARKER_SIZE = 7
"""The least length of a marker."""


def write(pieces: Sequence[Piece], labels: Labels) -> list[str]:
    """The lines of a merge, with conflicts between markers that are longer than any in the file itself."""
    sides = [lines for piece in pieces for lines in (piece.lines, piece.base or (), piece.theirs or ())]
    size = marker_size(*sides)
    lines: list[str] = []
    for piece in pieces:
        if piece.theirs is None:
            lines += piece.lines
            continue
        lines += [f"{'<' * size} {labels.ours}", *piece.lines, f"{'|' * size} {labels.base}", *(piece.base or ())]
        lines += ["=" * size, *piece.theirs, f"{'>' * size} {labels.theirs}"]
    return lines


def has_markers(content: bytes) -> bool:
    """Whether `content` holds conflict markers as paccel or git write them: begin, middle and end, in this order.

    A heading underlined with `=======` or a lone marker in a text about git does not count.
    """
    return next(_conflicts(content), None) is not None


def has_own_markers(content: bytes) -> bool:
    """Whether `content` holds conflict markers that paccel wrote, by what they call the sides."""
    return any(ours == OWN_LABEL and "template" in theirs.split() for ours, theirs in _conflicts(content))


def _conflicts(content: bytes) -> Iterator[tuple[str, str]]:
    """Yield what the markers of each conflict call the sides: ours, theirs."""
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
    """Whether a marker that was written with known labels is left, even a single one.

    Args:
        ends: What follows the signs of such a marker: a space and its label.
        before: The text before it was merged; what looks like a marker in it is text.
    """
    known = {*decode(before).lines}
    for line in decode(content).lines:
        sign = line[:1]
        is_marker = sign and sign in "<|>" and line.startswith(sign * MARKER_SIZE) and line.lstrip(sign) in ends
        if is_marker and line not in known:
            return True
    return False


def marker_size(*sides: Sequence[str]) -> int:
    """A length for conflict markers that no line of the sides can be taken for."""
    longest = 0
    for lines in sides:
        for line in lines:
            for sign in "<|=>":
                run = len(line) - len(line.lstrip(sign))
                rest = line[run : run + 1]
                if run >= MARKER_SIZE and rest in {"", " "}:
                    longest = max(longest, run)
    return max(MARKER_SIZE, longest + 1) if longest else MARKER_SIZE
