"""Search for the best merge of three texts.

Lines are merged by diff3. If that conflicts, it is tried again with views, in which formatting, the order of definitions
or indentation do not count as changes, and rules resolve what they can of the remaining conflicts. A result counts only
if it passes the gate; the one with the least text in conflicts wins. If a merge by lines fails the gate, the template's
changes that break it become conflicts.
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
from .work import FORMAT, Work, fitting

MAX_LINES = 3_000
"""A file is merged by lines only if a side is longer."""

BY_LINES_ONLY = f"merged by lines only, as it has more than {MAX_LINES} lines"
UNSTABLE = "the two changes overlap: merging the result again would change it"
CUT_SHORT = "too much to compare: not every way to merge it was tried"

AS_IS = View("", lambda sides: sides)
VIEWS = (
    (AS_IS, View("your tabs kept", with_tabs)),
    (AS_IS, View("moved definitions matched by name", reordered)),
    (AS_IS, View("changed indentation followed", reindented)),
)
"""Every combination of one view per row is tried, applied from the first row to the last."""


def merge_lines(sides: Sides, formatter_files: Mapping[str, bytes] = {}) -> tuple[list[Piece], tuple[str, ...]]:
    """Merge three texts; return the pieces, and notes for the user: how they were merged, or why they conflict.

    A clean result counts only if merging it again, as ours, does not change it. If that merge conflicts, its conflicts are
    returned; ours has both sides' edits there.
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
    # The user may have added a copy of a line that the template removed: counting lines cannot tell them apart.
    copied = not notes and not keeps_every_edit(again, [Piece(result)])
    if copied or result in (sides.ours, sides.theirs) or has_already(again):
        return pieces, notes
    repeated, _ = _search(again, formatter_files, Work())
    if count_conflicts(repeated):
        return repeated, (UNSTABLE,)
    return (pieces, notes) if resolved(repeated, "ours") == result else (_as_conflicts(sides), (UNSTABLE,))


def _as_conflicts(sides: Sides) -> list[Piece]:
    """Merge by lines, with every change of the template that ours lacks as a conflict."""
    regions = merge3(*sides.texts)
    return [
        conflict(sides.cut(region)) if region.kind == "theirs" else merged(region, sides.cut(region))
        for region in regions
    ]


def _search(sides: Sides, formatter_files: Mapping[str, bytes], work: Work) -> tuple[list[Piece], tuple[str, ...]]:
    """The best merge that is found before the work is used up, and notes."""
    best, note = _merge_valid(sides, work)
    if count_conflicts(best):
        for pieces, how in _attempts(sides, formatter_files, work):
            if _words_in_conflicts(pieces) < _words_in_conflicts(best):
                best, note = pieces, how
            if not count_conflicts(best):
                break
    if sides.language == "python" and not count_conflicts(best):
        best = [Piece(tuple(without_double_imports(sides, resolved(best, "ours"))))]
    notes = [note] if note else []
    if count_conflicts(best) and not work.left:
        notes.append(CUT_SHORT)
    return best, tuple(notes)


def _merge_valid(sides: Sides, work: Work, parse_only: bool = False) -> tuple[list[Piece], str]:
    """Merge by lines; if the result fails the gate, turn as few of the template's changes as possible into conflicts.

    Returns:
        The pieces; and what would be wrong without these conflicts, or an empty string.
    """
    regions = merge3(*sides.texts)
    by_lines = [merged(region, sides.cut(region)) for region in regions]
    changed = [place for place, region in enumerate(regions) if region.kind == "theirs"]

    def with_only(places: list[int]) -> list[Piece]:
        left_out = {*changed} - {*places}
        return [conflict(sides.cut(regions[i])) if i in left_out else piece for i, piece in enumerate(by_lines)]

    def fits(places: list[int]) -> bool:
        has_work = work.spend(len(sides.ours))
        return has_work and problem(sides, with_only(places), ours_only=True, parse_only=parse_only) is None

    note = problem(sides, by_lines, ours_only=True, parse_only=parse_only)
    return (by_lines, "") if note is None else (with_only(fitting(changed, fits)), note)


def _attempts(sides: Sides, formatter_files: Mapping[str, bytes], work: Work) -> Iterator[tuple[list[Piece], str]]:
    """Yield merges that pass the gate, each with a note; those with the fewest views first."""
    if sides.language in {"json", "jsonc"}:
        lines = union_json(sides)
        if lines is not None:
            yield [Piece(tuple(lines))], "merged key by key"
    by_lines = sum(region.kind == "conflict" for region in merge3(*sides.texts)) or 1
    for formatted, variant, note in _variants(sides, formatter_files, work):
        pieces = [Piece(variant.ours)] if has_already(variant) else refine(variant, work)
        # Conflicts show the template's lines unformatted, unless formatting leaves fewer conflicts.
        if formatted is not sides and count_conflicts(pieces) >= by_lines:
            continue
        # Edits are counted in the formatted texts, as formatting moves line breaks.
        if problem(sides, pieces) is None and keeps_every_edit(formatted, pieces):
            yield pieces, note


def _variants(sides: Sides, formatter_files: Mapping[str, bytes], work: Work) -> Iterator[tuple[Sides, Sides, str]]:
    """Yield the sides in every combination of views: (with the formatting only, with all views, note)."""
    yield sides, sides, ""
    if sides.language != "python" or parse_python(source_of(sides.ours)) is None:
        return
    seen = {sides}
    combined = sorted(product(*VIEWS), key=lambda views: sum(view is not AS_IS for view in views))
    for formatting, formatted in _formatted(sides, formatter_files, work):
        for views in combined:
            variant: Sides | None = formatted
            for view in views:
                variant = view.apply(variant) if variant is not None else None
            if variant is not None and variant not in seen:
                if not work.spend(len(sides.ours)):
                    return
                seen.add(variant)
                yield formatted, variant, ", ".join(view.note for view in (formatting, *views) if view.note)


def _formatted(sides: Sides, formatter_files: Mapping[str, bytes], work: Work) -> Iterator[tuple[View, Sides]]:
    """Yield the sides as they are, then in each style; lazily, as formatting is slow and rarely needed."""
    yield AS_IS, sides
    if not work.spend(len(sides.ours) * STYLES_TRIED * FORMAT):
        return
    for view in formatting_views(sides.ours, formatter_files):
        if not work.spend((len(sides.base) + len(sides.theirs)) * FORMAT):
            return
        formatted = view.apply(sides)
        if formatted is not None:
            yield view, formatted


def _words_in_conflicts(pieces: Sequence[Piece]) -> int:
    """How much the user has to read in conflicts, in words: unlike lines, wrapping does not change their number."""
    lines = (line for piece in pieces if piece.theirs is not None for line in (*piece.lines, *piece.theirs))
    return sum(len(_WORD.findall(line)) for line in lines)


_WORD = re.compile(r"\w+|[^\w\s,]")
