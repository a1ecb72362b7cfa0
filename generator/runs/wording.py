"""Put verdicts into sentences."""

import math
from collections.abc import Sequence

from .fields import key_of
from .groups import Group
from .scores import Metric
from .statistics import Estimate
from .verdict import MIN_SEEDS, Verdict, direction

_MANY = 3  # more verdicts than this that all lack runs become one sentence


def sentence(verdict: Verdict, groups: Sequence[Group], metric: Metric) -> str:
    """Return a verdict as a sentence.

    Args:
        verdict: On one of the groups.
        groups: All groups, the baseline first.
        metric: The score that they are compared by.
    """
    baseline = groups[0]
    group = next(group for group in groups if group.label == verdict.group)
    estimate, amount = verdict.estimate, _Amount(metric, baseline.mean)
    b, a = f"`{group.label}`", f"`{baseline.label}`"
    word = direction(verdict.difference, metric)
    if verdict.finding == "no scores":
        which = " and ".join(f"`{one.label}`" for one in (baseline, group) if not one.counted)
        return f"No verdict on {b}: no run of {which} counts"
    if estimate is None:
        if verdict.finding == "not comparable":
            return f"No verdict on {b}: {verdict.reason}"
        if verdict.finding == "identical":
            return f"{b} and {a} have the same scores, in all evaluations of one run each"
        text = (
            f"{b} is {word} than {a} by {amount.plain(verdict.difference)}" if verdict.difference else f"{b} equals {a}"
        )
        counts = sorted({len(baseline.counted), len(group.counted)})
        runs = "one run each" if counts == [1] else f"{' and '.join(map(str, counts))} runs"
        return f"{text} in {runs}, which is no evidence: run each with at least {MIN_SEEDS} seeds to see how much is chance"
    samples = _samples(verdict, baseline, group)
    if verdict.finding == "identical":
        return f"{b} and {a} have the same scores, {samples}"
    if not estimate.error:
        exactly = amount.plain(verdict.difference)
        return f"{b} is {word} than {a} by exactly {exactly} each time, {samples}: no variance to estimate from, so add seeds"
    difference = f"{b} is {word} than {a} by {amount.interval(estimate)}"
    if verdict.finding == "too few runs":
        return f"{difference} ({samples}): too few for a verdict, run at least {MIN_SEEDS} seeds of each"
    assert verdict.p_adjusted is not None
    comparisons = len(groups) - 1
    p = "p < 0.001" if verdict.p_adjusted < 0.001 else f"p = {verdict.p_adjusted:.2g}"
    tested = f"{samples}, {p}" + (f", adjusted for {comparisons} comparisons" if comparisons > 1 else "")
    if verdict.finding == "not comparable":
        return f"No verdict on {b}: {difference} ({tested}), but {verdict.reason}"
    if verdict.finding != "no difference shown":
        return f"{difference} ({tested})"
    seeds = _count(verdict.units, "seed")
    text = f"No significant difference between {b} and {a} with {seeds}: {amount.signed_interval(estimate)} ({tested})"
    if verdict.visible is not None:
        text += f". These runs can detect a difference of {amount.plain(verdict.visible)}"
    needed = verdict.seeds_needed.get("paired" if verdict.method == "paired t" else "unpaired")
    if needed is not None:
        text += f"; to detect one of {amount.plain(verdict.difference)} takes about {needed:,} seeds"
    return text


def summary(groups: Sequence[Group], verdicts: Sequence[Verdict], metric: Metric | None) -> str | None:
    """Return one sentence for all verdicts, if there are many and each lacks runs; else None."""
    if metric is None:
        return "No verdict: none of these runs has a score" if len(groups) > 1 else None
    if len(verdicts) <= _MANY or any(verdict.finding != "too few runs" for verdict in verdicts):
        return None
    text = f"No verdict on {len(groups)} variants with too few runs of each"
    if not metric.is_certain:
        return text
    sign = 1 if metric.mode == "min" else -1
    best = min((group for group in groups if group.counted), key=lambda group: sign * group.mean)
    return (
        f"{text}. `{best.label}` scores best, but the best of many is partly luck: run it and the baseline with at least"
        f" {MIN_SEEDS} new seeds"
    )


def _samples(verdict: Verdict, baseline: Group, group: Group) -> str:
    """Say what was compared: `paired over 3 seeds, 6 pairs, 1 run without a partner` or `unpaired, 3 and 4 runs`."""
    if verdict.method != "paired t":
        return f"unpaired, {len(group.counted)} and {len(baseline.counted)} runs"
    has_one_seed = len({key_of(member.seed) for one in (baseline, group) for member in one.counted}) == 1
    alone = len(baseline.counted) + len(group.counted) - 2 * verdict.pairs
    parts = [f"{verdict.units} pairs of one seed" if has_one_seed else f"paired over {_count(verdict.units, 'seed')}"]
    if verdict.pairs > verdict.units:
        parts.append(f"{verdict.pairs} pairs")
    if alone:
        parts.append(f"{_count(alone, 'run')} without a partner")
    return ", ".join(parts)


class _Amount:
    """Formats differences of a score: in percentage points for a fraction, else also relative to the baseline."""

    def __init__(self, metric: Metric, baseline: float) -> None:
        self._is_fraction = metric.in_points and 0 <= baseline <= 1
        self._scale, self._unit = (100.0, " points") if self._is_fraction else (1.0, "")
        self._baseline = baseline

    def plain(self, difference: float) -> str:
        return f"{_two_digits(abs(difference) * self._scale)}{self._unit}{self._relative(difference)}"

    def interval(self, estimate: Estimate, sign: str = "") -> str:
        reach = (estimate.high - estimate.low) / 2 * self._scale
        decimals = _decimals(reach) if reach > 0 else 4
        size = abs(estimate.difference) * self._scale
        return f"{sign}{size:.{decimals}f} ± {reach:.{decimals}f}{self._unit}{self._relative(estimate.difference)}"

    def signed_interval(self, estimate: Estimate) -> str:
        return self.interval(estimate, "+" if estimate.difference >= 0 else "-")

    def _relative(self, difference: float) -> str:
        if self._is_fraction or not self._baseline:
            return ""
        return f" ({_two_digits(100 * abs(difference / self._baseline))} %)"


def _decimals(value: float) -> int:
    """Return the number of decimals that show two significant digits."""
    return max(0, 1 - math.floor(math.log10(abs(value))))


def _two_digits(value: float) -> str:
    return f"{value:.{_decimals(value)}f}" if value else "0"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
