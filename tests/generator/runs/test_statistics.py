"""The statistics of a verdict, compared with scipy if it is installed."""

import math
import random

import pytest

from paccel.runs import statistics
from paccel.runs.statistics import (
    holm,
    paired,
    seeds_to_see,
    t_cdf,
    t_quantile,
    unpaired,
    visible_difference,
)

FIRST = [0.912, 0.905, 0.921, 0.899, 0.915]
SECOND = [0.917, 0.913, 0.921, 0.908, 0.922]


@pytest.mark.slow
def test_student_t_is_scipy_s() -> None:
    stats = pytest.importorskip("scipy.stats")
    for freedom in (1, 2, 2.7, 4, 9, 30, 400, 1e5):
        for t in (-40.0, -3.2, -1.0, -1e-9, 0.0, 0.3, 2.0, 12.7, 1e4):
            assert t_cdf(t, freedom) == pytest.approx(stats.t.cdf(t, freedom), rel=1e-9, abs=1e-15), (t, freedom)
        for chance in (0.001, 0.3, 0.5, 0.9, 0.975, 0.9995):
            assert t_quantile(chance, freedom) == pytest.approx(stats.t.ppf(chance, freedom), rel=1e-9, abs=1e-9)
    assert (t_cdf(-math.inf, 3), t_cdf(math.inf, 3)) == (0, 1)


def test_known_quantiles() -> None:  # of any table, for where there is no scipy
    for freedom, value in ((1, 12.706), (2, 4.303), (4, 2.776), (30, 2.042)):
        assert t_quantile(0.975, freedom) == pytest.approx(value, abs=5e-4)


@pytest.mark.slow
def test_paired_is_scipy_s() -> None:
    stats = pytest.importorskip("scipy.stats")
    ours, theirs = paired(FIRST, SECOND), stats.ttest_rel(SECOND, FIRST)
    assert ours.p == pytest.approx(theirs.pvalue)
    assert (ours.low, ours.high) == pytest.approx(theirs.confidence_interval(0.95))


@pytest.mark.slow
def test_unpaired_is_scipy_s_welch() -> None:
    stats = pytest.importorskip("scipy.stats")
    for second in (SECOND, SECOND[:2], [0.9, 0.9, 0.9]):
        ours, theirs = unpaired(FIRST, second), stats.ttest_ind(second, FIRST, equal_var=False)
        assert ours.p == pytest.approx(theirs.pvalue)
        assert ours.freedom == pytest.approx(theirs.df)
        assert (ours.low, ours.high) == pytest.approx(theirs.confidence_interval(0.95))


@pytest.mark.slow
def test_groups_of_any_size_and_scale_are_estimated_as_by_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    draw = random.Random(11)
    for number in range(60):
        sizes, scale, offset = (
            (2 + number % 9, 2 + number // 7),
            10 ** draw.uniform(-8, 8),
            draw.choice([0.0, 1.0, -30.0]),
        )
        a, b = ([scale * (offset + draw.gauss(0, draw.uniform(0.1, 3))) for _ in range(size)] for size in sizes)
        ours, theirs = unpaired(a, b), stats.ttest_ind(b, a, equal_var=False)
        assert (ours.p, ours.freedom) == pytest.approx((theirs.pvalue, theirs.df), rel=1e-7)
        assert (ours.low, ours.high) == pytest.approx(theirs.confidence_interval(0.95), rel=1e-7)
        shared = min(sizes)
        ours, theirs = paired(a[:shared], b[:shared]), stats.ttest_rel(b[:shared], a[:shared])
        assert ours.p == pytest.approx(theirs.pvalue, rel=1e-7)
        assert (ours.low, ours.high) == pytest.approx(theirs.confidence_interval(0.95), rel=1e-7)


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])  # the third cannot go before the second
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.slow
@pytest.mark.parametrize(("difference", "spreads"), [(0.5, (1.0,)), (1.0, (1.0,)), (3.0, (1.0,)), (0.6, (1.0, 2.0))])
def test_seeds_have_the_power_that_scipy_s_noncentral_t_has(difference: float, spreads: tuple[float, ...]) -> None:
    stats = pytest.importorskip("scipy.stats")

    def power(seeds: int) -> float:
        parts = [spread**2 / seeds for spread in spreads]
        freedom = (seeds - 1) * sum(parts) ** 2 / sum(part**2 for part in parts)
        limit, effect = stats.t.ppf(0.975, freedom), difference / math.sqrt(sum(parts))
        return float(stats.nct.sf(limit, freedom, effect) + stats.nct.cdf(-limit, freedom, effect))

    seeds = seeds_to_see(difference, *spreads)
    assert seeds is not None
    assert power(seeds) >= 0.8 - 1e-6
    assert seeds == 2 or power(seeds - 1) < 0.8 + 1e-6


def test_seeds_at_the_ends() -> None:
    assert seeds_to_see(0.0, 1.0) is None
    assert seeds_to_see(1e-6, 1.0) is None
    assert seeds_to_see(1.0, 1e-9) == 2
    assert seeds_to_see(1.0, 0.0, 0.0) == 2


def test_the_visible_difference_needs_the_seeds_that_there_are() -> None:
    visible = visible_difference(1 / math.sqrt(8), 7)
    assert seeds_to_see(visible * 1.0001, 1.0) == 8
    assert seeds_to_see(visible * 0.99, 1.0) == 9


def test_equal_scores_have_no_spread_however_they_are_rounded() -> None:
    same = [0.1 + 0.2, 0.1 + 0.2, 0.1 + 0.2]
    assert paired(same, same).p == 1
    assert paired([0.1, 0.2, 0.3], [0.1 + 0.1, 0.2 + 0.1, 0.3 + 0.1]).error == 0  # 0.3 + 0.1 - 0.3 is not quite 0.1
    moved = unpaired(same, [0.5, 0.5, 0.5])
    assert (moved.error, moved.p, moved.low, moved.high) == (0, 0, moved.difference, moved.difference)


@pytest.mark.slow
def test_of_comparisons_without_a_difference_one_in_twenty_is_called_one() -> None:
    draw = random.Random(0)
    for method in (paired, unpaired):
        found = sum(
            method([draw.gauss(0, 1) for _ in range(5)], [draw.gauss(0, 1) for _ in range(5)]).p < statistics.LEVEL
            for _ in range(1000)
        )
        assert 30 <= found <= 71  # 50 on average, three standard deviations are 21


@pytest.mark.slow
def test_of_families_of_twenty_groups_at_most_one_in_twenty_has_a_false_win() -> None:
    draw = random.Random(1)
    unadjusted = found = 0
    for _ in range(300):
        baseline, *others = ([draw.gauss(0, 1) for _ in range(4)] for _ in range(20))
        chances = [paired(baseline, other).p for other in others]
        unadjusted += min(chances) < statistics.LEVEL
        found += min(holm(chances)) < statistics.LEVEL
    assert found <= 15 + 11  # 5 % and three standard deviations
    assert unadjusted > 100  # what it would be without the adjustment
