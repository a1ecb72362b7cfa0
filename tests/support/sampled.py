"""Kill points and the like: a few of many in each run, others every day, and all of them on demand."""

import os
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TypeVar

import pytest

Point = TypeVar("Point")

ALL = os.environ.get("PACCEL_ALL") == "1"
# In the environment, so that processes which pytest starts draw the same
SEED = int(os.environ.setdefault("PACCEL_SEED", f"{datetime.now(UTC):%Y%m%d}"))


def every_third_day(group: int) -> pytest.MarkDecorator:
    """A mark for what takes minutes: run on every third day, and with `PACCEL_ALL=1`.

    Args:
        group: 0, 1 or 2: which of three days, so that such tests do not fall on the same one.
    """
    return pytest.mark.skipif(not ALL and group != SEED % 3, reason="on another day; PACCEL_ALL=1 runs it")


def sampled(points: Sequence[Point], count: int) -> list[Point]:
    """`count` of the points, in their order, drawn with the seed of the day; all of them with `PACCEL_ALL=1`."""
    if ALL or len(points) <= count:
        return list(points)
    chosen = sorted(random.Random(SEED).sample(range(len(points)), count))
    return [points[index] for index in chosen]
