"""Conflicts of a merge by lines that need not be conflicts, each merged by the first rule whose result passes the gate.

No rule looks into a logical line: two edits of one statement are a conflict, whatever their words are.
"""

import ast
import io
import textwrap
import tokenize
from collections.abc import Iterator

from .diff3 import merge3, merge3_tight
from .gate import keeps_every_edit, problem
from .languages import Language, logical_lines, parse_python
from .pieces import Hunk, Lines, Piece, Sides, conflict, merged, source_of
from .unions import UNIONS

MAX_HUNKS = 100
"""A merge with more conflicts than this is left as it is: no rule will help it, and each costs a parse."""


def refine(sides: Sides) -> list[Piece]:
    """Merge by lines, then each conflict by the first rule whose result passes the gate."""
    parts = _parts(sides)
    pieces = [[conflict(part.sides) if isinstance(part, Hunk) else part] for part in parts]
    if sum(isinstance(part, Hunk) for part in parts) <= MAX_HUNKS:
        for place, part in enumerate(parts):
            for option in _options(part) if isinstance(part, Hunk) else ():
                attempt = [*pieces[:place], option, *pieces[place + 1 :]]
                flat = [piece for some in attempt for piece in some]
                if problem(sides, flat) is None and keeps_every_edit(sides, flat):
                    pieces = attempt
                    break
    return [piece for some in pieces for piece in some]


def _parts(sides: Sides) -> list[Piece | Hunk]:
    regions = merge3(*sides.texts)
    ends = [_ends(sides.language, text) for text in sides.texts] if any(r.kind == "conflict" for r in regions) else []
    width = max([88, *(len(line) for line in sides.ours if len(line) <= 120)])
    parts: list[Piece | Hunk] = []
    before: Lines = ()
    for region in regions:
        lines = sides.cut(region)
        if region.kind == "conflict":
            places = zip(ends, (region.base, region.ours, region.theirs), strict=True)
            parts.append(Hunk(lines, before, all({at.start, at.stop} <= known for known, at in places), width))
        else:
            parts.append(merged(region, lines))
        before = lines.base if region.kind == "same" else ()
    return parts


def _ends(language: Language, lines: Lines) -> set[int]:
    """Where logical lines begin and end; empty where that cannot be found."""
    spans = logical_lines(language, lines)
    return set() if spans is None else {0, *(span.stop for span in spans)}


def _options(hunk: Hunk) -> Iterator[list[Piece]]:
    """What the rules make of a hunk, best first."""
    if _same_code(hunk.sides):
        yield [Piece(hunk.sides.ours)]
    for lines in _unions(hunk):
        yield [Piece(tuple(lines))]
    parts = _split(hunk) if hunk.whole else None
    if parts is None:
        return
    for refined in (True, False):
        pieces: list[Piece] = []
        for part in parts:
            if isinstance(part, Piece):
                pieces.append(part)
                continue
            union = next(_unions(part), None) if refined else None
            pieces.append(conflict(part.sides) if union is None else Piece(tuple(union)))
        yield pieces


def _unions(hunk: Hunk) -> Iterator[list[str]]:
    for union in UNIONS.get(hunk.sides.language, ()):
        lines = union(hunk)
        if lines is not None:
            yield lines


def _same_code(sides: Sides) -> bool:
    """Whether ours and theirs are the same Python, in another layout."""
    if sides.language != "python" or not sides.ours or not sides.theirs:
        return False
    ours, theirs = (parse_python(textwrap.dedent(source_of(lines))) for lines in (sides.ours, sides.theirs))
    if ours is None or theirs is None or ast.dump(ours) != ast.dump(theirs):
        return False
    comments = [[line.partition("#")[2] for line in lines if "#" in line] for lines in (sides.ours, sides.theirs)]
    return comments[0] == comments[1]


def _split(hunk: Hunk) -> list[Piece | Hunk] | None:
    """Take apart a hunk in which the sides changed different logical lines that lie next to each other."""
    base, ours, theirs = (_in_logical_lines(hunk.sides.language, text) for text in hunk.sides.texts)
    if base is None or ours is None or theirs is None:
        return None
    regions = merge3_tight(base, ours, theirs, _shifted, _reworded)
    if sum(region.kind != "same" for region in regions) < 2:
        return None
    parts: list[Piece | Hunk] = []
    for region in regions:
        lines = Sides(
            hunk.sides.language,
            _joined(base, region.base),
            _joined(ours, region.ours),
            _joined(theirs, region.theirs),
        )
        parts.append(Hunk(lines, width=hunk.width) if region.kind == "conflict" else merged(region, lines))
    return parts


def _in_logical_lines(language: Language, lines: Lines) -> list[Lines] | None:
    spans = logical_lines(language, lines)
    if spans is None:  # a block that closes below its first line: count brackets only
        spans = logical_lines(language, [line.lstrip() for line in lines])
    return None if spans is None else [lines[span.start : span.stop] for span in spans]


def _shifted(one: Lines, other: Lines) -> bool:
    """Whether two logical lines differ in indentation only."""
    return [line.strip() for line in one] == [line.strip() for line in other]


def _reworded(one: Lines, other: Lines) -> bool:
    """Whether two logical lines of Python, indented alike, differ in their comments only."""
    code = _code(one)
    return bool(code) and code == _code(other)


def _code(lines: Lines) -> list[str]:
    """The indentation and the tokens of a logical line without its comments; none where it cannot be read by itself."""
    source = source_of(lines)
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(textwrap.dedent(source)).readline))
    except (tokenize.TokenError, SyntaxError):
        return []
    left_out = (tokenize.COMMENT, tokenize.NL)
    code = [token.string for token in tokens if token.type not in left_out and token.string.strip()]
    return [source[: len(source) - len(source.lstrip())], *code] if code else []


def _joined(logical: list[Lines], span: range) -> Lines:
    return tuple(line for lines in logical[span.start : span.stop] for line in lines)
