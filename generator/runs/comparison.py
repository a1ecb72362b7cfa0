"""Runs held against each other: what differs in settings, code and data, and whether the difference in scores is real."""

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, stdev
from typing import Any, Literal

from ..errors import UsageError, did_you_mean
from . import statistics
from .folder import FINISHED, RunFolder, common_names
from .scores import Metric, Point, Use, best_point, choose_metric, judged, points
from .statistics import Estimate
from .table import ABSENT, FIELDS, NO_VARIANT, Value, is_typed, order_of, plain, run_data, text_of, value_of

FEWEST = 3
"""Seeds of each group from which on there is a verdict: two have an interval, but one that says next to nothing."""

_MORE_OFTEN = 1.2  # times as many evaluations, of which the best is better for that reason alone
_MANY = 3  # verdicts that say nothing are one sentence from here on

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
"""`higher` and `lower` are differences of a score of which it is not known which way is better."""

_DECIDE_STEPS = {"epochs", "max_steps", "global_batch_size", "limit_batches", "patience"}


@dataclass(frozen=True)
class Member:
    """A run in a group.

    Attributes:
        run: The run.
        seed: Its setting `seed`; None without one.
        block: What it shares with the run that it is paired with: the seed, and other settings that vary within groups.
        history: All values of the score.
        point: What it came to; None if it has no value.
        best: The best of its values.
        left_out: Why it does not count in the verdict; None if it does.
    """

    run: RunFolder
    seed: Value
    block: Hashable
    history: Sequence[Point]
    point: Point | None
    best: Point | None
    left_out: str | None = None

    @property
    def value(self) -> float:
        return math.nan if self.point is None else self.point.value

    @property
    def has_diverged(self) -> bool:
        """Whether it does not count because its score, or its loss, was not finite."""
        return self.left_out is not None and (
            "not finite" in self.left_out or "NonFiniteError" in (self.run.reason or "")
        )


@dataclass(frozen=True)
class Group:
    """Runs of one variant.

    Attributes:
        label: What tells it apart: `learning_rate=0.002`, or the name of its only run.
        members: Its runs, by seed.
    """

    label: str
    members: Sequence[Member]

    @property
    def counted(self) -> list[Member]:
        return [member for member in self.members if member.left_out is None]

    @property
    def values(self) -> list[float]:
        return [member.value for member in self.counted]

    @property
    def mean(self) -> float:
        return fmean(self.values) if self.counted else math.nan

    @property
    def spread(self) -> float | None:
        """The standard deviation from run to run; None for fewer than two."""
        return stdev(self.values) if len(self.counted) > 1 else None


@dataclass(frozen=True)
class Verdict:
    """Whether a group is better than the one it is held against.

    Attributes:
        group, against: The labels.
        finding: In a word.
        sentence: In words.
        method: `paired t`, `Welch t`, or None where nothing can be estimated.
        pairs: How many pairs of runs of the same seed there are.
        units: What is counted: the seeds of each group; in pairs those that are shared, each with the mean of its pairs, or of
            one seed alone its pairs.
        estimate: The difference, not yet adjusted for other comparisons; None where it cannot be estimated.
        difference: Of the means; NaN without scores.
        p_adjusted: By Holm's method, where there are several comparisons; else `estimate.p`.
        seeds_needed: For each group, to see a true difference as large as this one with power 0.8, by method.
        visible: The smallest true difference that these runs would have shown with power 0.8.
    """

    group: str
    against: str
    finding: Finding
    sentence: str = ""
    method: str | None = None
    pairs: int = 0
    units: int = 0
    estimate: Estimate | None = None
    difference: float = math.nan
    p_adjusted: float | None = None
    seeds_needed: Mapping[str, int | None] = field(default_factory=dict)
    visible: float | None = None


