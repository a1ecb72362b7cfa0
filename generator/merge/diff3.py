"""Three-way merge by lines (diff3), on which every upgrade is built.

`merge3` divides base, ours and theirs into regions: changed by one side, by both alike, or by both differently (a
conflict). `merge3_tight` also separates changes that only touch. A line is any hashable value.

Source: S. Khanna, K. Kunal, B. Pierce, "A Formal Investigation of Diff3" (2007).
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from .diff import Lines, changes, match

Kind = Literal["same", "ours", "theirs", "both", "conflict"]


class Region(NamedTuple):
    """A stretch of the merge, as a range of lines in each of the three sequences."""

    kind: Kind
    base: range
    ours: range
    theirs: range


def merge3(base: Lines, ours: Lines, theirs: Lines) -> list[Region]:
    """Merge the changes of `ours` and `theirs` to `base`; the regions cover all three in order.

    Base lines that both sides kept separate the regions. If both sides changed what is between, the region is "both" for
    the same change, else a "conflict". Changes that touch are in one region.
    """
    regions: list[Region] = []
    in_theirs = dict(match(base, theirs))
    kept = [(i, j, in_theirs[i]) for i, j in match(base, ours) if i in in_theirs]
    ends = (len(base), len(ours), len(theirs))
    start = after = (0, 0, 0)  # where the current run of kept lines starts, and the line after it
    for line in [*kept, ends]:
        if line != after or line == ends:
            if start != after:
                regions.append(Region("same", *_spans(start, after)))
            if line != after:
                gap = _spans(after, line)
                regions.append(Region(_kind(base, ours, theirs, *gap), *gap))
            start = line
        after = (line[0] + 1, line[1] + 1, line[2] + 1)
    return regions


def _spans(start: tuple[int, int, int], stop: tuple[int, int, int]) -> tuple[range, range, range]:
    return range(start[0], stop[0]), range(start[1], stop[1]), range(start[2], stop[2])


def _kind(base: Lines, ours: Lines, theirs: Lines, b: range, o: range, t: range) -> Kind:
    base_lines, our_lines, their_lines = (
        list(lines[span.start : span.stop]) for lines, span in ((base, b), (ours, o), (theirs, t))
    )
    if our_lines == their_lines:
        return "both"
    if our_lines == base_lines:
        return "theirs"
    return "ours" if their_lines == base_lines else "conflict"


class _Edit(NamedTuple):
    """A change by one side.

    Attributes:
        base: The base lines that it replaces; empty for an insertion.
        size: How many lines replace them.
        edges: Ends of `base` where the line only changed its indentation: a line that the other side inserts there may
            belong inside or outside of the block.
    """

    base: range
    size: int
    edges: tuple[int, ...]

    @property
    def grows(self) -> bool:
        return self.size > len(self.base)


class _Group(NamedTuple):
    """Edits of both sides that collide, and the base lines that they cover."""

    base: range
    ours: list[_Edit]
    theirs: list[_Edit]


def merge3_tight(
    base: Lines,
    ours: Lines,
    theirs: Lines,
    shifted: Callable[[Any, Any], bool] = lambda a, b: False,
    reworded: Callable[[Any, Any], bool] = lambda a, b: False,
    loosely: bool = False,
) -> list[Region]:
    """Merge like `merge3`, but put changes of the two sides that only touch into separate regions.

    Two changes collide if they replace a common line or insert at the same place. An insertion at the edge of a change
    does not collide with it, unless the change is a deletion (the new line may belong to the deleted lines) or only
    changed the indentation at that edge (the new line may belong inside or outside of the block). Where a change touches a
    deletion, it counts as an insertion if it has more lines than it replaces.

    Args:
        shifted: Whether a base line and a side's line differ in indentation only.
        reworded: Whether a base line and a side's line differ in their comments only. A run of such lines counts as one
            change per line, so the other side may insert between them.
        loosely: Count every change as one change per line, and let an insertion touch a deletion.
    """
    regions: list[Region] = []
    done = by_ours = by_theirs = 0
    in_ours, in_theirs = (_edits(base, side, shifted, reworded) for side in (ours, theirs))
    if loosely:
        in_ours, in_theirs = _line_by_line(in_ours), _line_by_line(in_theirs)
    for group in _grouped(in_ours, in_theirs, loosely):
        regions += _unchanged(range(done, group.base.start), by_ours, by_theirs)
        before_ours, before_theirs = by_ours, by_theirs
        by_ours += sum(edit.size - len(edit.base) for edit in group.ours)
        by_theirs += sum(edit.size - len(edit.base) for edit in group.theirs)
        done = group.base.stop
        spans = (
            group.base,
            range(group.base.start + before_ours, done + by_ours),
            range(group.base.start + before_theirs, done + by_theirs),
        )
        regions.append(Region(_kind(base, ours, theirs, *spans), *spans))
    return [*regions, *_unchanged(range(done, len(base)), by_ours, by_theirs)]


def _unchanged(base: range, by_ours: int, by_theirs: int) -> list[Region]:
    ours = range(base.start + by_ours, base.stop + by_ours)
    return [Region("same", base, ours, range(base.start + by_theirs, base.stop + by_theirs))] if base else []


def _edits(
    base: Lines, side: Lines, shifted: Callable[[Any, Any], bool], reworded: Callable[[Any, Any], bool]
) -> list[_Edit]:
    edits: list[_Edit] = []
    for old, new in changes(base, side):
        if len(old) == len(new) > 1 and all(reworded(base[i], side[j]) for i, j in zip(old, new, strict=True)):
            edits += [_Edit(range(i, i + 1), 1, ()) for i in old]
            continue
        edges = [(old.start, 0), (old.stop, -1)] if old and new else []
        moved = tuple(edge for edge, at in edges if shifted(base[old[at]], side[new[at]]))
        edits.append(_Edit(old, len(new), moved))
    return edits


def _line_by_line(edits: list[_Edit]) -> list[_Edit]:
    """Split each edit into one per base line; the last takes the surplus lines."""
    found: list[_Edit] = []
    for edit in edits:
        count = len(edit.base)
        for place, i in enumerate(edit.base):
            last = place == count - 1
            found.append(_Edit(range(i, i + 1), max(edit.size - place, 0) if last else int(place < edit.size), ()))
        found += [] if count else [edit]
    return found


def _grouped(ours: list[_Edit], theirs: list[_Edit], loosely: bool) -> list[_Group]:
    edits = [(edit, True) for edit in ours] + [(edit, False) for edit in theirs]
    groups: list[_Group] = []
    for edit, is_ours in sorted(edits, key=lambda item: (item[0].base.start, item[0].base.stop)):
        last = groups[-1] if groups else None
        others = (last.theirs if is_ours else last.ours) if last else []
        if last and (edit.base.start < last.base.stop or any(_collide(edit, other, loosely) for other in others)):
            (last.ours if is_ours else last.theirs).append(edit)
            groups[-1] = last._replace(base=range(last.base.start, max(last.base.stop, edit.base.stop)))
        else:
            groups.append(_Group(edit.base, [edit] if is_ours else [], [] if is_ours else [edit]))
    return groups


def _collide(one: _Edit, other: _Edit, loosely: bool) -> bool:
    if one.base and other.base:
        touch = one.base.start <= other.base.stop and other.base.start <= one.base.stop
        if not loosely and touch and ((not one.size and other.grows) or (not other.size and one.grows)):
            return True
        return one.base.start < other.base.stop and other.base.start < one.base.stop
    if not one.base and not other.base:
        return one.base.start == other.base.start
    place, change = (one.base.start, other) if not one.base else (other.base.start, one)
    if change.base.start < place < change.base.stop or place in change.edges:
        return True
    return not loosely and not change.size and place in (change.base.start, change.base.stop)
