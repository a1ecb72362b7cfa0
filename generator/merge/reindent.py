"""The views in which indentation does not count: a block that was put into a `with` or a `try`, and tabs for spaces.

If one side indented or dedented a block, the other two get the same indentation.
"""

from collections.abc import Sequence

from .diff import changes, match
from .pieces import Lines, Sides, indent_of


def reindented(sides: Sides) -> Sides | None:
    """Shift each block that one side shifted on all three sides; None if there is none, or its extent is unclear."""
    base, ours, theirs = sides.texts
    followed = _follow(base, theirs, _shifts(base, ours))
    if followed is None:
        return None
    base, theirs = followed
    followed = _follow(base, ours, _shifts(base, theirs))
    if followed is None:
        return None
    base, ours = followed
    changed = sides._replace(base=base, ours=ours, theirs=theirs)
    return changed if changed != sides else None


def with_tabs(sides: Sides) -> Sides | None:
    """Indent base and theirs with tabs, as the user does; None if the user does not, or they have tabs already."""
    indents = {line[0] for line in sides.ours if line[:1].isspace() and line.strip()}
    step = min((indent_of(line) for line in sides.base if line.startswith(" ") and line.strip()), default=0)
    if indents != {"\t"} or not step or any(line.startswith("\t") for line in (*sides.base, *sides.theirs)):
        return None
    base, theirs = (tuple(_tabbed(line, step) for line in lines) for lines in (sides.base, sides.theirs))
    return sides._replace(base=base, theirs=theirs)


def _tabbed(line: str, step: int) -> str:
    columns = indent_of(line)
    return "\t" * (columns // step) + " " * (columns % step) + line[columns:]


def _shifts(base: Lines, side: Lines) -> dict[int, int]:
    """Base line -> by how many columns the side shifted it; only lines that it kept."""
    pairs = match([line.strip() for line in base], [line.strip() for line in side])
    return {i: indent_of(side[j]) - indent_of(base[i]) for i, j in pairs if base[i].strip()}


def _follow(base: Lines, other: Lines, shifts: dict[int, int]) -> tuple[Lines, Lines] | None:
    """Shift base and the other side as one side did; `shifts` is base line -> columns."""
    if not any(shifts.values()):
        return base, other
    bare = [line.strip() for line in base], [line.strip() for line in other]
    by_line = [0] * len(other)
    for i, j in match(*bare):
        by_line[j] = shifts.get(i, 0)
    for in_base, in_other in changes(*bare):
        shift = _shift_of(in_base, in_other, base, other, shifts)
        if shift is None:
            return None
        for j in in_other:
            by_line[j] = shift
    moved_base = _shifted_lines(base, [shifts.get(i, 0) for i in range(len(base))])
    moved_other = _shifted_lines(other, by_line)
    return None if moved_base is None or moved_other is None else (moved_base, moved_other)


def _shift_of(in_base: range, in_other: range, base: Lines, other: Lines, shifts: dict[int, int]) -> int | None:
    """How far to shift a change: like the base lines in it, else like the lines around it; None if that is unclear."""
    inside = {shifts[i] for i in in_base if i in shifts}
    if inside or not in_other:
        return inside.pop() if len(inside) == 1 else (None if inside else 0)
    above = next((i for i in range(in_base.start - 1, -1, -1) if i in shifts), None)
    below = next((i for i in range(in_base.stop, len(base)) if i in shifts), None)
    if above is None or below is None or shifts[above] == shifts[below]:
        place = below if above is None else above
        return 0 if place is None else shifts[place]
    first = next((other[j] for j in in_other if other[j].strip()), "")
    with_above, with_below = indent_of(first) >= indent_of(base[above]), indent_of(first) <= indent_of(base[below])
    if with_above == with_below:
        return None  # it may belong to the block or go below it
    return shifts[above] if with_above else shifts[below]


def _shifted_lines(lines: Lines, shifts: Sequence[int]) -> Lines | None:
    for line, shift in zip(lines, shifts, strict=True):
        if shift and (line.count('"""') % 2 or line.count("'''") % 2):
            return None  # indentation is part of a multi-line string
    return tuple(_shifted(line, shift) for line, shift in zip(lines, shifts, strict=True))


def _shifted(line: str, columns: int) -> str:
    if not line.strip() or not columns:
        return line
    if columns > 0:
        return (line[:1] if line[:1] == "\t" else " ") * columns + line
    return line[min(-columns, indent_of(line)) :]