@dataclass(frozen=True)
class Comparison:
    """Groups of runs, the first of which the others are held against.

    Attributes:
        metric: The score; None if no run has any.
        use: By what of it a run is judged.
        groups: The variants, the baseline first.
        verdicts: One for each group but the first.
        summary: All verdicts in one sentence, where there are many and none says anything; else None.
        cautions: What may mislead.
        settings: Those that differ: by name, the value of each group, or of several in it.
        code: Files that differ from the baseline's code, by the label of the group; None where they are not known.
    """

    metric: Metric | None
    use: Use
    groups: Sequence[Group]
    verdicts: Sequence[Verdict]
    summary: str | None
    cautions: Sequence[str]
    settings: Mapping[str, Sequence[Sequence[Value]]]
    code: Mapping[str, Sequence[str] | None]

    @property
    def runs(self) -> list[RunFolder]:
        return [member.run for group in self.groups for member in group.members]


def compare(
    runs: Sequence[RunFolder],
    *,
    by: Sequence[str] = (),
    against: str | None = None,
    metric: Metric | None = None,
    use: Use = "final",
    last: int = 3,
    step: int | None = None,
) -> Comparison:
    """Hold groups of runs against each other.

    Args:
        runs: The runs; one that is given twice counts once.
        by: The fields whose values make the groups. None: all settings but the seed, the code and the training data.
        against: The label of the group that the others are held against, a value of it, or a run in it. None: the first,
            which has the smallest values of `by`, or the first run.
        metric: The score. None: by which the runs chose their best weights, else the loss.
        use: By what of it a run is judged.
        last: How many evaluations there are in a mean.
        step: The step at which they are compared. None: where each ended.

    Raises:
        UsageError: No run has a field, or no group is called so.
    """
    given, runs = runs, list({run.path.resolve(): run for run in runs}.values())
    by = [_known(runs, name) for name in by]
    metric = metric or choose_metric(runs)
    parts = _parts(runs, by)
    if not by and len(parts) == 1 and not _varies(runs, "seed"):
        parts = [[run] for run in runs]  # repeats of one run, side by side
    varying = [name for name in common_names(runs) if name not in NO_VARIANT | {"seed"} and _varies(runs, name)]
    inside = [
        name
        for name in varying
        if name not in by and any(len({_key(value_of(run, name)) for run in part}) > 1 for part in parts)
    ]
    single = all(len(part) == 1 for part in parts)
    groups = [
        Group(_label(part, parts, by, varying), _members(part, inside, metric, use, last, step, single))
        for part in parts
    ]
    groups = _first(groups, against, by or varying)
    level = statistics.LEVEL / max(len(groups) - 1, 1)
    verdicts = [] if metric is None else [_judge(groups[0], group, use, level) for group in groups[1:]]
    adjusted = _adjusted(verdicts)
    cautions = _cautions(groups, metric, use, by, inside, step)
    if len(runs) == 1 < len(given):
        cautions.append(f"`{runs[0].name}` was given more than once, and counts once")
    if metric is not None:
        adjusted = [_in_words(verdict, metric, groups, len(verdicts)) for verdict in adjusted]
    return Comparison(
        metric=metric,
        use=use,
        groups=groups,
        verdicts=adjusted,
        summary=_summary(groups, adjusted, metric),
        cautions=cautions,
        settings={name: [_values(group, name) for group in groups] for name in [*varying, *_seeds_vary(runs)]},
        code={group.label: changed_files(groups[0].members[0].run, group.members[0].run) for group in groups[1:]},
    )


def _known(runs: Sequence[RunFolder], name: str) -> str:
    """The name of a field that some run has.

    Raises:
        UsageError: None has it.
    """
    for spelled in (name, name.replace("-", "_")):
        if spelled == "code" or any(value_of(run, spelled) is not ABSENT for run in runs):
            return spelled
    names = [*common_names(runs), *FIELDS, "code"]
    raise UsageError(
        f"No run has a field `{name}` to group by{did_you_mean(name, names) or '.'} There are "
        f"{', '.join(dict.fromkeys(names))}"
    )


def _key(value: Value) -> Hashable:
    """What is the same for values that are; 1 and 1.0 are, 1 and True are not."""
    return (isinstance(value, bool), text_of(float(value) if type(value) is int and abs(value) < 2**53 else value))


def code_of(run: RunFolder) -> Hashable:
    """What tells the code of a run from other code: the hashes of its files, or its git commit where there are none."""
    files = _files(run)
    return (run.git_commit, run.dirty) if files is None else tuple(sorted(files.items()))


