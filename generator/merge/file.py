"""Merge one file of base, user and template: bytes in, bytes out."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from .diff import match
from .diff3 import merge3
from .languages import language_of, parses
from .markers import PLAIN_LABELS, Labels, write
from .pieces import Piece, Sides, conflict, count_conflicts, source_of
from .search import merge_lines
from .text import Text, decode, dress, encode, is_binary


class MergeResult(NamedTuple):
    """A merged file.

    Attributes:
        content: The merged bytes; the user's where a conflict cannot be written into them.
        conflicts: How many places are left to the user.
        notes: Why there is a conflict, where that cannot be seen in it; and what was done beyond a merge by lines.
        incoming: The template's bytes, to be put beside the file, where `content` cannot hold both.
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
        base: The file as it was generated; None where it was not, or where that is lost: then every difference is a
            conflict.
        ours: The user's file.
        theirs: The file as the template has it now.
        path: Its path, which says what language it is in.
        labels: What conflict markers call the sides.
        formatter_files: The project's files that may hold settings of a formatter, see `read_styles`.
    """
    if ours in (theirs, base):
        return MergeResult(theirs)
    if base == theirs:
        return MergeResult(ours)
    if is_binary(ours) or is_binary(theirs) or (base is not None and is_binary(base)):
        return MergeResult(ours, 1, ("binary file: yours is kept, the template's is beside it",), incoming=theirs)
    our_text, their_text = decode(ours), decode(theirs)
    base_text = None if base is None else decode(base)
    notes: tuple[str, ...] = ("no earlier version to compare with",)
    if base_text is None:
        pieces = _two_way(our_text, their_text)
    else:
        sides = Sides(language_of(path), base_text.lines, our_text.lines, their_text.lines)
        if sides.language == "json" and not all(parses("json", source_of(lines)) for lines in sides.texts):
            sides = sides._replace(language="jsonc")  # one side has comments or last commas
        pieces, notes = merge_lines(sides, formatter_files)
    text = dress(write(pieces, labels), base_text, our_text, their_text)
    return MergeResult(encode(text), count_conflicts(pieces), notes)


def _two_way(ours: Text, theirs: Text) -> list[Piece]:
    """Every difference as a conflict: without a base, nobody knows which side made it."""
    pieces: list[Piece] = []
    i = j = 0
    for next_i, next_j in [*match(ours.lines, theirs.lines), (len(ours.lines), len(theirs.lines))]:
        if next_i > i or next_j > j:
            pieces.append(Piece(ours.lines[i:next_i], (), theirs.lines[j:next_j]))
        if next_i < len(ours.lines):
            pieces.append(Piece(ours.lines[next_i : next_i + 1]))
        i, j = next_i + 1, next_j + 1
    return pieces


def with_conflicts(
    base: bytes, ours: bytes, merged: bytes, lines: Collection[int], labels: Labels = PLAIN_LABELS
) -> MergeResult:
    """Take a merge without conflicts, and leave the template's changes at some of its lines to the user.

    Args:
        base: The file as it was generated.
        ours: The user's file.
        merged: What it was merged into.
        lines: Lines of `merged`, counted from 1; where lines were removed, the one that follows them.
        labels: What conflict markers call the sides.
    """
    texts = decode(base), decode(ours), decode(merged)
    sides = Sides("text", *(text.lines for text in texts))
    pieces = []
    for region in merge3(*sides.texts):
        wanted = range(region.theirs.start, max(region.theirs.stop, region.theirs.start + 1))
        hit = region.kind in {"theirs", "conflict"} and any(line - 1 in wanted for line in lines)
        pieces.append(conflict(sides.cut(region)) if hit else Piece(sides.cut(region).theirs))
    return MergeResult(encode(dress(write(pieces, labels), *texts)), count_conflicts(pieces))
