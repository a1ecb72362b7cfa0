"""What a merged text must fulfil before anyone sees it: nothing added is lost, nothing removed is back, it parses."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from .defects import python_problem
from .languages import IMPORT, Language, imported, missing_jobs, parses
from .pieces import Piece, Sides, resolved, source_of


def problem(sides: Sides, pieces: Sequence[Piece], ours_only: bool = False) -> str | None:
    """What is wrong with a result that sound inputs gave, in words; None if nothing is.

    A result with conflicts is judged as if all were decided for one side, then for the other.

    Args:
        ours_only: Judge only what deciding for ours gives.
    """
    base, ours, theirs = (source_of(lines) for lines in (sides.base, sides.ours, sides.theirs))
    if not (parses(sides.kind, ours) and parses(sides.kind, theirs)):
        return None  # nothing to be kept sound
    for side in ("ours",) if ours_only else ("ours", "theirs"):
        result = source_of(resolved(pieces, side))
        if result in (ours, theirs):
            continue
        if not parses(sides.kind, result):
            return f"taken together, the changes are not sound {_TITLES.get(sides.kind, sides.kind)}"
        found = python_problem(base, ours, theirs, result) if sides.kind == "python" else None
        if found is not None:
            return found
        if sides.kind == "yaml":
            unknown = sorted(missing_jobs(result) - missing_jobs(ours) - missing_jobs(theirs))
            if unknown:
                return f"one change needs the job `{unknown[0]}`, which the other removed or renamed"
        if sides.kind == "requirements":
            twice = [
                name
                for name, count in _asked(result).items()
                if count > max(1, _asked(ours)[name], _asked(theirs)[name])
            ]
            if twice:
                return f"both changes ask for `{sorted(twice)[0]}`, at different places"
    return None


def _asked(source: str) -> Counter[str]:
    """How often each package is asked for, by its normal name and its marker."""
    found: Counter[str] = Counter()
    for line in source.splitlines():
        match = re.match(r"\s*([A-Za-z0-9][\w.-]*)[^;#]*(;[^#]*)?", line)
        if match:
            found[re.sub(r"[-_.]+", "-", match[1]).lower() + "".join((match[2] or "").split())] += 1
    return found


_TITLES = {"python": "Python", "toml": "TOML", "json": "JSON", "yaml": "YAML"}


def keeps_every_edit(sides: Sides, pieces: Sequence[Piece]) -> bool:
    """Whether each line that a side added is there as often as it must be, and each line that it removed is not back.

    Lines are compared without white space and without a last comma; in Python, imports as sets of names instead.
    """
    conflicts = [piece for piece in pieces if piece.theirs is not None and piece.base is not None]
    base, ours, theirs = (_tally(sides.kind, lines) for lines in (sides.base, sides.ours, sides.theirs))
    in_base, in_ours, in_theirs = Counter[str](), Counter[str](), Counter[str]()
    for piece in conflicts:
        in_base += _tally(sides.kind, piece.base or ())
        in_ours += _tally(sides.kind, piece.lines)
        in_theirs += _tally(sides.kind, piece.theirs or ())
    # Deciding every conflict for ours is a merge with a template that left those places as they were; and vice versa.
    for_ours = _tally(sides.kind, resolved(pieces, "ours"))
    for_theirs = _tally(sides.kind, resolved(pieces, "theirs"))
    if not _adds_up(base, ours, _moved(theirs, in_theirs, in_base), for_ours):
        return False
    if conflicts and not _adds_up(base, _moved(ours, in_ours, in_base), theirs, for_theirs):
        return False
    if sides.kind != "python" or any(_has_imports(piece) for piece in conflicts):
        return True
    names = [set(imported(source_of(lines))) for lines in (sides.base, sides.ours, sides.theirs)]
    wanted = (names[0] & names[1] & names[2]) | (names[1] - names[0]) | (names[2] - names[0])
    return not wanted or set(imported(source_of(resolved(pieces, "ours")))) == wanted


def _moved(total: Counter[str], less: Counter[str], more: Counter[str]) -> Counter[str]:
    moved = Counter(total)
    moved.subtract(less)
    moved.update(more)
    return moved


def _adds_up(base: Counter[str], ours: Counter[str], theirs: Counter[str], result: Counter[str]) -> bool:
    for line in base.keys() | ours.keys() | theirs.keys() | result.keys():
        by_us, by_them = ours[line] - base[line], theirs[line] - base[line]
        # The same change on both sides may count once or twice; anything else counts exactly.
        bounds = [by_us + by_them]
        if by_us * by_them > 0:
            bounds.append(max(by_us, by_them) if by_us > 0 else min(by_us, by_them))
        if not base[line] + min(bounds) <= result[line] <= base[line] + max(bounds):
            return False
    return True


def _tally(kind: Language, lines: Iterable[str]) -> Counter[str]:
    keys: list[str] = []
    inside_import = False
    for line in lines:
        if kind == "python" and (inside_import or IMPORT.match(line)):
            code, _, comment = line.partition("#")
            keys += ["#" + "".join(comment.split())] * bool(comment)
            inside_import = ")" not in code and (inside_import or "(" in code or code.rstrip().endswith("\\"))
            continue
        array = re.fullmatch(_ARRAY, line) if kind == "toml" else None
        # An array on one line counts as it would over several.
        for part in (array[1], *re.findall(_STRING, array[2])) if array else (line,):
            key = "".join(part.split()).rstrip(",")
            if re.search(r"\w", key):
                keys.append(key)
    return Counter(keys)


_ARRAY = r"""(\s*[\w."'-]+\s*=\s*\[)((?:\s*(?:"[^"\\]*"|'[^']*')\s*,?)*)\]\s*"""
_STRING = r""""[^"\\]*"|'[^']*'"""


def _has_imports(piece: Piece) -> bool:
    return any(IMPORT.match(line) for lines in (piece.lines, piece.base or (), piece.theirs or ()) for line in lines)