def _files(run: RunFolder) -> Mapping[str, str] | None:
    code = run.environment.get("code")
    files = code.get("files") if isinstance(code, Mapping) else None
    return files if isinstance(files, Mapping) else None


def changed_files(first: RunFolder, second: RunFolder) -> list[str] | None:
    """The source files that differ between two runs; None where a run has not recorded them."""
    before, after = _files(first), _files(second)
    if before is None or after is None:
        is_same = first.git_commit is not None and first.git_commit == second.git_commit
        return [] if is_same and not first.dirty and not second.dirty else None
    return sorted(name for name in {*before, *after} if before.get(name) != after.get(name))


def data_of(run: RunFolder, use: str) -> Hashable:
    """The number of samples and the hash of each loader's data for training or evaluation; None where not recorded."""
    loaders = (run.data or {}).get(use)
    if not isinstance(loaders, Mapping) or not loaders:
        return None
    found = [about if isinstance(about, Mapping) else {} for about in loaders.values()]
    return tuple((str(about.get("samples")), str(about.get("content"))) for about in found)


def _parts(runs: Sequence[RunFolder], by: Sequence[str]) -> list[list[RunFolder]]:
    parts: dict[Hashable, list[RunFolder]] = defaultdict(list)
    names = [name for name in common_names(runs) if name not in NO_VARIANT | {"seed"}]
    for run in runs:
        if by:
            key: Hashable = tuple(code_of(run) if name == "code" else _key(value_of(run, name)) for name in by)
        else:
            key = (tuple(_key(value_of(run, name)) for name in names), code_of(run), data_of(run, "train"))
        parts[key].append(run)
    found = list(parts.values())
    if by and "code" not in by:
        found.sort(key=lambda part: [order_of(value_of(part[0], name)) for name in by])
    return found


def _varies(runs: Sequence[RunFolder], name: str) -> bool:
    return len({_key(value_of(run, name)) for run in runs}) > 1


def _seeds_vary(runs: Sequence[RunFolder]) -> list[str]:
    return ["seed"] if _varies(runs, "seed") else []


def _label(
    part: Sequence[RunFolder], parts: Sequence[Sequence[RunFolder]], by: Sequence[str], varying: Sequence[str]
) -> str:
    """What tells a group from the others, in few words."""
    if not by and all(len(part) == 1 for part in parts):
        return part[0].name
    names = by or [name for name in varying if len({_key(value_of(other[0], name)) for other in parts}) > 1]
    words = [f"{name}={text_of(value_of(part[0], name))}" for name in names if name != "code"]
    own = [code_of(other[0]) for other in parts].index(code_of(part[0]))
    if len({code_of(other[0]) for other in parts}) > 1 and (not by or "code" in by):
        commit = FIELDS["commit"](part[0])
        words.append(f"code of {part[0].name}" if commit is None else f"code {commit} ({part[0].name})")
    if not words and own == 0 and len(parts) > 1:
        words.append(part[0].name)
    return " ".join(words) or "all runs"


def _members(
    part: Sequence[RunFolder],
    inside: Sequence[str],
    metric: Metric | None,
    use: Use,
    last: int,
    step: int | None,
    single: bool,
) -> list[Member]:
    found = []
    for run in part:
        history = [] if metric is None else _history(run, metric.name)
        point = None if metric is None else judged(history, metric, use, last, step)
        best = None if metric is None else best_point(history, metric)
        block = tuple(_key(value_of(run, name)) for name in ("seed", *inside))
        seed = value_of(run, "seed")
        member = Member(run, None if seed is ABSENT else seed, block, history, point, best)
        found.append(replace(member, left_out=_left_out(member, metric, step, single)))
    found.sort(key=lambda member: (order_of(member.seed), member.run.started))
    # of several runs of one seed, the newest counts
    newest = {member.block: member for member in found if member.left_out is None}
    return [
        (
            replace(member, left_out=f"the newer `{newest[member.block].run.name}` is of the same seed")
            if member.left_out is None and member.seed is not None and newest[member.block] is not member
            else member
        )
        for member in found
    ]


