"""Three-way merge of sequences by lines (diff3), on which every upgrade is built.

`merge3` turns the differences of two sides from one base into regions, each of which one side changed, both changed alike,
or both changed differently (a conflict). `merge3_tight` also tells changes apart that only touch. Nothing here knows what
a line means.

Source: S. Khanna, K. Kunal, B. Pierce, "A Formal Investigation of Diff3" (2007).
"""

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

from .diff import Lines, changes, match

Kind = Literal["same", "ours", "theirs", "both", "conflict"]


class Region(NamedTuple):
    """A stretch of the merge, as half-open line ranges in each of the three sequences."""

    kind: Kind
    base: range
    ours: range
    theirs: range


def merge3(base: Lines, ours: Lines, theirs: Lines) -> list[Region]:
    """Merge what `ours` and `theirs` made of `base`, as regions that cover all three in order.

    Lines of the base that both sides kept separate the regions. Between two of them, whoever changed something wins;
    if both did, alike, it is "both"; differently, it is a "conflict". Changes that touch are in one region.
    """
    return list(_regions(base, ours, theirs))


def _regions(base: Lines, ours: Lines, theirs: Lines) -> Iterator[Region]:
    in_theirs = dict(match(base, theirs))
    kept = [(i, j, in_theirs[i]) for i, j in match(base, ours) if i in in_theirs]
    b = o = t = 0
    start: tuple[int, int, int] | None = None  # where the running stretch of kept lines began
    for next_b, next_o, next_t in [*kept, (len(base), len(ours), len(theirs))]:
        if (next_b, next_o, next_t) != (b, o, t):
            if start is not None:
                yield Region("same", range(start[0], b), range(start[1], o), range(start[2], t))
                start = None
            gap = range(b, next_b), range(o, next_o), range(t, next_t)
            yield Region(_kind(base, ours, theirs, *gap), *gap)
        if next_b == len(base):
            break
        if start is None:
            start = (next_b, next_o, next_t)
        b, o, t = next_b + 1, next_o + 1, next_t + 1
    if start is not None:
        yield Region("same", range(start[0], b), range(start[1], o), range(start[2], t))


def _kind(base: Lines, ours: Lines, theirs: Lines, b: range, o: range, t: range) -> Kind:
    base_lines, our_lines, their_lines = (
        list(base[b.start : b.stop]),
        list(ours[o.start : o.stop]),
        list(theirs[t.start : t.stop]),
    )
    if our_lines == their_lines:
        return "both"
    if our_lines == base_lines:
        return "theirs"
    return "ours" if their_lines == base_lines else "conflict"


class _Edit(NamedTuple):
    """A change of one side.

    Attributes:
        base: The lines of the base that it replaces; empty for an insertion.
        size: How many lines it puts there.
        edges: Ends of `base` whose line was only shifted: what the other side inserts there may belong on either side.
    """

    base: range
    size: int
    edges: tuple[int, ...]

    @property
    def grows(self) -> bool:
        return self.size > len(self.base)


class _Group(NamedTuple):
    """Edits of both sides that collide, and the lines of the base that they cover."""

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
    """Merge as `merge3` does, but with a region of its own for each change that only touches one of the other side.

    Two changes collide if they replace a common line or insert at one place. An insertion at the edge of a change does
    not, unless the change is a deletion (the new line may belong to what is gone) or only shifted the line at that edge
    (the new line may belong to the shifted block or stay outside). A change to more lines than it replaces counts as an
    insertion where it touches a deletion.

    Args:
        shifted: Whether a line of a side is a line of the base that was only moved in or out.
        reworded: Whether a line of a side is a line of the base with another comment. A run of such lines is a change
            of each line, so the other side may insert between them.
        loosely: Count every change of several lines as a change of each, and let an insertion stand beside a deletion.
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
    """The edits with one for each line of the base; what a side has more of belongs to the last."""
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
