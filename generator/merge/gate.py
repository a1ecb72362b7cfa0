"""What a merged text must fulfil before anyone sees it: no edit is lost, and it has no defect that neither side has."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache

from .defects import new_defect
from .imports import IMPORT, imported
from .languages import Language, parses
from .pieces import Lines, Piece, Sides, resolved, source_of

_TITLES = {"python": "Python", "toml": "TOML", "json": "JSON", "jsonc": "JSON", "yaml": "YAML"}


def problem(sides: Sides, pieces: Sequence[Piece], ours_only: bool = False, parse_only: bool = False) -> str | None:
    """What is wrong with a result of two valid sides and with neither of them, in words; None if nothing is.

    A result with conflicts is judged as if all were resolved for one side, then for the other.

    Args:
        ours_only: Judge only the result with all conflicts resolved for ours.
        parse_only: Look for nothing but text that does not parse.
    """
    ours, theirs = source_of(sides.ours), source_of(sides.theirs)
    for side in ("ours",) if ours_only else ("ours", "theirs"):
        result = source_of(resolved(pieces, side))
        if result in (ours, theirs):
            continue
        valid = parses(sides.language, result)
        if valid and parse_only:
            continue
        if not (parses(sides.language, ours) and parses(sides.language, theirs)):
            return None  # a side that is broken already gives nothing to compare with
        if not valid:
            return f"the merged result would not be valid {_TITLES.get(sides.language, sides.language)}"
        found = new_defect(sides.language, ours, theirs, result)
        if found is not None:
            return found
    return None


def keeps_every_edit(sides: Sides, pieces: Sequence[Piece]) -> bool:
    """Whether each line that a side added is there as often as it must be, and no line that a side removed is back.

    Lines are compared without white space and without a last comma; in Python, imports as sets of names instead.
    """
    language = sides.language
    conflicts = [piece for piece in pieces if piece.theirs is not None and piece.base is not None]
    base, ours, theirs = (_tally_of_side(language, lines) for lines in sides.texts)
    in_base, in_ours, in_theirs = Counter[str](), Counter[str](), Counter[str]()
    for piece in conflicts:
        in_base += _tally(language, piece.base or ())
        in_ours += _tally(language, piece.lines)
        in_theirs += _tally(language, piece.theirs or ())
    # Resolved for ours, the conflicts are a merge with a template that left those places as they were; and vice versa.
    for_ours = _tally(language, resolved(pieces, "ours"))
    for_theirs = _tally(language, resolved(pieces, "theirs"))
    if not _adds_up(base, ours, _without(theirs, in_theirs, in_base), for_ours):
        return False
    if conflicts and not _adds_up(base, _without(ours, in_ours, in_base), theirs, for_theirs):
        return False
    if language != "python" or any(_has_imports(piece) for piece in conflicts):
        return True
    names = [imported(source_of(lines)) for lines in sides.texts]
    wanted = (names[0] & names[1] & names[2]) | (names[1] - names[0]) | (names[2] - names[0])
    return imported(source_of(resolved(pieces, "ours"))) == wanted


def _without(side: Counter[str], change: Counter[str], base: Counter[str]) -> Counter[str]:
    """The lines of a side that kept the base's lines where it made this change."""
    total = Counter(side)
    total.subtract(change)
    total.update(base)
    return total


def _adds_up(base: Counter[str], ours: Counter[str], theirs: Counter[str], result: Counter[str]) -> bool:
    for line in base.keys() | ours.keys() | theirs.keys() | result.keys():
        by_ours, by_theirs = ours[line] - base[line], theirs[line] - base[line]
        # The same change on both sides may count once or twice; anything else counts exactly.
        bounds = [by_ours + by_theirs]
        if by_ours * by_theirs > 0:
            bounds.append(max(by_ours, by_theirs) if by_ours > 0 else min(by_ours, by_theirs))
        if not base[line] + min(bounds) <= result[line] <= base[line] + max(bounds):
            return False
    return True


@lru_cache(maxsize=32)  # the sides are compared with every attempt to merge them
def _tally_of_side(language: Language, lines: Lines) -> Counter[str]:
    return _tally(language, lines)


def _tally(language: Language, lines: Iterable[str]) -> Counter[str]:
    keys: list[str] = []
    inside_import = False
    for line in lines:
        if language == "python" and (inside_import or IMPORT.match(line)):
            code, _, comment = line.partition("#")
            keys += ["#" + "".join(comment.split())] * bool(comment)
            inside_import = ")" not in code and (inside_import or "(" in code or code.rstrip().endswith("\\"))
            continue
        array = re.fullmatch(_ARRAY, line) if language == "toml" else None
        # An array on one line counts as it would over several, and so do the names that a makefile calls phony.
        parts = (array[1], *re.findall(_STRING, array[2])) if array else (line,)
        if language == "make" and line.startswith(".PHONY:"):
            parts = tuple(f".PHONY: {name}" for name in line.split()[1:])
        for part in parts:
            key = "".join(part.split()).rstrip(",")
            if re.search(r"\w", key):
                keys.append(key)
    return Counter(keys)


_ARRAY = r"""(\s*[\w."'-]+\s*=\s*\[)((?:\s*(?:"[^"\\]*"|'[^']*')\s*,?)*)\]\s*"""
_STRING = r""""[^"\\]*"|'[^']*'"""


def _has_imports(piece: Piece) -> bool:
    return any(IMPORT.match(line) for lines in (piece.lines, piece.base or (), piece.theirs or ()) for line in lines)