def _history(run: RunFolder, name: str) -> list[Point]:
    try:
        return points(run.rows(name), name)
    except OSError:  # said in `damaged`, where it matters
        return []


def _left_out(member: Member, metric: Metric | None, step: int | None, single: bool) -> str | None:
    run, point = member.run, member.point
    if metric is None or point is None:
        return f"it has no `{metric.name}`" if metric else "it has no scores"
    if step is not None and member.history[-1].step < step:
        return f"it has no `{metric.name}` of step {step:,} yet: the last is of step {member.history[-1].step:,}"
    if not math.isfinite(point.value):
        return f"its `{metric.name}` is not finite at step {point.step:,}"
    if run.state != FINISHED and step is None and not single:
        return f"it is {run.state} at step {run.step:,}" if run.state != "unknown" else "it has no status"
    return None


def _first(groups: list[Group], against: str | None, names: Sequence[str]) -> list[Group]:
    """The groups with the baseline first.

    Raises:
        UsageError: None is called so.
    """
    if against is None or not groups:
        return groups
    wanted = against.rstrip("/")
    field, has_field, value = wanted.partition("=")
    for group in groups:
        runs = [member.run for member in group.members]
        called = {group.label, *(name for run in runs for name in (run.name, str(run.path), run.path.name))}
        values = [value_of(runs[0], name) for name in names if not has_field or name == field.replace("-", "_")]
        if wanted in called or any(is_typed(known, value if has_field else wanted) for known in values):
            return [group, *(other for other in groups if other is not group)]
    labels = [group.label for group in groups]
    raise UsageError(
        f"No group or run is called `{against}`{did_you_mean(against, labels) or '.'} There are {', '.join(labels)}"
    )


def _judge(first: Group, second: Group, use: Use, level: float) -> Verdict:
    """Estimate the difference of two groups, by pairs where at least three seeds are shared."""
    a, b = first.counted, second.counted
    verdict = Verdict(second.label, first.label, "no scores")
    if not a or not b:
        return verdict
    by_block = {member.block: member for member in a if member.seed is not None}
    pairs = [(by_block[member.block], member) for member in b if member.block in by_block]
    verdict = replace(verdict, pairs=len(pairs), difference=second.mean - first.mean)
    if why := _not_comparable(a, b, pairs, use, f"`{first.label}`"):
        return replace(verdict, finding="not comparable", sentence=f"No verdict on `{second.label}`: {why}")
    x, y = _units(pairs)
    is_paired = len(x) >= FEWEST or (len(x) == 2 and (len(pairs) > 2 or min(len(a), len(b)) == 2))
    if not is_paired and min(len(a), len(b)) < 2:
        is_same = len(pairs) == 1 and [p[:2] for p in pairs[0][0].history] == [p[:2] for p in pairs[0][1].history]
        return replace(verdict, finding="identical" if is_same else "too few runs")
    estimate = statistics.paired(x, y) if is_paired else statistics.unpaired(first.values, second.values)
    needed = {}
    if len(x) >= 2 and (spread := stdev(after - before for before, after in zip(x, y, strict=True))):
        needed["paired"] = statistics.seeds_to_see(estimate.difference, spread, level=level)
    if first.spread is not None and second.spread is not None and (first.spread or second.spread):
        needed["unpaired"] = statistics.seeds_to_see(estimate.difference, first.spread, second.spread, level=level)
    count = min(_count_seeds(a), _count_seeds(b), len(x) if is_paired else len(a))
    finding: Finding = "no difference shown"
    if not estimate.error:
        finding = "too few runs" if estimate.difference else "identical"
    elif count < FEWEST:
        finding = "too few runs"
    visible = statistics.visible_difference(estimate.error, estimate.freedom, level) if estimate.error else None
    return replace(
        verdict,
        difference=estimate.difference,
        finding=finding,
        method="paired t" if is_paired else "Welch t",
        units=len(x) if is_paired else count,
        estimate=estimate,
        p_adjusted=estimate.p,
        seeds_needed=needed,
        visible=visible,
    )


