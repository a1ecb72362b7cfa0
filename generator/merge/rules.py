"""Conflict hunks that need not be conflicts, each merged by a rule and let through only by the gate.

The rules never look below a logical line: two edits of one statement are a conflict, however the words fall.
"""

import ast
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from .diff3 import changes, merge3
from .gate import keeps_every_edit, problem
from .languages import Language, logical_lines, parse_python
from .pieces import Piece, Sides
from .unions import union_array, union_imports, union_items

MAX_HUNKS = 100
"""A merge with more conflicts than this is left as it is: no rule will save it, and each costs a parse."""

Text = tuple[str, ...]


@dataclass(frozen=True)
class Hunk:
    """A conflict and what the rules may know of its place.

    Attributes:
        kind: The file's language.
        base, ours, theirs: The lines of each side.
        before: The lines above it which all three sides share.
        whole: Whether it cuts no logical line on any side.
        width: The length to which the user's file keeps its lines, at least black's default.
    """

    kind: Language
    base: Text
    ours: Text
    theirs: Text
    before: Text
    whole: bool
    width: int

    @property
    def piece(self) -> Piece:
        return Piece(self.ours, self.base, self.theirs)


def refine(sides: Sides) -> list[Piece]:
    """Merge by lines, then each conflict by the first rule whose result passes the gate."""
    parts = _parts(sides)
    pieces = [[part.piece if isinstance(part, Hunk) else part] for part in parts]
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
    parts: list[Piece | Hunk] = []
    texts = (sides.base, sides.ours, sides.theirs)
    logical = _Logical(sides)
    before: Text = ()
    for region in merge3(*texts):
        base, ours, theirs = (
            text[span.start : span.stop]
            for text, span in zip(texts, (region.base, region.ours, region.theirs), strict=True)
        )
        if region.kind == "conflict":
            whole = logical.whole(region.base, region.ours, region.theirs)
            parts.append(Hunk(sides.kind, base, ours, theirs, before, whole, logical.width))
        else:
            parts.append(Piece(theirs if region.kind == "theirs" else ours))
        before = base if region.kind == "same" else ()
    return parts


@dataclass
class _Logical:
    """The logical lines of the three texts, found once and only when a conflict asks."""

    sides: Sides

    @cached_property
    def ends(self) -> list[set[int] | None]:
        texts = (self.sides.base, self.sides.ours, self.sides.theirs)
        spans = [logical_lines(self.sides.kind, text) for text in texts]
        return [None if some is None else {0, *(span.stop for span in some)} for some in spans]

    @cached_property
    def width(self) -> int:
        return max([88, *(len(line) for line in self.sides.ours if len(line) <= 120)])

    def whole(self, *places: range) -> bool:
        return all(
            ends is not None and {place.start, place.stop} <= ends
            for ends, place in zip(self.ends, places, strict=True)
        )


def _options(hunk: Hunk) -> Iterator[list[Piece]]:
    """What the rules make of a hunk, best first."""
    if _same_code(hunk.ours, hunk.theirs, hunk.kind):
        yield [Piece(hunk.ours)]
    for lines in _by_rules(hunk):
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
            merged = next(_by_rules(part), None) if refined else None
            pieces.append(part.piece if merged is None else Piece(tuple(merged)))
        yield pieces


def _same_code(one: Text, other: Text, kind: Language) -> bool:
    """Whether two stretches of Python differ in white space or layout only."""
    if kind != "python" or not one or not other:
        return False
    a, b = (parse_python(textwrap.dedent("".join(line + "\n" for line in lines))) for lines in (one, other))
    comments = [[line.partition("#")[2] for line in lines if "#" in line] for lines in (one, other)]
    return a is not None and b is not None and ast.dump(a) == ast.dump(b) and comments[0] == comments[1]


