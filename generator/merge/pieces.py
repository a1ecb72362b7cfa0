"""What a merge works on: the three sides of a file, the pieces of its result, and a conflict with the lines around it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from .diff3 import Region
from .languages import Language

Lines = tuple[str, ...]


class Sides(NamedTuple):
    """The three texts of a merge, as lines without their endings."""

    language: Language
    base: Lines
    ours: Lines
    theirs: Lines

    @property
    def texts(self) -> tuple[Lines, Lines, Lines]:
        return self.base, self.ours, self.theirs

    def cut(self, region: Region) -> "Sides":
        """The lines of one region of their merge."""
        base, ours, theirs = (
            text[span.start : span.stop]
            for text, span in zip(self.texts, (region.base, region.ours, region.theirs), strict=True)
        )
        return self._replace(base=base, ours=ours, theirs=theirs)


class Piece(NamedTuple):
    """A stretch of a merge's result: merged lines, or a conflict.

    Attributes:
        lines: The merged lines; in a conflict, ours.
        base: In a conflict, the base's lines.
        theirs: In a conflict, the template's lines; None where the lines are merged.
    """

    lines: Lines
    base: Lines = ()
    theirs: Lines | None = None

    @property
    def is_conflict(self) -> bool:
        return self.theirs is not None


class Hunk(NamedTuple):
    """A conflict of a merge by lines, and what a rule may know of its place.

    Attributes:
        sides: The lines of each side.
        before: The lines right above it that all three sides share.
        whole: Whether it starts and ends at logical lines on every side.
        width: The line length of the user's file, at least black's default.
        above: All lines above it in the user's file; None if unknown.
        below: All lines below it in the user's file; None if unknown.
    """

    sides: Sides
    before: Lines = ()
    whole: bool = True
    width: int = 88
    above: Lines | None = None
    below: Lines | None = None

    def readings(self) -> "Iterator[tuple[Hunk, Lines]]":
        """Yield this hunk, then, if it only inserts lines, each way to read the same insertion further up.

        A diff is ambiguous where an insertion ends like the text above it: with a decorator, a bracket, a blank line. Each
        reading comes with the lines by which it moved up; they stay above the hunk, so the merged insertion starts with
        them.
        """
        yield self, ()
        if any(line.strip() for line in self.sides.base):
            return
        for slide in range(1, min(len(self.before), 12) + 1):
            moved = self.before[len(self.before) - slide :]
            ours, theirs = self.sides.ours, self.sides.theirs
            if ours[-slide:] != moved or theirs[-slide:] != moved:
                return
            sides = self.sides._replace(
                ours=(moved + ours)[: len(ours)],
                theirs=(moved + theirs)[: len(theirs)],
            )
            above = None if self.above is None else self.above[: len(self.above) - slide]
            below = None if self.below is None else moved + self.below
            yield self._replace(sides=sides, before=self.before[:-slide], above=above, below=below), moved


class View(NamedTuple):
    """A way to look at a file in which some difference does not count as a change.

    Attributes:
        note: What to tell the user about it.
        apply: Apply it to all three sides; returns None if that changes nothing or is not safe.
    """

    note: str
    apply: Callable[[Sides], Sides | None]


def conflict(sides: Sides) -> Piece:
    return Piece(sides.ours, sides.base, sides.theirs)


def merged(region: Region, sides: Sides) -> Piece:
    """The result of one region of a merge by lines; `sides` are its lines, from `Sides.cut`."""
    if region.kind == "conflict":
        return conflict(sides)
    return Piece(sides.theirs if region.kind == "theirs" else sides.ours)


def count_conflicts(pieces: Iterable[Piece]) -> int:
    return sum(piece.is_conflict for piece in pieces)


def resolved(pieces: Iterable[Piece], side: Literal["ours", "theirs"]) -> Lines:
    """The text with every conflict resolved for one side."""
    lines: list[str] = []
    for piece in pieces:
        lines += piece.lines if piece.theirs is None or side == "ours" else piece.theirs
    return tuple(lines)


def source_of(lines: Sequence[str]) -> str:
    return "".join(line + "\n" for line in lines)


def indent_of(line: str) -> int:
    return len(line) - len(line.lstrip())


def is_blank_or_comment(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")
