"""Rules for conflicts of a merge by lines: each is merged by the first rule whose result passes the gate.

No rule looks into a logical line: two edits of one statement are always a conflict.
"""

import ast
import io
import textwrap
import tokenize
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from .definitions import union_definitions
from .diff import changes, match
from .diff3 import Region, merge3, merge3_tight
from .gate import keeps_every_edit, problem
from .imports import union_imports
from .languages import Language, parse_python
from .lists import union_array, union_ignored, union_listed, union_requirements, union_strings
from .logical_lines import logical_lines
from .mapping_union import union_members
from .pieces import Hunk, Lines, Piece, Sides, conflict, count_conflicts, indent_of, merged, resolved, source_of
from .work import Work, fitting

UNIONS: dict[Language, tuple[Callable[[Hunk], list[str] | None], ...]] = {
    "python": (union_imports, union_definitions),
    "toml": (union_strings, union_array, union_members),
    "requirements": (union_requirements,),
    "ignore": (union_ignored,),
    "yaml": (union_members,),
    "ini": (union_members, union_listed),
    "env": (union_members,),
    "make": (union_members,),
}
"""The kinds of sets that a conflict may hold, in each language."""


def refine(sides: Sides, work: Work) -> list[Piece]:
    """Merge by lines, then each conflict by the first rule whose result passes the gate, until the work is used up."""
    parts = _parts(sides)
    pieces = [[conflict(part.sides) if isinstance(part, Hunk) else part] for part in parts]
    options = {place: _options(part) for place, part in enumerate(parts) if isinstance(part, Hunk)}
    # In each round, every open conflict tries its next rule; as many results are taken as pass the gate together.
    while options and work.left:
        tried = {place: option for place, more in options.items() if (option := next(more, None)) is not None}
        attempt = _Attempt(sides, pieces, tried, work)
        taken = fitting([*tried], attempt.passes)
        pieces = attempt.at(taken)
        options = {place: more for place, more in options.items() if place in tried and place not in taken}
    return [piece for part in pieces for piece in part]


class _Attempt(NamedTuple):
    """One result of a rule for each of some conflicts.

    Attributes:
        pieces: The merge before it: the pieces of each part.
        tried: Part -> its pieces by the rule.
    """

    sides: Sides
    pieces: Sequence[list[Piece]]
    tried: Mapping[int, list[Piece]]
    work: Work

    def at(self, places: Sequence[int]) -> list[list[Piece]]:
        """The merge with the rule's result in some of the parts."""
        return [self.tried[place] if place in places else part for place, part in enumerate(self.pieces)]

    def passes(self, places: Sequence[int]) -> bool:
        flat = [piece for part in self.at(places) for piece in part]
        has_work = self.work.spend(2 * len(self.sides.ours))
        return has_work and problem(self.sides, flat) is None and keeps_every_edit(self.sides, flat)


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
            whole = all({at.start, at.stop} <= known for known, at in places)
            parts.append(_hunk(sides, region, before)._replace(whole=whole, width=width))
        else:
            parts.append(merged(region, lines))
        before = lines.base if region.kind == "same" else ()
    return parts


def _hunk(sides: Sides, region: Region, before: Lines) -> Hunk:
    """The conflict of a region."""
    above, below = sides.ours[: region.ours.start], sides.ours[region.ours.stop :]
    return Hunk(sides.cut(region), before, above=above, below=below)


def _ends(language: Language, lines: Lines) -> set[int]:
    """The line numbers at which logical lines start and end; empty if unknown."""
    spans = logical_lines(language, lines)
    return set() if spans is None else {0, *(span.stop for span in spans)}


def _options(hunk: Hunk) -> Iterator[list[Piece]]:
    """Yield what each rule makes of a hunk, the best first."""
    # Without blank lines: it is rarely certain which change they belong to.
    if has_already(_without_blank_lines(hunk.sides)):
        yield [Piece(hunk.sides.ours)]
    yield from _by_rules(hunk)


