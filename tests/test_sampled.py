"""What is not run every day is run on one of three days, and with `PACCEL_ALL=1` always."""

from itertools import pairwise

import pytest
from support import sampled
from support.quick import quick_first

DAYS = (20261129, 20261130, 20261201)  # in a row, over the end of a month


def skips(cases: list[object]) -> list[bool]:
    """Whether each is skipped."""
    found = []
    for case in cases:
        marks = [mark for mark in case.marks if mark.name == "skipif"]
        found.append(any(mark.args[0] for mark in marks))
    return found


def test_three_days_in_a_row_are_three_groups_also_where_a_month_ends() -> None:
    groups = [sampled.day_of_three(day) for day in DAYS]
    assert [(later - earlier) % 3 for earlier, later in pairwise(groups)] == [1, 1]
    assert {sampled.day_of_three(seed) for seed in (7, 8, 9)} == {0, 1, 2}


@pytest.mark.parametrize("split", [sampled.over_three_days, lambda cases: quick_first(cases)[1:]])
def test_each_case_runs_on_one_of_three_days_and_all_on_demand(split, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = ["a", ("b", 1), pytest.param("c", marks=pytest.mark.slow, id="third"), "d", "e"]
    cases = cases if split is sampled.over_three_days else ["first", *cases[:2], "c", "d"]
    monkeypatch.setattr(sampled, "ALL", False)
    days = []
    for day in DAYS:
        monkeypatch.setattr(sampled, "SEED", day)
        days.append(skips(split(cases)))
    assert all(sum(of_one) == 2 for of_one in zip(*days, strict=True)), days
    assert not any(all(day) for day in days), "each day runs some"
    monkeypatch.setattr(sampled, "ALL", True)
    assert not any(skips(split(cases)))


def test_a_case_keeps_its_values_marks_and_name() -> None:
    given = pytest.param("c", 1, marks=pytest.mark.slow, id="third")
    ((values, marks, name),) = sampled.over_three_days([given])
    assert (values, name) == (("c", 1), "third")
    assert [mark.name for mark in marks] == ["slow", "skipif"]
