"""Line diff: which lines two sequences have in common, and where they differ.

Lines that occur once on both sides are anchors (patience diff); Myers' greedy search matches the lines between them. A
line is any hashable value: nothing here knows what it means.

Sources: E. Myers, "An O(ND) Difference Algorithm and Its Variations" (1986); B. Cohen's patience diff.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Sequence

Lines = Sequence[Hashable]

MAX_EDITS = 1500
"""Myers' search gives up on a stretch that differs in more lines than this: all of it counts as changed."""


def match(a: Lines, b: Lines) -> list[tuple[int, int]]:
    """The lines that `a` and `b` have in common: pairs (i, j), increasing in both, with `a[i] == b[j]`."""
    pairs: list[tuple[int, int]] = []
    # A stack, not recursion: a file with many anchors would exceed Python's recursion limit.
    stack = [(0, len(a), 0, len(b))]
    while stack:
        a_low, a_high, b_low, b_high = stack.pop()
        while a_low < a_high and b_low < b_high and a[a_low] == b[b_low]:
            pairs.append((a_low, b_low))
            a_low, b_low = a_low + 1, b_low + 1
        while a_low < a_high and b_low < b_high and a[a_high - 1] == b[b_high - 1]:
            a_high, b_high = a_high - 1, b_high - 1
            pairs.append((a_high, b_high))
        if a_low == a_high or b_low == b_high:
            continue
        anchors = _anchors(a, b, a_low, a_high, b_low, b_high)
        if not anchors:
            pairs.extend(_myers(a, b, a_low, a_high, b_low, b_high))
            continue
        pairs.extend(anchors)
        for i, j in anchors:
            stack.append((a_low, i, b_low, j))
            a_low, b_low = i + 1, j + 1
        stack.append((a_low, a_high, b_low, b_high))
    return _settled(a, b, sorted(pairs))


def _settled(a: Lines, b: Lines, pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Slide each insertion and deletion down as far as possible, so that all diffs of one base agree.

    Where `x` became `x, x`, either could be the new one; if two diffs disagree on which, their edits seem to collide.
    """
    last_i = last_j = -1
    for place, (i, j) in enumerate(pairs):
        if i == last_i + 1 and j > last_j + 1 and b[last_j + 1] == b[j]:
            pairs[place] = (i, last_j + 1)  # lines only in `b`: match the first
        elif j == last_j + 1 and i > last_i + 1 and a[last_i + 1] == a[i]:
            pairs[place] = (last_i + 1, j)
        last_i, last_j = pairs[place]
    return pairs


def changes(a: Lines, b: Lines) -> list[tuple[range, range]]:
    """Where `b` differs from `a`: (range in `a`, range in `b`) of each change; one of the two may be empty."""
    found: list[tuple[range, range]] = []
    i = j = 0
    for next_i, next_j in [*match(a, b), (len(a), len(b))]:
        if next_i > i or next_j > j:
            found.append((range(i, next_i), range(j, next_j)))
        i, j = next_i + 1, next_j + 1
    return found


def _anchors(a: Lines, b: Lines, a_low: int, a_high: int, b_low: int, b_high: int) -> list[tuple[int, int]]:
    """The longest increasing run of lines that occur exactly once in both stretches."""
    in_a, in_b = Counter(a[a_low:a_high]), Counter(b[b_low:b_high])
    place_in_b = {b[j]: j for j in range(b_low, b_high) if in_b[b[j]] == 1}
    candidates = [(i, place_in_b[a[i]]) for i in range(a_low, a_high) if in_a[a[i]] == 1 and a[i] in place_in_b]
    # Patience sorting: the tops of the piles increase; each card remembers the top of the pile to its left.
    ends: list[int] = []
    tops: list[int] = []
    before: list[int] = []
    for card, (_, j) in enumerate(candidates):
        pile = bisect_left(ends, j)
        before.append(tops[pile - 1] if pile else -1)
        if pile == len(ends):
            ends.append(j)
            tops.append(card)
        else:
            ends[pile], tops[pile] = j, card
    run: list[tuple[int, int]] = []
    card = tops[-1] if tops else -1
    while card >= 0:
        run.append(candidates[card])
        card = before[card]
    return run[::-1]


def _myers(a: Lines, b: Lines, a_low: int, a_high: int, b_low: int, b_high: int) -> list[tuple[int, int]]:
    """A longest common subsequence of the two stretches; empty if they differ too much to search."""
    if not set(a[a_low:a_high]) & set(b[b_low:b_high]):
        return []
    n, m = a_high - a_low, b_high - b_low
    furthest = {1: 0}
    trail: list[dict[int, int]] = []
    for edits in range(min(n + m, MAX_EDITS) + 1):
        trail.append(dict(furthest))
        for k in range(-edits, edits + 1, 2):
            down = k == -edits or (k != edits and furthest[k - 1] < furthest[k + 1])
            x = furthest[k + 1] if down else furthest[k - 1] + 1
            y = x - k
            while x < n and y < m and a[a_low + x] == b[b_low + y]:
                x, y = x + 1, y + 1
            furthest[k] = x
            if x >= n and y >= m:
                return _walk_back(trail, n, m, a_low, b_low)
    return []


def _walk_back(trail: list[dict[int, int]], x: int, y: int, a_low: int, b_low: int) -> list[tuple[int, int]]:
    pairs: list[tuple[int, int]] = []
    for edits in range(len(trail) - 1, -1, -1):
        furthest = trail[edits]
        k = x - y
        down = k == -edits or (k != edits and furthest[k - 1] < furthest[k + 1])
        before_k = k + 1 if down else k - 1
        before_x = furthest[before_k] if edits else 0
        before_y = before_x - before_k if edits else 0
        while x > before_x and y > before_y:
            x, y = x - 1, y - 1
            pairs.append((a_low + x, b_low + y))
        x, y = before_x, before_y
    return pairs
