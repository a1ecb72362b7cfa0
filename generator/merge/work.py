"""A limit on the work of a merge, counted in lines read and not in seconds, so that every machine merges alike."""

from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")

MAX_WORK = 40_000
"""Lines that the search for one merge may read: about two seconds, most of it black."""

FORMAT = 8
"""The work of formatting a line with black; checking a line for defects is 1."""


class Work:
    """The work that is left for a merge."""

    def __init__(self, lines: int = MAX_WORK) -> None:
        self.left = lines

    def spend(self, lines: int) -> bool:
        """Subtract work; returns False if none is left."""
        self.left = max(self.left - lines, 0)
        return self.left > 0


def fitting(items: Sequence[Item], fits: Callable[[list[Item]], bool]) -> list[Item]:
    """The items that fit together, the first taken first.

    Found by bisection: about k log n calls of `fits` if k of n items do not fit.
    """

    def added(taken: list[Item], more: Sequence[Item]) -> list[Item]:
        if not more:
            return taken
        if fits([*taken, *more]):
            return [*taken, *more]
        if len(more) == 1:
            return taken
        half = len(more) // 2
        return added(added(taken, more[:half]), more[half:])

    return added([], items)
