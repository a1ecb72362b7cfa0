"""Merge one file of base, user and template: bytes in, bytes out.

Lines are merged by diff3. Where that conflicts, the merge is tried again with what does not matter taken out of the way
(formatting, the order of definitions, indentation), and the conflicts that are left are refined by rules. Whatever comes
out is let through only by the gate; else the plain conflict stands. A merge by lines that would be unsound (it does not
parse, it uses a name that is gone) becomes a conflict too. What only a conflict needs is imported when there is one.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from .diff3 import match, merge3
from .gate import Piece, Sides, count_conflicts, keeps_every_edit, problem, resolved, source_of
from .syntax import language, parse_python
from .text import Text, decode, dress, encode, has_markers, is_binary, marker_size

MAX_REFINED_LINES = 20_000
"""A longer file is merged by lines only."""


class Labels(NamedTuple):
    """What conflict markers call the sides."""

    ours: str = "yours"
    base: str = "old template"
    theirs: str = "new template"


PLAIN_LABELS = Labels()


class MergeResult(NamedTuple):
    """A merged file.

    Attributes:
        content: The merged bytes; the user's own where there is no way to write a conflict into them.
        conflicts: How many places are left to the user.
        notes: Why, where it is not plain to see; and what was done beyond a merge of lines.
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
    settings: Mapping[str, bytes] = {},
) -> MergeResult:
    """Merge the user's and the template's changes of one file.

    Args:
        base: The file as it was generated; None where it was not, or is not known: then whatever differs is a conflict.
        ours: The user's file.
        theirs: The file as the template has it now.
        path: Its path, which tells its language.
        settings: The project's files that may hold settings of a formatter, see `read_styles`.
    """
    if ours in (theirs, base):
        return MergeResult(theirs)
    if base == theirs:
        return MergeResult(ours)
    if is_binary(ours) or is_binary(theirs) or (base is not None and is_binary(base)):
        return MergeResult(ours, 1, ("binary: yours is kept, the template's is beside it",), incoming=theirs)
    if has_markers(ours) and not has_markers(theirs):
        return MergeResult(ours, 1, ("it holds conflict markers already",), incoming=theirs)
    mine, new = decode(ours), decode(theirs)
    old = None if base is None else decode(base)
    if old is None:
        notes: tuple[str, ...] = ("there is no earlier version to compare with",)
        pieces = _two_way(mine, new)
    else:
        sides = Sides(language(path), old.lines, mine.lines, new.lines)
        pieces, notes = merge_lines(sides, settings)
    text = dress(_written(pieces, labels), old, mine, new)
    return MergeResult(encode(text), count_conflicts(pieces), notes)


def merge_lines(sides: Sides, settings: Mapping[str, bytes] = {}) -> tuple[list[Piece], tuple[str, ...]]:
    """Merge three texts without their line ends; return the pieces, and notes on what was done."""
    best, notes = merge_plainly(sides), ""
    wrong = problem(sides, best, ours_only=True)
    if wrong:
        best, notes = _until_sound(sides), wrong
    if count_conflicts(best) and max(map(len, (sides.base, sides.ours, sides.theirs))) <= MAX_REFINED_LINES:
        for pieces, how in _attempts(sides, settings):
            if _left(pieces) < _left(best):
                best, notes = pieces, how
            if not count_conflicts(best):
                break
    if sides.kind != "python" or count_conflicts(best):
        return best, (notes,) if notes else ()
    from .units import without_double_imports

    once = without_double_imports(sides, resolved(best, "ours"))
    return [Piece(tuple(once))], (notes,) if notes else ()


def merge_plainly(sides: Sides) -> list[Piece]:
    """Merge by lines and by nothing else."""
    pieces: list[Piece] = []
    for region in merge3(sides.base, sides.ours, sides.theirs):
        base, ours, theirs = (
            text[span.start : span.stop]
            for text, span in zip(sides[1:], (region.base, region.ours, region.theirs), strict=True)
        )
        if region.kind == "conflict":
            pieces.append(Piece(ours, base, theirs))
        else:
            pieces.append(Piece(theirs if region.kind == "theirs" else ours))
    return pieces