def _by_rules(hunk: Hunk) -> Iterator[list[str]]:
    Rule = Callable[[Sequence[str], Sequence[str], Sequence[str]], list[str] | None]
    rules: dict[str, list[Rule]] = {
        "python": [partial(union_imports, width=hunk.width)],
        "toml": [partial(union_items, quoted=True, ordered=False), partial(union_array, width=hunk.width)],
        "requirements": [partial(union_items, quoted=False, ordered=False)],
        "ignore": [partial(union_items, quoted=False, ordered=True)],
    }
    for rule in rules.get(hunk.kind, []):
        merged = rule(hunk.base, hunk.ours, hunk.theirs)
        if merged is not None:
            yield merged
    merged = _insert_both(hunk) if hunk.kind == "python" else None
    if merged is not None:
        yield merged


# --- edits that touch --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Edit:
    """Logical lines [low, high) of the base that one side replaced by `size` lines.

    Attributes:
        from_above, from_below: Whether only the indentation of the first, or the last, line was changed: then a line
            that the other side puts next to it may belong into the moved block or beside it.
    """

    low: int
    high: int
    size: int
    from_above: bool = False
    from_below: bool = False


def _edits(base: list[Text], side: list[Text]) -> list[_Edit]:
    edits: list[_Edit] = []
    for old, new in changes(base, side):
        pairs = [(base[old[i]], side[new[i]]) for i in (0, -1)] if old and new else []
        moved = [[line.strip() for line in was] == [line.strip() for line in now] for was, now in pairs] or [False] * 2
        edits.append(_Edit(old.start, old.stop, len(new), *moved))
    return edits


@dataclass
class _Group:
    """Edits that cannot be told apart: the base lines they cover, and each side's edits."""

    low: int
    high: int
    edits: tuple[list[_Edit], list[_Edit]]

    def size(self, side: int) -> int:
        """How many logical lines the side (0 ours, 1 theirs) has in place of the base's."""
        return self.high - self.low + sum(edit.size - (edit.high - edit.low) for edit in self.edits[side])


def _split(hunk: Hunk) -> list[Piece | Hunk] | None:
    """Take apart a hunk in which the sides changed different logical lines that lie next to each other."""
    base, ours, theirs = (_in_logical_lines(hunk.kind, text) for text in (hunk.base, hunk.ours, hunk.theirs))
    if base is None or ours is None or theirs is None:
        return None
    groups = _grouped(_edits(base, ours), _edits(base, theirs))
    if len(groups) < 2:
        return None
    parts: list[Piece | Hunk] = []
    b = o = t = 0
    for group in groups:
        gap = group.low - b
        if gap:
            parts.append(Piece(_joined(base[b : b + gap])))
        b, o, t = b + gap, o + gap, t + gap
        was = _joined(base[b : group.high])
        mine, new = _joined(ours[o : o + group.size(0)]), _joined(theirs[t : t + group.size(1)])
        b, o, t = group.high, o + group.size(0), t + group.size(1)
        if mine == new or not group.edits[1]:
            parts.append(Piece(mine))
        elif not group.edits[0]:
            parts.append(Piece(new))
        else:
            parts.append(Hunk(hunk.kind, was, mine, new, (), True, hunk.width))
    if b < len(base):
        parts.append(Piece(_joined(base[b:])))
    return parts


def _in_logical_lines(kind: Language, lines: Text) -> list[Text] | None:
    spans = logical_lines(kind, lines)
    if spans is None:  # a block that closes below its first line: count brackets only
        spans = logical_lines(kind, [line.lstrip() for line in lines])
    return None if spans is None else [lines[span.start : span.stop] for span in spans]


def _joined(logical: Sequence[Text]) -> Text:
    return tuple(line for lines in logical for line in lines)


def _grouped(ours: list[_Edit], theirs: list[_Edit]) -> list[_Group]:
    edits = [(edit, 0) for edit in ours] + [(edit, 1) for edit in theirs]
    groups: list[_Group] = []
    for edit, side in sorted(edits, key=lambda item: (item[0].low, item[0].high)):
        last = groups[-1] if groups else None
        if last and (edit.low < last.high or any(_overlap(edit, other) for other in last.edits[1 - side])):
            last.edits[side].append(edit)
            last.high = max(last.high, edit.high)
        else:
            groups.append(_Group(edit.low, edit.high, ([edit], []) if side == 0 else ([], [edit])))
    return groups


