"""Conflict markers: written, found, and told from text that only looks like them."""

from collections.abc import Sequence
from typing import NamedTuple

from .pieces import Piece
from .text import decode


class Labels(NamedTuple):
    """What conflict markers call the sides."""

    ours: str = "yours"
    base: str = "old template"
    theirs: str = "new template"


PLAIN_LABELS = Labels()


def written(pieces: Sequence[Piece], labels: Labels) -> list[str]:
    """The lines of a merge, conflicts between markers longer than any that the file holds itself."""
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


MARKER_SIZE = 7


def has_markers(content: bytes) -> bool:
    """Whether `content` holds conflict markers as paccel or git write them: begin, middle and end, in this order.

    A heading underlined with `=======` or a lone marker in a text about git does not count.
    """
    if b"<<<<<<< " not in content:
        return False
    wanted = "<"
    size = 0
    for line in decode(content).lines:
        run = len(line) - len(line.lstrip(line[:1])) if line[:1] in "<|=>" and line else 0
        if wanted == "<" and line[:1] == "<" and run >= MARKER_SIZE and line[run : run + 1] == " ":
            wanted, size = "=", run
        elif wanted == "=" and line == "=" * size:
            wanted = ">"
        elif wanted == ">" and line[:1] == ">" and run == size and line[run : run + 1] in {" ", ""}:
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
