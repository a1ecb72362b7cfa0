"""Small things."""

import random


def seed_everything(seed: int = 0) -> None:
    """Make a run repeatable."""
    random.seed(seed)


def in_millions(total: int) -> str:
    """A count that a person can read."""
    return f"{total / 1e6:.1f} M"


def scale(
    value,
    factor=1.0,
    offset=0.0,
):
    return value * factor + offset
