"""Whether two groups of scores differ: t intervals, their power, and several comparisons at once. Plain Python.

A score is what one run of one seed has reached; its differences from seed to seed are taken as normally distributed.
Sources: Student's t by the incomplete beta function (DLMF 8.17, dlmf.nist.gov/8.17); Welch, Biometrika 34 (1947), and
Satterthwaite, Biometrics Bulletin 2 (1946), for groups of unequal spread; Holm, Scandinavian Journal of Statistics 6
(1979), for several comparisons; the power of a t test by the noncentral t distribution (Cohen, 1988).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist, fmean, stdev

LEVEL = 0.05
"""The share of comparisons without a difference that may be called one."""
POWER = 0.8
"""The chance to see a true difference, for which seeds are counted."""
MOST_SEEDS = 10_000

_ROUNDING = 1e-13
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Estimate:
    """A difference of means, and how well it is known.

    Attributes:
        difference: The mean of the second group, minus that of the first.
        error: The standard error of the difference.
        freedom: Degrees of freedom of the t distribution.
        low, high: The interval that holds the true difference in 95 % of such experiments.
        p: How often a difference at least as large is seen where there is none.
    """

    difference: float
    error: float
    freedom: float
    low: float
    high: float
    p: float


def paired(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """Estimate by the paired t method: the scores at one place of both are of the same seed. At least two."""
    differences = [b - a for a, b in zip(first, second, strict=True)]
    spread = _spread(differences, max(map(abs, (*first, *second))))
    return _estimate(fmean(differences), spread / math.sqrt(len(differences)), len(differences) - 1)


def unpaired(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """Estimate by Welch's t method, which allows groups of unequal size and spread. At least two of each."""
    parts = [_spread(scores, max(map(abs, scores))) ** 2 / len(scores) for scores in (first, second)]
    error = math.sqrt(sum(parts))
    freedom = _welch_freedom(parts, [len(first), len(second)])
    return _estimate(fmean(second) - fmean(first), error, freedom)


def _welch_freedom(parts: Sequence[float], sizes: Sequence[int]) -> float:
    total = sum(parts)
    if not total:
        return float(sum(sizes) - 2)
    # scaled first, as squares of small numbers would vanish
    return 1 / sum((part / total) ** 2 / (size - 1) for part, size in zip(parts, sizes, strict=True))


def _spread(values: Sequence[float], size: float) -> float:
    """The standard deviation of values made from scores of a size; 0 where they differ by rounding errors alone."""
    return 0.0 if max(values) - min(values) <= _ROUNDING * size else stdev(values)


def _estimate(difference: float, error: float, freedom: float) -> Estimate:
    if not error:
        return Estimate(difference, 0.0, freedom, difference, difference, float(difference == 0))
    reach = t_quantile(1 - LEVEL / 2, freedom) * error
    p = 2 * t_cdf(-abs(difference) / error, freedom)
    return Estimate(difference, error, freedom, difference - reach, difference + reach, p)


def holm(chances: Sequence[float]) -> list[float]:
    """Adjust the p of several comparisons, so that at most 5 % of such families have any false difference."""
    adjusted, floor = [0.0] * len(chances), 0.0
    for rank, place in enumerate(sorted(range(len(chances)), key=lambda place: chances[place])):
        floor = max(floor, min(1.0, (len(chances) - rank) * chances[place]))
        adjusted[place] = floor
    return adjusted


def seeds_to_see(difference: float, *spreads: float, level: float = LEVEL) -> int | None:
    """The seeds of each group with which a t test sees a true difference with power 0.8.

    Args:
        difference: The true difference of the means.
        spreads: The standard deviation of the differences of pairs; or one for each of two unpaired groups.
        level: Below which p must be, such as a share of `LEVEL` for one of several comparisons.

    Returns:
        At least 2; None where it takes more than 10,000.
    """
    if not difference:
        return None

    def sees(seeds: int) -> bool:
        error, freedom = _planned(seeds, spreads)
        return not error or _power(abs(difference) / error, freedom, level) >= POWER

    low, high = 1, 2
    while not sees(high):
        if high >= MOST_SEEDS:
            return None
        low, high = high, min(2 * high, MOST_SEEDS)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if sees(middle) else (middle, high)
    return high


def visible_difference(error: float, freedom: float, level: float = LEVEL) -> float:
    """The smallest true difference that a t test of this standard error and level sees with power 0.8."""
    low, high = 0.0, 1.0
    while _power(high, freedom, level) < POWER:
        low, high = high, 2 * high
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if _power(middle, freedom, level) >= POWER else (middle, high)
    return high * error


def _planned(seeds: int, spreads: Sequence[float]) -> tuple[float, float]:
    """The standard error and the degrees of freedom of so many seeds."""
    parts = [spread**2 / seeds for spread in spreads]
    freedom = seeds - 1 if len(parts) == 1 else _welch_freedom(parts, [seeds] * len(parts))
    return math.sqrt(sum(parts)), freedom


def _power(effect: float, freedom: float, level: float) -> float:
    """The chance that a two-sided t test rejects where the true difference is `effect` standard errors.

    The noncentral t distribution, as the mean of a normal one over the spread that a sample may have: `spread ** 2` times
    the degrees of freedom follows chi-square. Simpson's rule over what is not negligible of it.
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
    """The chance of at most `t` under Student's t distribution (DLMF 8.17, by the incomplete beta function)."""
    if math.isinf(t):
        return float(t > 0)
    tail = 0.5 * _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t))
    return tail if t < 0 else 1 - tail


@lru_cache(maxsize=1024)  # power asks for the same one again and again
def t_quantile(chance: float, freedom: float) -> float:
    """The t that is not exceeded with this chance, by bisection; 0 < chance < 1."""
    if chance < 0.5:
        return -t_quantile(1 - chance, freedom)
    low, high = 0.0, 1.0
    while t_cdf(high, freedom) < chance:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if t_cdf(middle, freedom) < chance else (low, middle)
    return (low + high) / 2


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularized incomplete beta function, by its continued fraction (DLMF 8.17.22, evaluated as Lentz does)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # where the fraction converges slowly (DLMF 8.17.4)
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