def _until_sound(sides: Sides) -> list[Piece]:
    """Turn as few of the template's changes as can be into conflicts, so that what stands is sound."""
    by_lines = merge_plainly(sides)
    pieces: list[Piece] = []
    flipped: list[int] = []
    for place, region in enumerate(merge3(sides.base, sides.ours, sides.theirs)):
        pieces.append(by_lines[place])
        if region.kind == "theirs":
            spans = region.ours, region.base, region.theirs
            texts = sides.ours, sides.base, sides.theirs
            pieces[place] = Piece(*(text[span.start : span.stop] for text, span in zip(texts, spans, strict=True)))
            flipped.append(place)
    for place in flipped:
        attempt = [*pieces[:place], by_lines[place], *pieces[place + 1 :]]
        if problem(sides, attempt, ours_only=True) is None:
            pieces = attempt
    return pieces


def _attempts(sides: Sides, settings: Mapping[str, bytes]) -> Iterator[tuple[list[Piece], str]]:
    """Merges worth comparing, the closest to the files first; each has passed the gate."""
    from .formatting import format_lines, read_styles, styles_of
    from .reindent import reindented, with_tabs
    from .unions import union_json
    from .units import reordered

    if sides.kind == "json":
        merged = union_json(sides.base, sides.ours, sides.theirs)
        if merged is not None:
            yield [Piece(tuple(merged))], "merged key by key"
    yield from _gated(sides, sides, sides, "")
    if sides.kind != "python" or parse_python(source_of(sides.ours)) is None:
        return
    tabbed = with_tabs(sides)
    if tabbed is not None:
        yield from _gated(sides, sides, tabbed, "your tabs kept")
    variants = [(sides, "")]
    for alike, how in ((reordered, "definitions matched by name"), (reindented, "indentation followed")):
        for variant, note in list(variants):
            changed = alike(variant)
            if changed is not None:
                variants.append((changed, _and(note, how)))
                yield from _gated(sides, sides, *variants[-1])
    styles = read_styles(settings)
    plainly = count_conflicts(merge_plainly(sides)) or 1
    for variant, note in variants:
        known = list(styles_of(variant.ours, styles))
        # Without the last comma's say: a list that the template only wrapped over more lines is no change then.
        for style in [*known, *(style._replace(magic_comma=False) for style in known if style.magic_comma)]:
            base, theirs = format_lines(variant.base, style), format_lines(variant.theirs, style)
            if base is None or theirs is None or (base, theirs) == (variant.base, variant.theirs):
                continue
            in_style = variant._replace(base=base, theirs=theirs)
            followed = reindented(in_style)
            for some, how in ((in_style, ""), (followed, "indentation followed")):
                if some is not None:
                    found = _gated(sides, in_style, some, _and(_and(note, "your formatting kept"), how))
                    # In a conflict the template's lines are wanted as they are, unless there are fewer conflicts so.
                    yield from (option for option in found if count_conflicts(option[0]) < plainly)


def _gated(sides: Sides, counted: Sides, variant: Sides, how: str) -> Iterator[tuple[list[Piece], str]]:
    """Merge a variant of the sides, if what comes out is as sound as the sides and has every edit of `counted`.

    Those are the sides themselves but for another formatting, which breaks lines elsewhere.
    """
    from .refine import refine

    pieces = refine(variant)
    if problem(sides, pieces) is None and keeps_every_edit(counted, pieces):
        yield pieces, how


def _and(one: str, other: str) -> str:
    return f"{one}, {other}" if one and other else one or other


def _left(pieces: Sequence[Piece]) -> int:
    """How much is left to the user to look at: words, whose number is the same however lines are wrapped."""
    lines = (line for piece in pieces if piece.theirs is not None for line in (*piece.lines, *piece.theirs))
    return sum(len(re.findall(r"\w+|[^\w\s,]", line)) for line in lines)


def _two_way(ours: Text, theirs: Text) -> list[Piece]:
    """Every difference a conflict: without a base nobody knows which side made it."""
    pieces: list[Piece] = []
    i = j = 0
    for next_i, next_j in [*match(ours.lines, theirs.lines), (len(ours.lines), len(theirs.lines))]:
        if next_i > i or next_j > j:
            pieces.append(Piece(ours.lines[i:next_i], (), theirs.lines[j:next_j]))
        if next_i < len(ours.lines):
            pieces.append(Piece(ours.lines[next_i : next_i + 1]))
        i, j = next_i + 1, next_j + 1
    return pieces


def _written(pieces: Sequence[Piece], labels: Labels) -> list[str]:
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
