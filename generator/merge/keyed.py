"""Merging mappings key by key: how everything that is a set is merged."""

from collections.abc import Callable, Mapping
from operator import eq
from typing import Any, TypeVar

K = TypeVar("K")

MISSING: Any = object()
"""The value of a key that a side does not have; as a result of `inside`, that of a key in conflict."""


def merge_keyed(
    base: Mapping[K, Any],
    ours: Mapping[K, Any],
    theirs: Mapping[K, Any],
    *,
    same: Callable[[Any, Any], bool] = eq,
    inside: Callable[[Any, Any, Any], Any] = lambda base, ours, theirs: MISSING,
) -> dict[K, Any] | None:
    """Merge three mappings key by key: our keys in our order, then the keys that are new in theirs.

    Args:
        same: Whether two values are equal; ours is then kept.
        inside: Merge the three values of a key that both sides changed; return `MISSING` if they conflict.

    Returns:
        The merged mapping; None if both sides changed a key differently.
    """

    def equal(one: Any, other: Any) -> bool:
        return one is other or (one is not MISSING and other is not MISSING and same(one, other))

    merged: dict[K, Any] = {}
    for key in (*ours, *(key for key in theirs if key not in ours)):
        values = [side.get(key, MISSING) for side in (base, ours, theirs)]
        if equal(values[1], values[2]) or equal(values[0], values[2]):
            value = values[1]
        elif equal(values[0], values[1]):
            value = values[2]
        else:
            value = inside(*values)
            if value is MISSING:
                return None
        if value is not MISSING:
            merged[key] = value
    return merged
