"""Small things."""

import random


def seed_everything(seed: int = 0) -> None:
    """Make a run repeatable."""
    random.seed(seed)


def in_millions(total: int) -> str:
    """A count that a person can read."""
    return f"{total / 1e6:.1f} M"
