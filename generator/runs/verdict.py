"""Judge whether groups of runs differ from a baseline by more than chance."""

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, stdev
from typing import Literal

from . import statistics
from .fields import key_of
from .groups import Group, Member
from .inputs import data_key
from .scores import Metric, Use
from .statistics import Estimate

MIN_SEEDS = 3
"""Seeds per group that a verdict needs: two have a confidence interval, but one that says next to nothing."""

_MORE_OFTEN = 1.2  # ratio of the numbers of evaluations above which their best values cannot be compared

Pair = tuple[Member, Member]
"""A run of the baseline and a run of the other group that share the seed and the other settings that vary."""

Finding = Literal[
    "better",
    "worse",
    "higher",
    "lower",
    "no difference shown",
    "identical",
    "too few runs",
    "not comparable",
    "no scores",
]
"""`higher` and `lower` are said of a score if it is not known which way is better."""


@dataclass(frozen=True)
class Verdict:
    """Whether a group is better than the baseline.

    Attributes:
        group, against: The labels of the group and of the baseline.
        finding: The verdict in a word or two.
        sentence: The verdict as a sentence.
        reason: Why the groups are not comparable; None if they are.
        method: `paired t`, `Welch t`, or None where nothing can be estimated.
        pairs: The number of pairs of runs with the same seed.
        units: The number of independent samples. Paired: the seeds in both groups, each with the mean of its pairs, or with a
            single seed its pairs. Unpaired: the seeds of the smaller group.
        estimate: The estimated difference, not adjusted for other comparisons; None where it cannot be estimated.
        difference: The difference of the means; NaN without scores.
        p_adjusted: The p-value, adjusted by Holm's method if there are several comparisons.
        seeds_needed: By method, the seeds per group that would detect a true difference as large as this one with power 0.8.
        visible: The smallest true difference that these runs would have detected with power 0.8.
    """

    group: str
    against: str
    finding: Finding
    sentence: str = ""
    reason: str | None = None
    method: str | None = None
    pairs: int = 0
    units: int = 0
    estimate: Estimate | None = None
    difference: float = math.nan
    p_adjusted: float | None = None
    seeds_needed: Mapping[str, int | None] = field(default_factory=dict)
    visible: float | None = None


def judge(groups: Sequence[Group], metric: Metric, use: Use) -> list[Verdict]:
    """Judge each group but the first against the first. The verdicts have no sentences yet."""
    baseline, others = groups[0], groups[1:]
    level = statistics.LEVEL / max(len(others), 1)
    verdicts = [_estimated(baseline, group, use, level) for group in others]
    tested = [verdict for verdict in verdicts if verdict.finding == "no difference shown"]
    p_values = iter(statistics.holm([v.estimate.p for v in tested if v.estimate is not None]))
    return [
        _decided(replace(verdict, p_adjusted=next(p_values)), baseline, group, metric) if verdict in tested else verdict
        for verdict, group in zip(verdicts, others, strict=True)
    ]


def direction(difference: float, metric: Metric) -> Literal["better", "worse", "higher", "lower"]:
    """Return the word for a difference: `better` and `worse` only if the score's direction is known."""
    if not metric.is_certain:
        return "higher" if difference > 0 else "lower"
    return "better" if metric.is_better(difference, 0.0) else "worse"


def _diverged_share(group: Group) -> float:
    """Return the fraction of a group's runs that diverged."""
    return sum(member.has_diverged for member in group.members) / len(group.members)


