"""The search for the best merge of three texts.

Lines are merged by diff3. Where that conflicts, the merge is tried again through views, in which formatting, the order
of definitions or indentation do not count as changes, and the conflicts that are left are refined by rules. A result
counts only if it passes the gate; of those that do, the one that leaves the least to the user is taken. A merge by lines
that fails the gate becomes a conflict.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, combinations

from .diff3 import merge3
from .gate import keeps_every_edit, problem
from .languages import parse_python
from .pieces import Piece, Sides, View, conflict, count_conflicts, merged, resolved, source_of
from .reindent import reindented, with_tabs
from .reorder import reordered
from .restyle import formatting_views
from .rules import refine
from .unions import union_json, without_double_imports

MAX_REFINED_LINES = 20_000
"""A longer file is merged by lines only."""

AS_IS = View("", lambda sides: sides)
VIEWS = (
    View("your tabs kept", with_tabs),
    View("moved definitions matched by name", reordered),
    View("changed indentation followed", reindented),
)


def merge_lines(sides: Sides, formatter_files: Mapping[str, bytes] = {}) -> tuple[list[Piece], tuple[str, ...]]:
    """Merge three texts; return the pieces, and notes for the user on how it was done or why it conflicts."""
    best = merge_plainly(sides)
    note = problem(sides, best, ours_only=True) or ""
    if note:
        best = _with_conflicts_where_needed(sides)
    if count_conflicts(best) and max(map(len, sides.texts)) <= MAX_REFINED_LINES:
        for pieces, how in _attempts(sides, formatter_files):
            if _left(pieces) < _left(best):
                best, note = pieces, how
            if not count_conflicts(best):
                break
    if sides.language == "python" and not count_conflicts(best):
        best = [Piece(tuple(without_double_imports(sides, resolved(best, "ours"))))]
    return best, (note,) if note else ()


def merge_plainly(sides: Sides) -> list[Piece]:
    """Merge by lines and by nothing else."""
    return [merged(region, sides.cut(region)) for region in merge3(*sides.texts)]


def _with_conflicts_where_needed(sides: Sides) -> list[Piece]:
    """Merge by lines, with as few of the template's changes as possible turned into conflicts, so that it is valid.

    First all are conflicts; then each in turn is merged again if the result stays valid.
    """
    regions = merge3(*sides.texts)
    by_lines = merge_plainly(sides)
    changed = [place for place, region in enumerate(regions) if region.kind == "theirs"]
    pieces = list(by_lines)
    for place in changed:
        pieces[place] = conflict(sides.cut(regions[place]))
    for place in changed:
        attempt = [*pieces[:place], by_lines[place], *pieces[place + 1 :]]
        if problem(sides, attempt, ours_only=True) is None:
            pieces = attempt
    return pieces


def _attempts(sides: Sides, formatter_files: Mapping[str, bytes]) -> Iterator[tuple[list[Piece], str]]:
    """Merges that pass the gate, with a note on each; the closest to the files as they are first."""
    if sides.language == "json":
        lines = union_json(sides)
        if lines is not None:
            yield [Piece(tuple(lines))], "merged key by key"
    plainly = count_conflicts(merge_plainly(sides)) or 1
    for formatted, variant, note in _variants(sides, formatter_files):
        pieces = refine(variant)
        # In a conflict, the template's lines are wanted as they are, unless formatting them leaves fewer conflicts.
        if formatted is not sides and count_conflicts(pieces) >= plainly:
            continue
        # Edits are counted in the formatted texts: formatting breaks lines elsewhere.
        if problem(sides, pieces) is None and keeps_every_edit(formatted, pieces):
            yield pieces, note


def _variants(sides: Sides, formatter_files: Mapping[str, bytes]) -> Iterator[tuple[Sides, Sides, str]]:
    """The sides in every combination of views: (in the formatting alone, in all of them, note)."""
    yield sides, sides, ""
    if sides.language != "python" or parse_python(source_of(sides.ours)) is None:
        return
    combined = [views for count in range(len(VIEWS) + 1) for views in combinations(VIEWS, count)]
    # One after the other, as formatting takes the most time, and is rarely needed.
    for formatting in chain([AS_IS], formatting_views(sides.ours, formatter_files)):
        formatted = formatting.apply(sides)
        for views in combined if formatted is not None else ():
            variant = formatted
            for view in views:
                variant = view.apply(variant) if variant is not None else None
            if formatted is not None and variant is not None and variant is not sides:
                yield formatted, variant, ", ".join(view.note for view in (formatting, *views) if view.note)


def _left(pieces: Sequence[Piece]) -> int:
    """How much is left to the user to look at, in words: their number is the same however lines are wrapped."""
    lines = (line for piece in pieces if piece.theirs is not None for line in (*piece.lines, *piece.theirs))
    return sum(len(re.findall(r"\w+|[^\w\s,]", line)) for line in lines)
