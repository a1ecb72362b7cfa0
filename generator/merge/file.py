"""Merge one file: the bytes of base, user and template in, the merged bytes out."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from .diff import changes
from .diff3 import merge3
from .languages import language_of, parses
from .markers import PLAIN_LABELS, Labels, write
from .pieces import Piece, Sides, conflict, count_conflicts, source_of
from .search import merge_lines
from .text import Text, decode, dress, encode, is_binary


class MergeResult(NamedTuple):
    """A merged file.

    Attributes:
        content: The merged bytes; the user's if conflict markers cannot be written into them.
        conflicts: The number of conflicts.
        notes: What was done beyond a merge by lines, and the reason of a conflict that does not show it.
        incoming: The template's bytes, to be put beside the file, if `content` cannot hold both.
    """

    content: bytes
    conflicts: int = 0
    notes: tuple[str, ...] = ()
    incoming: bytes | None = None


def merge_file(
    base: bytes | None,
    ours: bytes,
    theirs: bytes,
    path: str,
    labels: Labels = PLAIN_LABELS,
    formatter_files: Mapping[str, bytes] = {},
) -> MergeResult:
    """Merge the user's and the template's changes of one file.

    Args:
        base: The file as generated; None if it was not, or is lost: every difference is then a conflict.
        ours: The user's file.
        theirs: The template's file now.
        path: Its path; the name tells its language.
        labels: The labels of the sides in conflict markers.
        formatter_files: The project's files that may configure a formatter, see `read_styles`.
    """
    if ours in (theirs, base):
        return MergeResult(theirs)
    if base == theirs:
        return MergeResult(ours)
    if is_binary(ours) or is_binary(theirs) or (base is not None and is_binary(base)):
        return MergeResult(ours, 1, ("binary file: yours is kept, the template's is put beside it",), incoming=theirs)
    our_text, their_text = decode(ours), decode(theirs)
    base_text = None if base is None else decode(base)
    notes: tuple[str, ...] = ("no earlier version to compare with",)
    if base_text is None:
        pieces = _two_way(our_text, their_text)
    else:
        sides = Sides(language_of(path), base_text.lines, our_text.lines, their_text.lines)
        if sides.language == "json" and not all(parses("json", source_of(lines)) for lines in sides.texts):
            sides = sides._replace(language="jsonc")  # a side has comments or trailing commas
        pieces, notes = merge_lines(sides, formatter_files)
    text = dress(write(pieces, labels), base_text, our_text, their_text)
    return MergeResult(encode(text), count_conflicts(pieces), notes)


def _two_way(ours: Text, theirs: Text) -> list[Piece]:
    """Make every difference a conflict: without a base, it is unknown which side made it."""
    pieces: list[Piece] = []
    done = 0
    for mine, new in changes(ours.lines, theirs.lines):
        pieces.append(Piece(ours.lines[done : mine.start]))
        pieces.append(Piece(ours.lines[mine.start : mine.stop], (), theirs.lines[new.start : new.stop]))
        done = mine.stop
    return [*pieces, Piece(ours.lines[done:])]


def with_conflicts(
    base: bytes, ours: bytes, merged: bytes, lines: Collection[int], labels: Labels = PLAIN_LABELS
) -> MergeResult:
    """Turn the template's changes at some lines of a clean merge into conflicts.

    Args:
        base: The file as generated.
        ours: The user's file.
        merged: The clean merge.
        lines: Lines of `merged`, counted from 1; for removed lines, the line after them.
        labels: The labels of the sides in conflict markers.
    """
    texts = decode(base), decode(ours), decode(merged)
    sides = Sides("text", *(text.lines for text in texts))
    pieces = []
    for region in merge3(*sides.texts):
        wanted = range(region.theirs.start, max(region.theirs.stop, region.theirs.start + 1))
        hit = region.kind in {"theirs", "conflict"} and any(line - 1 in wanted for line in lines)
        pieces.append(conflict(sides.cut(region)) if hit else Piece(sides.cut(region).theirs))
    return MergeResult(encode(dress(write(pieces, labels), *texts)), count_conflicts(pieces))