def _units(pairs: Sequence[tuple[Member, Member]]) -> tuple[list[float], list[float]]:
    """The scores of pairs: of each seed one, the mean where it has several pairs, as these are not independent.

    Of a single seed each pair is one, as there is nothing else to compare.
    """
    by_seed: dict[Hashable, list[tuple[float, float]]] = defaultdict(list)
    for x, y in pairs:
        by_seed[_key(x.seed)].append((x.value, y.value))
    found = [*by_seed.values()] if len(by_seed) > 1 else [[pair] for pairs in by_seed.values() for pair in pairs]
    return [fmean(x for x, _ in values) for values in found], [fmean(y for _, y in values) for values in found]


def _count_seeds(members: Sequence[Member]) -> int:
    """The seeds of runs, each once; runs without one are of as many."""
    return len({_key(m.seed) for m in members if m.seed is not None}) + sum(m.seed is None for m in members)


def _not_comparable(
    a: Sequence[Member], b: Sequence[Member], pairs: Sequence[tuple[Member, Member]], use: Use, first: str
) -> str | None:
    """Why the runs `b` cannot be compared with the runs `a` of the group `first`; None if they can."""
    if _evaluated_otherwise(a, b, pairs):
        return f"it was evaluated on other data than {first}"
    often = [fmean(len(member.history) for member in group) for group in (a, b)]
    if use == "best" and max(often) > _MORE_OFTEN * min(often):
        return f"its best of {often[1]:.0f} evaluations says nothing beside the best of {often[0]:.0f} of {first}"
    return None


def _evaluated_otherwise(a: Sequence[Member], b: Sequence[Member], pairs: Sequence[tuple[Member, Member]]) -> bool:
    """Whether two groups are known to be evaluated on other data; a split that depends on the seed is none in a pair."""
    if pairs:
        both = [(data_of(x.run, "eval"), data_of(y.run, "eval")) for x, y in pairs]
        return any(x != y for x, y in both if x is not None and y is not None)
    known = [{data_of(member.run, "eval") for member in group} - {None} for group in (a, b)]
    return bool(known[0] and known[1] and known[0] != known[1])


