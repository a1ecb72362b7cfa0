"""Versions of a changelog are sorted, however they are written."""

import random

import pytest

from paccel.catalog.changelog import changes_between, newest
from paccel.catalog.metadata import Change

ORDERED = [
    "",
    "0.1rc2",
    "0.1rc10",
    "0.1",
    "v0.2.0",
    "0.2.1",
    "0.10",
    "1",
    "2024.1-beta",
    "2024.1",
    "9" * 5000,
    "1" + "0" * 5000,
]


def test_versions_are_ordered_by_their_numbers() -> None:
    shuffled = random.Random(0).sample(ORDERED, len(ORDERED))
    while shuffled:
        assert newest(Change(version, "") for version in shuffled) == max(shuffled, key=ORDERED.index)
        shuffled.pop()


@pytest.mark.parametrize("odd", ["²", "\u0661", "-", "latest", "1..2", "v", "1.\u0663", "\x00"])
def test_an_odd_version_is_no_error(odd: str) -> None:
    assert changes_between([Change("1.0", "one"), Change(odd, "two")], odd) in ({}, {"": ("1.0: one",)})
    assert newest([Change("1.0", ""), Change(odd, "")]) in {"1.0", odd}


def test_zeros_at_the_end_make_no_other_version() -> None:
    assert changes_between([Change("1.0.0", "x")], "v1") == {}