def _overlap(one: _Edit, other: _Edit) -> bool:
    """Whether two edits cannot both be made: they change a common line, or insert at one place.

    An insertion at the edge of a change touches it only. At the edge of a deletion it may belong to what is gone, at
    the edge of a block that was moved in or out it may belong to the block.
    """
    if one.low < one.high and other.low < other.high:
        return one.low < other.high and other.low < one.high
    if one.low == one.high and other.low == other.high:
        return one.low == other.low
    point, span = (one.low, other) if one.low == one.high else (other.low, one)
    if not span.size and span.low <= point <= span.high:
        return True
    edges = (span.low if span.from_above else -1, span.high if span.from_below else -1)
    return span.low < point < span.high or point in edges


# --- insertions that commute ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Block:
    """Inserted Python: definitions or annotated fields, nothing else, each with the comments above it."""

    fields: bool
    indent: int
    units: dict[str, Text]
    same: dict[str, str]
    tail: Text


def _insert_both(hunk: Hunk) -> list[str] | None:
    """Keep both of two insertions at one place where their order means nothing: definitions, or fields of a class."""
    if any(line.strip() for line in hunk.base):
        return None
    for slide in range(min(len(hunk.before), 12) + 1):
        # Where an insertion ends as the text above it ends (a decorator, a blank line), it can be read further up.
        moved = hunk.before[len(hunk.before) - slide :]
        if slide and (hunk.ours[-slide:] != moved or hunk.theirs[-slide:] != moved):
            break
        ours, theirs = ((moved + lines)[: len(lines)] for lines in (hunk.ours, hunk.theirs))
        one, other = _block(ours), _block(theirs)
        if one and other and (one.fields, one.indent) == (other.fields, other.indent):
            merged = _both(one, other, ours, theirs)
            # What was moved down from above stands above still; the same lines end the insertion instead.
            return None if merged is None else [*merged[slide:], *moved] if slide else merged
    return None


def _both(one: _Block, other: _Block, ours: Text, theirs: Text) -> list[str] | None:
    shared = one.units.keys() & other.units.keys()
    if any(one.same[name] != other.same[name] for name in shared):
        return None
    added = [line for name, lines in other.units.items() if name not in shared for line in lines]
    if not added:
        return list(ours)
    gap: list[str] = []
    if not one.fields and ours[-1].strip() and added[0].strip():
        gap = [""] * (1 if one.indent else 2)
    body = list(ours)
    if not one.fields and not ours[-1].strip() and not added[0].strip():
        while added and not added[0].strip():
            added.pop(0)
    return [*body, *gap, *added, *other.tail]


def _block(lines: Text) -> _Block | None:
    text = textwrap.dedent("".join(line + "\n" for line in lines))
    tree = parse_python(text)
    if tree is None or not tree.body:
        return None
    fields = isinstance(tree.body[0], ast.AnnAssign)
    indent = len(lines[tree.body[0].lineno - 1]) - len(text.split("\n")[tree.body[0].lineno - 1])
    units: dict[str, Text] = {}
    same: dict[str, str] = {}
    start, name = 0, ""
    for node in tree.body:
        assert node.end_lineno is not None
        if fields and name and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            units[name] += lines[start : node.end_lineno]  # the field's documentation
            same[name] += ast.dump(node)
            start = node.end_lineno
            continue
        found = _unit_name(node, fields)
        if found is None or found in units:
            return None
        name = found
        units[name], same[name] = lines[start : node.end_lineno], ast.dump(node)
        start = node.end_lineno
    return _Block(fields, indent, units, same, lines[start:])


def _unit_name(node: ast.stmt, fields: bool) -> str | None:
    if fields:
        good = isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None
        return (
            node.target.id if good and isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) else None
        )
    return node.name if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) else None
