"""Merge one file of base, user and template: bytes in, bytes out.

Lines are merged by diff3. Where that conflicts, the merge is tried again with what does not matter taken out of the way
(formatting, the order of definitions, indentation), and the conflicts that are left are refined by rules. Whatever comes
out is let through only by the gate; else the plain conflict stands. A merge by lines that would be unsound (it does not
parse, it uses a name that is gone) becomes a conflict too. What only a conflict needs is imported when there is one.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from .diff3 import merge3
from .gate import keeps_every_edit, problem
from .languages import parse_python
from .pieces import Piece, Sides, count_conflicts, resolved, source_of

MAX_REFINED_LINES = 20_000
"""A longer file is merged by lines only."""


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
    from .unions import without_double_imports

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
    from .reindent import reindented, with_tabs
    from .reorder import reordered
    from .restyle import format_lines, read_styles, styles_of
    from .unions import union_json

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
    from .rules import refine

    pieces = refine(variant)
    if problem(sides, pieces) is None and keeps_every_edit(counted, pieces):
        yield pieces, how


def _and(one: str, other: str) -> str:
    return f"{one}, {other}" if one and other else one or other


def _left(pieces: Sequence[Piece]) -> int:
    """How much is left to the user to look at: words, whose number is the same however lines are wrapped."""
    lines = (line for piece in pieces if piece.theirs is not None for line in (*piece.lines, *piece.theirs))
    return sum(len(re.findall(r"\w+|[^\w\s,]", line)) for line in lines)
