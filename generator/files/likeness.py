"""How many lines two texts share: this recognises renamed files, and the template of a project."""

from collections import Counter
from collections.abc import Iterable


def line_counts(content: bytes) -> Counter[bytes]:
    """Count each line, without blank lines and without white space around lines."""
    return Counter(line.strip() for line in content.split(b"\n") if line.strip())


def likeness(pairs: Iterable[tuple[bytes, bytes]]) -> float:
    """The fraction of lines that both texts of a pair have, over all pairs: 0 to 1 (Sørensen-Dice coefficient)."""
    return shared((line_counts(one), line_counts(other)) for one, other in pairs)


def shared(pairs: Iterable[tuple[Counter[bytes], Counter[bytes]]]) -> float:
    """Like `likeness`, for texts whose lines are already counted."""
    common = total = 0
    for one, other in pairs:
        common += 2 * (one & other).total()
        total += one.total() + other.total()
    return common / total if total else 0.0