def _adjusted(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Adjust the chances by Holm's method, over the comparisons that could show something."""
    open_ = [verdict for verdict in verdicts if verdict.finding == "no difference shown"]
    chances = iter(statistics.holm([v.estimate.p for v in open_ if v.estimate is not None]))
    return [replace(v, p_adjusted=next(chances)) if v in open_ else v for v in verdicts]


def _in_words(verdict: Verdict, metric: Metric, groups: Sequence[Group], comparisons: int) -> Verdict:
    """Add the finding and the sentence."""
    estimate, tell = verdict.estimate, _Tell(metric, groups[0].mean)
    b, a = f"`{verdict.group}`", f"`{verdict.against}`"
    word = _word(verdict.difference, metric)
    first = next(group for group in groups if group.label == verdict.against)
    second = next(group for group in groups if group.label == verdict.group)
    if verdict.finding == "no scores":
        which = " and ".join(f"`{group.label}`" for group in (first, second) if not group.counted)
        return replace(verdict, sentence=f"No verdict on {b}: no run of {which} counts")
    if verdict.finding == "not comparable":
        return verdict
    if estimate is None and verdict.finding == "identical":
        return replace(verdict, sentence=f"{b} and {a} have the same scores, in all evaluations of one run each")
    if estimate is None:
        text = (
            f"{b} is {word} than {a} by {tell.plain(verdict.difference)}" if verdict.difference else f"{b} equals {a}"
        )
        counts = sorted({len(first.counted), len(second.counted)})
        runs = "one run each" if counts == [1] else f"{' and '.join(map(str, counts))} runs"
        return replace(
            verdict,
            sentence=f"{text} in {runs}, which is no evidence: run each with at least {FEWEST} seeds to see how much of it is chance",
        )
    alone = len(first.counted) + len(second.counted) - 2 * verdict.pairs
    if verdict.method != "paired t":
        over = f"unpaired, {len(second.counted)} and {len(first.counted)} runs"
    else:
        one_seed = len({_key(member.seed) for group in (first, second) for member in group.counted}) == 1
        over = f"paired over {_count(verdict.units, 'seed')}" if not one_seed else f"{verdict.units} pairs of one seed"
        over += f", {verdict.pairs} pairs" if verdict.pairs > verdict.units else ""
        over += f", {_count(alone, 'run')} without a partner" if alone else ""
    if verdict.finding == "identical":
        return replace(verdict, sentence=f"{b} and {a} have the same scores, {over}")
    if not estimate.error:
        text = f"{b} is {word} than {a} by exactly {tell.plain(verdict.difference)} each time, {over}: that leaves no spread"
        return replace(verdict, sentence=f"{text} to judge by, so add seeds")
    amount = tell.interval(estimate)
    if verdict.finding == "too few runs":
        text = (
            f"{b} is {word} than {a} by {amount} ({over}): too few for a verdict, run at least {FEWEST} seeds of each"
        )
        return replace(verdict, sentence=text)
    adjusted = verdict.p_adjusted if verdict.p_adjusted is not None else estimate.p
    chance = f"p {_chance(adjusted)}" + (f", adjusted for {comparisons} comparisons" if comparisons > 1 else "")
    if adjusted < statistics.LEVEL:
        text = f"{b} is {word} than {a} by {amount} ({over}, {chance})"
        gains, lost = (second, first) if word in ("better", "higher") else (first, second)
        if (share := _share_diverged(gains)) > _share_diverged(lost):
            text = (
                f"No verdict on {b}: {text[:-1]} without the {share:.0%} of the runs of `{gains.label}` that diverged)"
            )
            return replace(verdict, finding="not comparable", sentence=text)
        return replace(verdict, finding=word, sentence=text)
    count = _count(verdict.units, "seed")
    text = f"No difference between {b} and {a} that {count} can show: {tell.signed(estimate)} ({over}, {chance})"
    if verdict.visible is not None:
        text += f". They would show one of {tell.plain(verdict.visible)}"
    needed = verdict.seeds_needed.get("paired" if verdict.method == "paired t" else "unpaired")
    if needed is not None:
        text += f"; to see one of {tell.plain(verdict.difference)} takes about {needed:,} seeds"
    return replace(verdict, sentence=text)


def _word(difference: float, metric: Metric) -> Literal["better", "worse", "higher", "lower"]:
    if not metric.is_certain:
        return "higher" if difference > 0 else "lower"
    return "better" if metric.is_better(difference, 0.0) else "worse"


def _share_diverged(group: Group) -> float:
    return sum(member.has_diverged for member in group.members) / len(group.members)


def _summary(groups: Sequence[Group], verdicts: Sequence[Verdict], metric: Metric | None) -> str | None:
    if metric is None:
        return "No verdict: none of these runs has a score" if len(groups) > 1 else None
    if len(verdicts) <= _MANY or any(verdict.finding != "too few runs" for verdict in verdicts):
        return None
    start = f"No verdict on {len(groups)} variants with too few runs of each"
    if not metric.is_certain:
        return start
    sign = 1 if metric.mode == "min" else -1
    best = min((group for group in groups if group.counted), key=lambda group: sign * group.mean)
    return (
        f"{start}. `{best.label}` looks best, but the best of so many looks better than it is: run it, and what it is held "
        f"against, with at least {FEWEST} new seeds"
    )


class _Tell:
    """Tells differences of a score in words: in points where it is a share, else also relative to the baseline."""

    def __init__(self, metric: Metric, baseline: float) -> None:
        self._is_share = metric.in_points and 0 <= baseline <= 1
        self._scale, self._unit = (100.0, " points") if self._is_share else (1.0, "")
        self._baseline = baseline

    def plain(self, difference: float) -> str:
        return f"{_short(abs(difference) * self._scale)}{self._unit}{self._relative(difference)}"

    def interval(self, estimate: Estimate, sign: str = "") -> str:
        reach = (estimate.high - estimate.low) / 2 * self._scale
        digits = _digits(reach)
        size = abs(estimate.difference) * self._scale
        return f"{sign}{size:.{digits}f} ± {reach:.{digits}f}{self._unit}{self._relative(estimate.difference)}"

    def signed(self, estimate: Estimate) -> str:
        return self.interval(estimate, "+" if estimate.difference >= 0 else "-")

    def _relative(self, difference: float) -> str:
        if self._is_share or not self._baseline:
            return ""
        return f" ({_short(100 * abs(difference / self._baseline))} %)"


def _digits(reach: float) -> int:
    """Decimals that leave two digits of an interval: more would say what is not known."""
    return max(0, 1 - math.floor(math.log10(reach))) if reach > 0 else 4


def _short(value: float) -> str:
    if not value:
        return "0"
    return f"{value:.{max(0, 1 - math.floor(math.log10(abs(value))))}f}"


def _chance(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.2g}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _values(group: Group, name: str) -> list[Value]:
    """The values of a setting in a group, each once."""
    values = [value_of(member.run, name) for member in group.members]
    return list({_key(value): value for value in reversed(values)}.values())[::-1]


def _cautions(
    groups: Sequence[Group], metric: Metric | None, use: Use, by: Sequence[str], inside: Sequence[str], step: int | None
) -> list[str]:
    """What may mislead about these runs."""
    found: list[str] = []
    members = [member for group in groups for member in group.members]
    counted = [member for member in members if member.left_out is None]
    runs = [member.run for member in members]
    found += _unequal_repeats(members, metric)
    for group in groups:
        for reason, names in _left_out_by_reason(group).items():
            found.append(f"left out of `{group.label}`: {', '.join(names)}: {reason}")
        if group.counted and any(member.has_diverged for member in group.members):
            found.append(
                f"`{group.label}` is judged by the {len(group.counted)} of its runs that did not diverge, which flatters it"
            )
    unfinished = [m for m in counted if m.run.state != FINISHED]
    if unfinished and step is None:
        found.append(f"not finished: {', '.join(f'{m.run.name} ({m.run.state})' for m in unfinished[:5])}")
    found += _step_cautions(groups, counted, step)
    if metric is not None and not metric.is_certain and len(groups) > 1:
        found.append(
            f"whether a smaller or a larger `{metric.name}` is better is not certain from its name and what the runs recorded:"
            " pass `--mode min` or `--mode max` to `paccel compare`"
        )
    if metric is not None and metric.section == "train":
        found.append(f"`{metric.name}` is measured on training data, while the weights change: an evaluation says more")
    if use == "best" and counted:
        numbers = sorted({len(member.history) for member in counted})
        among = f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
        text = f"each run is judged by the best of its {among} evaluations: that is higher than what it will reach on new data"
        text = text.replace("higher", "better") + (", more so with more evaluations" if len(numbers) > 1 else "")
        found.append(text)
    if inside:
        found.append(
            f"within groups, {', '.join(f'`{name}`' for name in inside)} {'differs' if len(inside) == 1 else 'differ'} too"
        )
    if by:
        other = [
            name
            for name in common_names(runs)
            if name not in {*by, *inside, *NO_VARIANT, "seed"}
            and len({_key(value_of(group.members[0].run, name)) for group in groups}) > 1
        ]
        if other:
            found.append(f"the groups differ in {', '.join(f'`{name}`' for name in other)} too")
    found += _environment_cautions(groups, runs)
    return found


def _left_out_by_reason(group: Group) -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = defaultdict(list)
    for member in group.members:
        if member.left_out is not None:
            reasons[member.left_out].append(member.run.name)
    return reasons


def _unequal_repeats(members: Sequence[Member], metric: Metric | None) -> Iterable[str]:
    """Runs of the same settings, code and seed, which should be the same to the bit, and are not."""
    names = [name for name in common_names([m.run for m in members]) if name not in NO_VARIANT]
    repeats: dict[Hashable, list[Member]] = defaultdict(list)
    for member in members:
        if member.seed is not None and member.point is not None and member.run.state == FINISHED:
            settings = tuple(_key(value_of(member.run, name)) for name in names)
            repeats[settings, code_of(member.run), member.run.environment.get("num_processes")].append(member)
    for same in repeats.values():
        if metric is not None and len({(m.point.step, _key(m.value)) for m in same if m.point is not None}) > 1:
            values = " and ".join(f"{m.value:.6g}" for m in same[:3])
            named = ", ".join(f"`{m.run.name}`" for m in same[:3])
            yield f"the same seed, settings and code had different {metric.name} ({named}: {values}): not repeatable"


def _step_cautions(groups: Sequence[Group], counted: Sequence[Member], step: int | None) -> Iterable[str]:
    ends = sorted({member.point.step for member in counted if member.point is not None})
    if len(ends) > 1:
        text = f"the runs are compared at different steps, {ends[0]:,} to {ends[-1]:,}"
        yield text + (f": `--step {ends[0]}` compares them at the same one" if step is None else "")
    limits = {_key(value_of(member.run, "limit_batches")) for member in counted}
    if len(limits) > 1:
        yield "`limit_batches` differs, so evaluations may not have seen the same samples"


def _environment_cautions(groups: Sequence[Group], runs: Sequence[RunFolder]) -> Iterable[str]:
    for package in dict.fromkeys(name for run in runs for name in run.versions):
        versions = list(dict.fromkeys(run.versions[package] for run in runs if package in run.versions))
        if len(versions) > 1:
            yield f"different versions of {package}: {', '.join(versions)}"
    for name in ("precision", "num_processes", "gpu", "threads"):
        values = list(dict.fromkeys(text_of(run.environment.get(name, ABSENT)) for run in runs))
        if len(values) > 1:
            yield f"different {name}: {', '.join(values)}"
    if any(len({code_of(member.run) for member in group.members}) > 1 for group in groups):
        yield "runs of one group have different code"
    elif any(run.dirty and _files(run) is None for run in runs) and len(runs) > 1:
        yield "some runs had uncommitted changes that are not recorded (an older runtime): their code may differ"
    unknown = []
    for use, what in (("eval", "evaluation"), ("train", "training")):
        known = {data_of(run, use) for run in runs}
        if len(known - {None}) > 1:
            yield f"different {what} data, or other numbers of samples"
        elif None in known and len(runs) > 1:
            unknown.append(what)
    if unknown:
        yield f"some runs do not record their {' and '.join(unknown)} data (an older runtime), so it may differ"


def comparison_data(comparison: Comparison) -> dict[str, Any]:
    """A comparison for `--json`; `docs/experiments.md` has what the names mean."""
    metric = comparison.metric
    return {
        "metric": None if metric is None else metric._asdict(),
        "use": comparison.use,
        "level": statistics.LEVEL,
        "groups": [_group_data(group) for group in comparison.groups],
        "verdicts": [_verdict_data(verdict) for verdict in comparison.verdicts],
        "summary": comparison.summary,
        "cautions": list(comparison.cautions),
        "settings": {
            name: {
                group.label: [plain(value) for value in values]
                for group, values in zip(comparison.groups, columns, strict=True)
            }
            for name, columns in comparison.settings.items()
        },
        "code": {label: None if files is None else list(files) for label, files in comparison.code.items()},
    }


def _group_data(group: Group) -> dict[str, Any]:
    return {
        "label": group.label,
        "count": len(group.counted),
        "mean": plain(group.mean),
        "spread": group.spread,
        "runs": [
            run_data(member.run)
            | {
                "seed": member.seed,
                "value": plain(member.value),
                "at_step": None if member.point is None else member.point.step,
                "best": None if member.best is None else {"value": member.best.value, "step": member.best.step},
                "evaluations": len(member.history),
                "left_out": member.left_out,
            }
            for member in group.members
        ],
    }


def _verdict_data(verdict: Verdict) -> dict[str, Any]:
    estimate = verdict.estimate
    return {
        "group": verdict.group,
        "against": verdict.against,
        "finding": verdict.finding,
        "sentence": verdict.sentence,
        "method": verdict.method,
        "pairs": verdict.pairs,
        "difference": plain(verdict.difference),
        "interval": None if estimate is None or not estimate.error else [estimate.low, estimate.high],
        "p": None if estimate is None else estimate.p,
        "p_adjusted": verdict.p_adjusted,
        "seeds_needed": dict(verdict.seeds_needed),
        "visible_difference": verdict.visible,
    }
