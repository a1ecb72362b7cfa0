"""Whether two groups of scores differ: t intervals, power, and correction for multiple comparisons. Plain Python.

A score belongs to one run with one seed. Scores are assumed to vary normally from seed to seed.
Sources: Student's t by the incomplete beta function (DLMF 8.17, dlmf.nist.gov/8.17); Welch, Biometrika 34 (1947), and
Satterthwaite, Biometrics Bulletin 2 (1946), for groups of unequal spread; Holm, Scandinavian Journal of Statistics 6
(1979), for several comparisons; the power of a t test by the noncentral t distribution (Cohen, 1988).
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist, fmean, stdev

LEVEL = 0.05
"""The significance level: how often a comparison without a true difference may be called a difference."""
POWER = 0.8
"""The power for which numbers of seeds are computed: the probability of detecting a true difference."""
MAX_SEEDS = 10_000

_ROUNDING = 1e-13  # relative difference of scores that may be a rounding error
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Estimate:
    """An estimated difference of means.

    Attributes:
        difference: The mean of the second group, minus that of the first.
        error: The standard error of the difference.
        freedom: Degrees of freedom of the t distribution.
        low, high: The 95 % confidence interval.
        p: The p-value, two-sided.
    """

    difference: float
    error: float
    freedom: float
    low: float
    high: float
    p: float


def paired(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """Estimate by the paired t method: scores at the same index have the same seed. At least two."""
    differences = [b - a for a, b in zip(first, second, strict=True)]
    spread = _spread(differences, max(map(abs, (*first, *second))))
    return _estimate(fmean(differences), spread / math.sqrt(len(differences)), len(differences) - 1)


def unpaired(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """Estimate by Welch's t method, for groups of unequal size and variance. At least two scores in each."""
    parts = [_spread(scores, max(map(abs, scores))) ** 2 / len(scores) for scores in (first, second)]
    error = math.sqrt(sum(parts))
    freedom = _welch_freedom(parts, [len(first), len(second)])
    return _estimate(fmean(second) - fmean(first), error, freedom)


def _welch_freedom(parts: Sequence[float], sizes: Sequence[int]) -> float:
    total = sum(parts)
    if not total:
        return float(sum(sizes) - 2)
    # scaled first: squares of small numbers would underflow
    return 1 / sum((part / total) ** 2 / (size - 1) for part, size in zip(parts, sizes, strict=True))


def _spread(values: Sequence[float], size: float) -> float:
    """The standard deviation; 0 if the values differ only by rounding errors of scores of magnitude `size`."""
    return 0.0 if max(values) - min(values) <= _ROUNDING * size else stdev(values)


def _estimate(difference: float, error: float, freedom: float) -> Estimate:
    if not error:
        return Estimate(difference, 0.0, freedom, difference, difference, float(difference == 0))
    reach = t_quantile(1 - LEVEL / 2, freedom) * error
    p = 2 * t_cdf(-abs(difference) / error, freedom)
    return Estimate(difference, error, freedom, difference - reach, difference + reach, p)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values by Holm's method, so that at most 5 % of families of comparisons have any false difference."""
    adjusted, floor = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        floor = max(floor, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = floor
    return adjusted


def seeds_to_see(difference: float, *spreads: float, level: float = LEVEL) -> int | None:
    """Return the number of seeds per group with which a t test detects a true difference with power 0.8.

    Args:
        difference: The true difference of the means.
        spreads: The standard deviation of the paired differences; or one for each of two unpaired groups.
        level: The significance level; a fraction of `LEVEL` for one of several comparisons.

    Returns:
        At least 2; None for more than 10,000.
    """
    if not difference:
        return None

    def detects(seeds: int) -> bool:
        error, freedom = _planned(seeds, spreads)
        return not error or _power(abs(difference) / error, freedom, level) >= POWER

    seeds = 2 + bisect_left(range(2, MAX_SEEDS + 1), True, key=detects)
    return seeds if seeds <= MAX_SEEDS else None


def visible_difference(error: float, freedom: float, level: float = LEVEL) -> float:
    """Return the smallest true difference that a t test with this standard error and level detects with power 0.8."""
    return error * _smallest(lambda effect: _power(effect, freedom, level) >= POWER)


def _planned(seeds: int, spreads: Sequence[float]) -> tuple[float, float]:
    """Return the standard error and the degrees of freedom for a number of seeds per group."""
    parts = [spread**2 / seeds for spread in spreads]
    freedom = seeds - 1 if len(parts) == 1 else _welch_freedom(parts, [seeds] * len(parts))
    return math.sqrt(sum(parts)), freedom


def _power(effect: float, freedom: float, level: float) -> float:
    """The probability that a two-sided t test rejects if the true difference is `effect` standard errors.

    This is the noncentral t distribution, computed as the mean of a normal distribution over the standard deviation of a
    sample: `spread ** 2` times the degrees of freedom follows chi-square. Simpson's rule, without negligible tails.
    """
    limit = t_quantile(1 - level / 2, freedom)
    scale = math.log(2) + freedom / 2 * math.log(freedom / 2) - math.lgamma(freedom / 2)
    width = min(8 / math.sqrt(2 * freedom), 8.0)
    low, high, pieces = max(1 - width, 1e-9), 1 + width, 200
    total = 0.0
    for piece in range(pieces + 1):
        spread = low + (high - low) * piece / pieces
        density = math.exp(scale + (freedom - 1) * math.log(spread) - freedom * spread**2 / 2)
        rejected = _NORMAL.cdf(effect - limit * spread) + _NORMAL.cdf(-effect - limit * spread)
        total += (1 if piece in (0, pieces) else 4 if piece % 2 else 2) * density * rejected
    return min(1.0, total * (high - low) / pieces / 3)


def t_cdf(t: float, freedom: float) -> float:
    """The cumulative distribution function of Student's t, by the incomplete beta function (DLMF 8.17)."""
    if math.isinf(t):
        return float(t > 0)
    tail = 0.5 * _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t))
    return tail if t < 0 else 1 - tail


@lru_cache(maxsize=1024)  # the power computations repeat the same arguments
def t_quantile(chance: float, freedom: float) -> float:
    """The quantile function of Student's t; 0 < chance < 1."""
    if chance < 0.5:
        return -t_quantile(1 - chance, freedom)
    return _smallest(lambda t: t_cdf(t, freedom) >= chance)


def _smallest(is_enough: Callable[[float], bool]) -> float:
    """Return the smallest positive number that is enough, by bisection."""
    low, high = 0.0, 1.0
    while not is_enough(high):
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularized incomplete beta function, by its continued fraction (DLMF 8.17.22, Lentz's algorithm)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # the fraction converges slowly there (DLMF 8.17.4)
        return 1 - _incomplete_beta(b, a, 1 - x)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x) - math.log(a)
    )
    tiny = 1e-300
    fraction, upper, lower = 1.0, 1.0, 0.0
    for term in range(1000):
        half = term // 2
        if term == 0:
            numerator = 1.0
        elif term % 2:
            numerator = -(a + half) * (a + b + half) * x / ((a + term - 1) * (a + term))
        else:
            numerator = half * (b - half) * x / ((a + term - 1) * (a + term))
        lower = 1 / (1 + numerator * lower or tiny)
        upper = 1 + numerator / upper or tiny
        fraction *= upper * lower
        if term and abs(upper * lower - 1) < 1e-14:
            break
    return front * (fraction - 1)