def _estimated(first: Group, second: Group, use: Use, level: float) -> Verdict:
    """Estimate the difference of two groups, paired if they share at least three seeds."""
    a, b = first.counted, second.counted
    verdict = Verdict(second.label, first.label, "no scores")
    if not a or not b:
        return verdict
    by_block = {member.block: member for member in a if member.seed is not None}
    pairs = [(by_block[member.block], member) for member in b if member.block in by_block]
    verdict = replace(verdict, pairs=len(pairs), difference=second.mean - first.mean)
    if reason := _why_not_comparable(a, b, pairs, use, first.label):
        return replace(verdict, finding="not comparable", reason=reason)
    x, y = _scores_per_seed(pairs)
    is_paired = len(x) >= MIN_SEEDS or (len(x) == 2 and (len(pairs) > 2 or min(len(a), len(b)) == 2))
    if not is_paired and min(len(a), len(b)) < 2:
        is_same = len(pairs) == 1 and [p[:2] for p in pairs[0][0].history] == [p[:2] for p in pairs[0][1].history]
        return replace(verdict, finding="identical" if is_same else "too few runs")
    estimate = statistics.paired(x, y) if is_paired else statistics.unpaired(first.values, second.values)
    needed = {}
    if len(x) >= 2 and (spread := stdev(after - before for before, after in zip(x, y, strict=True))):
        needed["paired"] = statistics.seeds_to_see(estimate.difference, spread, level=level)
    if first.spread is not None and second.spread is not None and (first.spread or second.spread):
        needed["unpaired"] = statistics.seeds_to_see(estimate.difference, first.spread, second.spread, level=level)
    seeds = min(_count_seeds(a), _count_seeds(b), len(x) if is_paired else len(a))
    finding: Finding = "no difference shown"
    if not estimate.error:
        finding = "too few runs" if estimate.difference else "identical"
    elif seeds < MIN_SEEDS:
        finding = "too few runs"
    visible = statistics.visible_difference(estimate.error, estimate.freedom, level) if estimate.error else None
    return replace(
        verdict,
        difference=estimate.difference,
        finding=finding,
        method="paired t" if is_paired else "Welch t",
        units=len(x) if is_paired else seeds,
        estimate=estimate,
        p_adjusted=estimate.p,
        seeds_needed=needed,
        visible=visible,
    )


def _decided(verdict: Verdict, first: Group, second: Group, metric: Metric) -> Verdict:
    """Decide by the adjusted p-value. A group that diverged more often than the other one does not win."""
    assert verdict.p_adjusted is not None
    if verdict.p_adjusted >= statistics.LEVEL:
        return verdict
    word = direction(verdict.difference, metric)
    winner, loser = (second, first) if word in ("better", "higher") else (first, second)
    if _diverged_share(winner) > _diverged_share(loser):
        reason = f"{_diverged_share(winner):.0%} of the runs of `{winner.label}` diverged and do not count"
        return replace(verdict, finding="not comparable", reason=reason)
    return replace(verdict, finding=word)


def _scores_per_seed(pairs: Sequence[Pair]) -> tuple[list[float], list[float]]:
    """Return one pair of scores per seed: the mean of its pairs, which are not independent of each other.

    With a single seed, each pair is returned, as there is nothing else to compare.
    """
    by_seed: dict[Hashable, list[tuple[float, float]]] = defaultdict(list)
    for x, y in pairs:
        by_seed[key_of(x.seed)].append((x.value, y.value))
    found = [*by_seed.values()] if len(by_seed) > 1 else [[pair] for pairs in by_seed.values() for pair in pairs]
    return [fmean(x for x, _ in values) for values in found], [fmean(y for _, y in values) for values in found]


def _count_seeds(members: Sequence[Member]) -> int:
    """Count the different seeds; a run without one counts as a seed."""
    return len({key_of(m.seed) for m in members if m.seed is not None}) + sum(m.seed is None for m in members)


def _why_not_comparable(
    a: Sequence[Member], b: Sequence[Member], pairs: Sequence[Pair], use: Use, baseline: str
) -> str | None:
    """Say why the runs `b` cannot be compared with the runs `a` of the baseline; None if they can."""
    if _have_different_evaluation_data(a, b, pairs):
        return f"it was evaluated on different data than `{baseline}`"
    counts = [fmean(len(member.history) for member in group) for group in (a, b)]
    if use == "best" and max(counts) > _MORE_OFTEN * min(counts):
        return (
            f"the best of its {counts[1]:.0f} evaluations cannot be compared with the best of {counts[0]:.0f} of"
            f" `{baseline}`"
        )
    return None


def _have_different_evaluation_data(a: Sequence[Member], b: Sequence[Member], pairs: Sequence[Pair]) -> bool:
    """Whether the groups are known to be evaluated on different data. In pairs, a split may depend on the seed."""
    if pairs:
        both = [(data_key(x.run, "eval"), data_key(y.run, "eval")) for x, y in pairs]
        return any(x != y for x, y in both if x is not None and y is not None)
    known = [{data_key(member.run, "eval") for member in group} - {None} for group in (a, b)]
    return bool(known[0] and known[1] and known[0] != known[1])
