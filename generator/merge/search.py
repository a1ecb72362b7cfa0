"""The search for the best merge of three texts.

Lines are merged by diff3. Where that conflicts, the merge is tried again through views, in which formatting, the order
of definitions or indentation do not count as changes, and the conflicts that are left are refined by rules. A result
counts only if it passes the gate; of those that do, the one that leaves the least to the user is taken. A merge by lines
that fails the gate becomes a conflict.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product

from .diff3 import merge3
from .gate import keeps_every_edit, problem
from .imports import without_double_imports
from .json_union import union_json
from .languages import parse_python
from .pieces import Piece, Sides, View, conflict, count_conflicts, merged, resolved, source_of
from .reindent import reindented, with_tabs
from .reorder import reordered
from .restyle import STYLES_TRIED, formatting_views
from .rules import has_already, refine
from .work import CHECK, FORMAT, Work, fitting

MAX_LINES = 3_000
"""A file in which one side is longer is merged by lines only."""

BY_LINES_ONLY = f"merged by lines only, as it has more than {MAX_LINES} lines"
UNSTABLE = "the two changes overlap: merged once more, the result would change"
CUT_SHORT = "too much to compare: only a part of the ways to merge it was tried"

AS_IS = View("", lambda sides: sides)
VIEWS = (
    (AS_IS, View("your tabs kept", with_tabs)),
    (AS_IS, View("moved definitions matched by name", reordered)),
    (AS_IS, View("changed indentation followed", reindented)),
)
"""What is tried together: one view of each row, the first row first."""


def merge_lines(sides: Sides, formatter_files: Mapping[str, bytes] = {}) -> tuple[list[Piece], tuple[str, ...]]:
    """Merge three texts; return the pieces, and notes for the user on how it was done or why it conflicts.

    A clean result counts only if it stays as it is when it is merged once more. What then conflicts is a conflict, in which
    ours has both sides' edits already.
    """
    work = Work()
    if max(map(len, sides.texts)) > MAX_LINES:
        pieces, note = _merge_valid(sides, work, parse_only=True)
        return pieces, (*([note] if note else ()), BY_LINES_ONLY)
    if has_already(sides):
        return [Piece(sides.ours)], ()
    pieces, notes = _search(sides, formatter_files, work)
    if count_conflicts(pieces):
        return pieces, notes
    result = resolved(pieces, "ours")
    again = sides._replace(ours=result)
    # A line that the template removed may equal one that the user added, by a copy: then counting cannot tell.
    copied = not notes and not keeps_every_edit(again, [Piece(result)])
    if copied or result in (sides.ours, sides.theirs) or has_already(again):
        return pieces, notes
    repeated, _ = _search(again, formatter_files, Work())
    if count_conflicts(repeated):
        return repeated, (UNSTABLE,)
    return (pieces, notes) if resolved(repeated, "ours") == result else (_as_conflicts(sides), (UNSTABLE,))


def _as_conflicts(sides: Sides) -> list[Piece]:
    """A merge by lines with every change of the template that ours lacks as a conflict."""
    pieces = []
    for region in merge3(*sides.texts):
        lines = sides.cut(region)
        pieces.append(conflict(lines) if region.kind == "theirs" else merged(region, lines))
    return pieces


def _search(sides: Sides, formatter_files: Mapping[str, bytes], work: Work) -> tuple[list[Piece], tuple[str, ...]]:
    """The best merge that can be found with the work that is left."""
    best, note = _merge_valid(sides, work)
    if count_conflicts(best):
        for pieces, how in _attempts(sides, formatter_files, work):
            if _left(pieces) < _left(best):
                best, note = pieces, how
            if not count_conflicts(best):
                break
    if sides.language == "python" and not count_conflicts(best):
        best = [Piece(tuple(without_double_imports(sides, resolved(best, "ours"))))]
    notes = [note] if note else []
    if count_conflicts(best) and not work.left:
        notes.append(CUT_SHORT)
    return best, tuple(notes)


def merge_plainly(sides: Sides) -> list[Piece]:
    """Merge by lines and by nothing else."""
    return [merged(region, sides.cut(region)) for region in merge3(*sides.texts)]


def _merge_valid(sides: Sides, work: Work, parse_only: bool = False) -> tuple[list[Piece], str]:
    """Merge by lines, with as few of the template's changes as possible turned into conflicts, so that it is valid.

    Also returns what would be wrong without these conflicts.
    """
    regions = merge3(*sides.texts)
    by_lines = [merged(region, sides.cut(region)) for region in regions]
    changed = [place for place, region in enumerate(regions) if region.kind == "theirs"]

    def with_only(places: list[int]) -> list[Piece]:
        left = {*changed} - {*places}
        return [conflict(sides.cut(regions[i])) if i in left else piece for i, piece in enumerate(by_lines)]

    def fits(places: list[int]) -> bool:
        can = work.spend(len(sides.ours))
        return can and problem(sides, with_only(places), ours_only=True, parse_only=parse_only) is None

    note = problem(sides, by_lines, ours_only=True, parse_only=parse_only)
    return (by_lines, "") if note is None else (with_only(fitting(changed, fits)), note)


def _attempts(sides: Sides, formatter_files: Mapping[str, bytes], work: Work) -> Iterator[tuple[list[Piece], str]]:
    """Merges that pass the gate, with a note on each; the closest to the files as they are first."""
    if sides.language in {"json", "jsonc"}:
        lines = union_json(sides)
        if lines is not None:
            yield [Piece(tuple(lines))], "merged key by key"
    plainly = count_conflicts(merge_plainly(sides)) or 1
    for formatted, variant, note in _variants(sides, formatter_files, work):
        pieces = [Piece(variant.ours)] if has_already(variant) else refine(variant, work)
        # In a conflict, the template's lines are wanted as they are, unless formatting them leaves fewer conflicts.
        if formatted is not sides and count_conflicts(pieces) >= plainly:
            continue
        # Edits are counted in the formatted texts: formatting breaks lines elsewhere.
        if problem(sides, pieces) is None and keeps_every_edit(formatted, pieces):
            yield pieces, note


def _variants(sides: Sides, formatter_files: Mapping[str, bytes], work: Work) -> Iterator[tuple[Sides, Sides, str]]:
    """The sides in every combination of views: (in the formatting alone, in all of them, note)."""
    yield sides, sides, ""
    if sides.language != "python" or parse_python(source_of(sides.ours)) is None:
        return
    seen = {sides}
    combined = sorted(product(*VIEWS), key=lambda views: sum(view is not AS_IS for view in views))
    for formatting, formatted in _formatted(sides, formatter_files, work):
        for views in combined if formatted is not None else ():
            variant = formatted
            for view in views:
                variant = view.apply(variant) if variant is not None else None
            if formatted is not None and variant is not None and variant not in seen:
                if not work.spend(len(sides.ours) * CHECK):
                    return
                seen.add(variant)
                yield formatted, variant, ", ".join(view.note for view in (formatting, *views) if view.note)


def _formatted(sides: Sides, formatter_files: Mapping[str, bytes], work: Work) -> Iterator[tuple[View, Sides | None]]:
    """The sides as they are, then in each formatting: one after the other, as it takes the most time and is rarely needed."""
    yield AS_IS, sides
    if sides.language != "python" or not work.spend(len(sides.ours) * STYLES_TRIED * FORMAT):
        return
    for view in formatting_views(sides.ours, formatter_files):
        if not work.spend((len(sides.base) + len(sides.theirs)) * FORMAT):
            return
        yield view, view.apply(sides)


def _left(pieces: Sequence[Piece]) -> int:
    """How much is left to the user to look at, in words: their number is the same however lines are wrapped."""
    lines = (line for piece in pieces if piece.theirs is not None for line in (*piece.lines, *piece.theirs))
    return sum(len(_WORD.findall(line)) for line in lines)


_WORD = re.compile(r"\w+|[^\w\s,]")
