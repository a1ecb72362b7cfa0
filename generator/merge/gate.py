"""What every merged text must pass: no edit is lost, and it has no defect that neither side has."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Literal

from .defects import new_defect
from .imports import IMPORT, imported
from .languages import Language, parses
from .pieces import Lines, Piece, Sides, resolved, source_of

_TITLES = {"python": "Python", "toml": "TOML", "json": "JSON", "jsonc": "JSON", "yaml": "YAML"}


def problem(sides: Sides, pieces: Sequence[Piece], ours_only: bool = False, parse_only: bool = False) -> str | None:
    """What is wrong with the result and with neither side, in words; None if nothing is, or a side does not parse.

    A result with conflicts is checked twice: with all of them resolved for ours, then for theirs.

    Args:
        ours_only: Check only the result with all conflicts resolved for ours.
        parse_only: Check only that the result parses.
    """
    ours, theirs = source_of(sides.ours), source_of(sides.theirs)
    resolutions: tuple[Literal["ours", "theirs"], ...] = ("ours",) if ours_only else ("ours", "theirs")
    for side in resolutions:
        result = source_of(resolved(pieces, side))
        if result in (ours, theirs):
            continue
        valid = parses(sides.language, result)
        if valid and parse_only:
            continue
        if not (parses(sides.language, ours) and parses(sides.language, theirs)):
            return None  # nothing to compare with: a side is broken already
        if not valid:
            return f"the merged result would not be valid {_TITLES.get(sides.language, sides.language)}"
        found = new_defect(sides.language, ours, theirs, result)
        if found is not None:
            return found
    return None


def keeps_every_edit(sides: Sides, pieces: Sequence[Piece]) -> bool:
    """Whether every line that a side added is in the result as often as it must be, and no removed line is back.

    Lines are compared without white space and trailing comma; imports of Python as a set of names.
    """
    language = sides.language
    conflicts = [piece for piece in pieces if piece.is_conflict]
    base, ours, theirs = (_tally_of_side(language, lines) for lines in sides.texts)
    in_base, in_ours, in_theirs = Counter[str](), Counter[str](), Counter[str]()
    for piece in conflicts:
        in_base += _tally(language, piece.base)
        in_ours += _tally(language, piece.lines)
        in_theirs += _tally(language, piece.theirs or ())
    # With conflicts resolved for ours, the result is that of a template without its changes there; and vice versa.
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
    """The lines of a side as if it had kept the base's lines instead of this change."""
    total = Counter(side)
    total.subtract(change)
    total.update(base)
    return total


def _adds_up(base: Counter[str], ours: Counter[str], theirs: Counter[str], result: Counter[str]) -> bool:
    """Whether the result has every line as often as the changes of both sides require."""
    for line in base.keys() | ours.keys() | theirs.keys() | result.keys():
        by_ours, by_theirs = ours[line] - base[line], theirs[line] - base[line]
        # A change that both sides made may count once or twice; any other exactly once.
        bounds = [by_ours + by_theirs]
        if by_ours * by_theirs > 0:
            bounds.append(max(by_ours, by_theirs) if by_ours > 0 else min(by_ours, by_theirs))
        if not base[line] + min(bounds) <= result[line] <= base[line] + max(bounds):
            return False
    return True


@lru_cache(maxsize=32)  # each attempt to merge is compared with the same sides
def _tally_of_side(language: Language, lines: Lines) -> Counter[str]:
    return _tally(language, lines)


def _tally(language: Language, lines: Iterable[str]) -> Counter[str]:
    """How often each line occurs, as `keeps_every_edit` compares them."""
    keys: list[str] = []
    inside_import = False
    for line in lines:
        if language == "python" and (inside_import or IMPORT.match(line)):
            code, _, comment = line.partition("#")
            keys += ["#" + "".join(comment.split())] * bool(comment)
            inside_import = ")" not in code and (inside_import or "(" in code or code.rstrip().endswith("\\"))
            continue
        array = re.fullmatch(_ARRAY, line) if language == "toml" else None
        # An array on one line counts as if it had a line per element, and so do the targets of `.PHONY`.
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
    return any(IMPORT.match(line) for lines in (piece.lines, piece.base, piece.theirs or ()) for line in lines)
