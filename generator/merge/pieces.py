"""What a merge is made of: its three sides, and the pieces of its result."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .languages import Language


class Sides(NamedTuple):
    """The three texts of a merge, as lines, and their language."""

    kind: Language
    base: tuple[str, ...]
    ours: tuple[str, ...]
    theirs: tuple[str, ...]


class Piece(NamedTuple):
    """A stretch of a merge's result: lines that stand, or a conflict.

    Attributes:
        lines: The lines; in a conflict, ours.
        base: None where the lines stand.
        theirs: None where the lines stand.
    """

    lines: tuple[str, ...]
    base: tuple[str, ...] | None = None
    theirs: tuple[str, ...] | None = None

    @property
    def conflict(self) -> bool:
        return self.theirs is not None


def count_conflicts(pieces: Iterable[Piece]) -> int:
    return sum(piece.conflict for piece in pieces)


def resolved(pieces: Iterable[Piece], side: str) -> tuple[str, ...]:
    """The text in which every conflict is decided for `side`, "ours" or "theirs"."""
    lines: list[str] = []
    for piece in pieces:
        lines += piece.lines if piece.theirs is None or side == "ours" else piece.theirs
    return tuple(lines)


def source_of(lines: Sequence[str]) -> str:
    return "".join(line + "\n" for line in lines)
