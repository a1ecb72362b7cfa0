"""How much of their lines texts have in common: how a renamed file, or the template of a project, is recognised."""

from collections import Counter
from collections.abc import Iterable


def line_counts(content: bytes) -> Counter[bytes]:
    """How often each line occurs; blank lines, and white space around a line, do not count."""
    return Counter(line.strip() for line in content.split(b"\n") if line.strip())


def likeness(pairs: Iterable[tuple[bytes, bytes]]) -> float:
    """The share of lines that are in both texts of each pair, over all pairs: 0 to 1 (Sørensen-Dice coefficient)."""
    return shared((line_counts(one), line_counts(other)) for one, other in pairs)


def shared(pairs: Iterable[tuple[Counter[bytes], Counter[bytes]]]) -> float:
    """`likeness` of texts whose lines are counted already."""
    common = total = 0
    for one, other in pairs:
        common += 2 * (one & other).total()
        total += one.total() + other.total()
    return common / total if total else 0.0