def _by_rules(hunk: Hunk) -> Iterator[list[Piece]]:
    if _same_code(hunk.sides):
        yield [Piece(hunk.sides.ours)]
    left = _left_by_both(hunk.sides)
    if left is not None:
        yield [Piece(left)]
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


def has_already(sides: Sides) -> bool:
    """Whether ours contains theirs' changes: reverting them there and merging theirs again yields ours.

    In Python also if ours shifted blocks: each change must then be shifted as far as the lines around it.
    """
    if _contains_changes(sides):
        return True
    if sides.language != "python":
        return False
    filled = _without_blank_lines(sides)
    bare = Sides(sides.language, *(tuple(line.strip() for line in text) for text in filled.texts))
    return bare != sides and _contains_changes(bare) and _shifted_like_its_context(filled)


def _shifted_like_its_context(sides: Sides) -> bool:
    base, ours, theirs = sides.texts
    kept = match([line.strip() for line in theirs], [line.strip() for line in ours])
    shifts = {j: indent_of(ours[k]) - indent_of(theirs[j]) for j, k in kept}
    for _, new in changes(base, theirs):
        if len({shifts[j] for j in range(new.start - 1, new.stop + 1) if j in shifts}) > 1:
            return False
    return True


def _contains_changes(sides: Sides) -> bool:
    """`has_already`, with blank lines and indentation as they are."""
    if not keeps_every_edit(sides, [Piece(sides.ours)]):
        return False
    # Revert theirs' changes in ours.
    reverted: list[str] = []
    for region in merge3_tight(sides.theirs, sides.ours, sides.base, loosely=True):
        if region.kind == "conflict":
            return False
        text, span = (sides.base, region.theirs) if region.kind == "theirs" else (sides.ours, region.ours)
        reverted += text[span.start : span.stop]
    without = sides._replace(ours=tuple(reverted))
    if without == sides:
        return False
    # Merge them again, and compare with ours piece by piece.
    done = 0
    before: Lines = ()
    for region in merge3(*without.texts):
        lines = without.cut(region)
        is_conflict = region.kind == "conflict"
        options = _by_rules(_hunk(without, region, before)) if is_conflict else [[merged(region, lines)]]
        before = lines.base if region.kind == "same" else ()
        for option in options:
            text = resolved(option, "ours")
            if not count_conflicts(option) and sides.ours[done : done + len(text)] == text:
                done += len(text)
                break
        else:
            return False
    return done == len(sides.ours)


def _without_blank_lines(sides: Sides) -> Sides:
    texts = (tuple(line for line in text if line.strip()) for text in sides.texts)
    return Sides(sides.language, *texts)


def _left_by_both(sides: Sides) -> Lines | None:
    """The base lines that are left if both sides only removed some; None if a side did anything else."""
    by_ours, by_theirs = (dict(match(sides.base, side)) for side in (sides.ours, sides.theirs))
    if len(by_ours) < len(sides.ours) or len(by_theirs) < len(sides.theirs):
        return None
    return tuple(line for place, line in enumerate(sides.base) if place in by_ours and place in by_theirs)


def _same_code(sides: Sides) -> bool:
    """Whether ours and theirs are the same Python code and comments in different layouts."""
    if sides.language != "python" or not sides.ours or not sides.theirs:
        return False
    ours, theirs = (parse_python(textwrap.dedent(source_of(lines))) for lines in (sides.ours, sides.theirs))
    if ours is None or theirs is None or ast.dump(ours) != ast.dump(theirs):
        return False
    comments = [[line.partition("#")[2] for line in lines if "#" in line] for lines in (sides.ours, sides.theirs)]
    return comments[0] == comments[1]


def _split(hunk: Hunk) -> list[Piece | Hunk] | None:
    """Split a hunk in which the sides changed different logical lines next to each other; None if there are none."""
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
    if spans is None:  # dedents below its first line: count brackets only
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
    """The indentation and the tokens of a logical line without comments; empty if it cannot be tokenized on its own."""
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
