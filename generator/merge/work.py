"""How much a merge may do, counted in lines that are read and not in time, so that every machine merges alike."""

from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")

MAX_WORK = 40_000
"""Lines that the search for one merge may read: about two seconds, most of them black's."""

CHECK = 1
"""The work of reading a line for defects."""

FORMAT = 8
"""The work of letting black write a line, as a multiple of that."""


class Work:
    """What is left of the work that a merge may do."""

    def __init__(self, lines: int = MAX_WORK) -> None:
        self.left = lines

    def spend(self, lines: int) -> bool:
        """Take the work of reading some lines; False where nothing is left then."""
        self.left = max(self.left - lines, 0)
        return self.left > 0


def fitting(items: Sequence[Item], fits: Callable[[list[Item]], bool]) -> list[Item]:
    """As many of the items as fit together, the first before the last.

    Found by halves: where k of n items do not fit, with about k log n questions.
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
