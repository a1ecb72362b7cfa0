"""Sampling of tests: each day runs a few of many kill points or cases, and `PACCEL_ALL=1` runs all of them."""

import os
import random
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import pytest
from hypothesis import settings

Point = TypeVar("Point")

ALL = os.environ.get("PACCEL_ALL") == "1"
# In the environment, so that processes started by pytest draw the same
SEED = int(os.environ.setdefault("PACCEL_SEED", f"{datetime.now(UTC):%Y%m%d}"))
PARAMETER = type(pytest.param())


def day_of_three(seed: int) -> int:
    """0, 1 or 2, in turn from day to day, also across months; a seed that is not a date is taken modulo 3."""
    try:
        return datetime.strptime(str(seed), "%Y%m%d").toordinal() % 3
    except ValueError:
        return seed % 3


def every_third_day(group: int) -> pytest.MarkDecorator:
    """A mark for tests that take minutes: they run every third day, and with `PACCEL_ALL=1`.

    Args:
        group: 0, 1 or 2: on which of three days, to spread such tests.
    """
    return pytest.mark.skipif(not ALL and group != day_of_three(SEED), reason="on another day; PACCEL_ALL=1 runs it")


def over_three_days(cases: Iterable[Any], first: int = 0) -> list[Any]:
    """The cases as parameters; each day runs a third of them, and `PACCEL_ALL=1` all.

    Args:
        first: The group of the first case, as in `every_third_day`.
    """
    parameters = []
    for number, case in enumerate(cases, first):
        given = case if isinstance(case, PARAMETER) else pytest.param(*(case if isinstance(case, tuple) else (case,)))
        marks = [*given.marks, every_third_day(number % 3)]
        parameters.append(pytest.param(*given.values, marks=marks, id=given.id))
    return parameters


def sampled(points: Sequence[Point], count: int) -> list[Point]:
    """`count` of the points, in their order, drawn with the seed of the day; all of them with `PACCEL_ALL=1`."""
    if ALL or len(points) <= count:
        return list(points)
    chosen = sorted(random.Random(SEED).sample(range(len(points)), count))
    return [points[index] for index in chosen]


def examples(count: int) -> settings:
    """A mark for a property that is tried on random examples, others in each run: a third of `count`.

    With `PACCEL_ALL=1`, on `count` of them.
    """
    return settings(max_examples=count if ALL else -(-count // 3), deadline=None)
