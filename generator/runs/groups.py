"""Group runs by variant. Each run is a member with its seed, its scores, and whether it counts."""

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import NamedTuple

from ..errors import UsageError, did_you_mean
from .fields import (
    ABSENT,
    FIELDS,
    NOT_COMPARED,
    Value,
    key_of,
    matches,
    order_of,
    setting_names,
    text_of,
    unknown_field,
    value_of,
)
from .folder import RunFolder
from .inputs import code_key, data_key
from .scores import Metric, Point, Use, best_point, judged, points
from .state import FINISHED


class Scoring(NamedTuple):
    """How the score of a run is computed.

    Attributes:
        metric: The score; None if no run has any.
        use: Whether the last value, the mean of the last ones, or the best one counts.
        last: How many values are averaged for `mean`.
        step: The step at which runs are compared; None: each at its end.
    """

    metric: Metric | None
    use: Use = "final"
    last: int = 3
    step: int | None = None


@dataclass(frozen=True)
class Member:
    """A run in a group.

    Attributes:
        run: The run.
        seed: Its setting `seed`; None without one.
        block: What it shares with the run that it is paired with: the seed, and other settings that vary within groups.
        history: All values of the score.
        point: The value by which the run is judged; None if it has none.
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
    """The runs of one variant.

    Attributes:
        label: What distinguishes the variant: `learning_rate=0.002`, or the name of its only run.
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
        """The standard deviation from run to run; None for fewer than two runs."""
        return stdev(self.values) if len(self.counted) > 1 else None


class Grouping(NamedTuple):
    """Runs in groups.

    Attributes:
        groups: The variants, the baseline first.
        by: The fields whose values make the groups. None: all settings but the seed, the code and the training data.
        varying: The settings that differ between runs, apart from the seed.
        within: Those that differ within a group, although the groups are not made by them.
    """

    groups: Sequence[Group]
    by: Sequence[str]
    varying: Sequence[str]
    within: Sequence[str]


def group_runs(runs: Sequence[RunFolder], by: Sequence[str], against: str | None, scoring: Scoring) -> Grouping:
    """Group runs by variant.

    Args:
        runs: The runs, each once.
        by: The fields whose values make the groups. None: all settings but the seed, the code and the training data.
        against: The baseline: the label of a group, a value of it, or a run in it. None: the first group.
        scoring: How the score of a run is computed.

    Raises:
        UsageError: No run has a field of `by`, or no group is called `against`.
    """
    by = [_known_field(runs, name) for name in by]
    parts = _partition(runs, by)
    if not by and len(parts) == 1 and not varies(runs, "seed"):
        parts = [[run] for run in runs]  # repeats of one run, side by side
    varying = [name for name in setting_names(runs) if name not in NOT_COMPARED | {"seed"} and varies(runs, name)]
    within = [name for name in varying if name not in by and any(varies(part, name) for part in parts)]
    are_single = all(len(part) == 1 for part in parts)
    groups = [
        Group(
            part[0].name if are_single and not by else _label(part[0], [other[0] for other in parts], by, varying),
            _members(part, within, scoring, are_single),
        )
        for part in parts
    ]
    if against is not None and groups:
        baseline = _find_group(groups, against, by or varying)
        groups = [baseline, *(group for group in groups if group is not baseline)]
    return Grouping(groups, by, varying, within)


def varies(runs: Sequence[RunFolder], name: str) -> bool:
    """Whether a field differs between runs."""
    return len({key_of(value_of(run, name)) for run in runs}) > 1


def _known_field(runs: Sequence[RunFolder], name: str) -> str:
    for spelled in (name, name.replace("-", "_")):
        if spelled == "code" or any(value_of(run, spelled) is not ABSENT for run in runs):
            return spelled
    raise unknown_field(runs, name, ["code"])


def _partition(runs: Sequence[RunFolder], by: Sequence[str]) -> list[list[RunFolder]]:
    parts: dict[Hashable, list[RunFolder]] = defaultdict(list)
    names = [name for name in setting_names(runs) if name not in NOT_COMPARED | {"seed"}]
    for run in runs:
        if by:
            key: Hashable = tuple(code_key(run) if name == "code" else key_of(value_of(run, name)) for name in by)
        else:
            key = (tuple(key_of(value_of(run, name)) for name in names), code_key(run), data_key(run, "train"))
        parts[key].append(run)
    found = list(parts.values())
    if by and "code" not in by:
        found.sort(key=lambda part: [order_of(value_of(part[0], name)) for name in by])
    return found


def _label(run: RunFolder, firsts: Sequence[RunFolder], by: Sequence[str], varying: Sequence[str]) -> str:
    """Say in few words what distinguishes a group from the others.

    Args:
        run: The first run of the group.
        firsts: The first run of each group.
        by: The fields whose values make the groups, if any.
        varying: The settings that differ between runs.
    """
    names = by or [name for name in varying if varies(firsts, name)]
    words = [f"{name}={text_of(value_of(run, name))}" for name in names if name != "code"]
    codes = [code_key(first) for first in firsts]
    if len({*codes}) > 1 and (not by or "code" in by):
        commit = FIELDS["commit"](run)
        words.append(f"code of {run.name}" if commit is None else f"code {commit} ({run.name})")
    if not words and code_key(run) == codes[0] and len(firsts) > 1:
        words.append(run.name)
    return " ".join(words) or "all runs"


def _members(part: Sequence[RunFolder], within: Sequence[str], scoring: Scoring, are_single: bool) -> list[Member]:
    metric = scoring.metric
    found = []
    for run in part:
        history = [] if metric is None else _history(run, metric.name)
        point = None if metric is None else judged(history, metric, scoring.use, scoring.last, scoring.step)
        best = None if metric is None else best_point(history, metric)
        block = tuple(key_of(value_of(run, name)) for name in ("seed", *within))
        seed = value_of(run, "seed")
        member = Member(run, None if seed is ABSENT else seed, block, history, point, best)
        found.append(replace(member, left_out=_left_out(member, scoring, are_single)))
    found.sort(key=lambda member: (order_of(member.seed), member.run.started))
    # Of several runs with one seed, the newest counts.
    newest = {member.block: member for member in found if member.left_out is None}
    return [
        (
            replace(member, left_out=f"the newer `{newest[member.block].run.name}` has the same seed")
            if member.left_out is None and member.seed is not None and newest[member.block] is not member
            else member
        )
        for member in found
    ]


def _history(run: RunFolder, name: str) -> list[Point]:
    try:
        return points(run.rows(name), name)
    except OSError:  # reported in `damaged`
        return []


def _left_out(member: Member, scoring: Scoring, are_single: bool) -> str | None:
    """Say why a run does not count; None if it does. A run that has not finished counts where every run is a group."""
    run, point, metric, step = member.run, member.point, scoring.metric, scoring.step
    if metric is None or point is None:
        return f"it has no `{metric.name}`" if metric else "it has no scores"
    if step is not None and member.history[-1].step < step:
        return f"it has no `{metric.name}` at step {step:,} yet: its last one is at step {member.history[-1].step:,}"
    if not math.isfinite(point.value):
        return f"its `{metric.name}` is not finite at step {point.step:,}"
    if run.state != FINISHED and step is None and not are_single:
        return f"it is {run.state} at step {run.step:,}" if run.state != "unknown" else "it has no status"
    return None


def _find_group(groups: Sequence[Group], name: str, fields: Sequence[str]) -> Group:
    """Find a group by its label, by a run in it, or by the value of one of `fields`, as `0.002` or `learning_rate=0.002`.

    Raises:
        UsageError: There is none.
    """
    wanted = name.rstrip("/")
    field, has_field, value = wanted.partition("=")
    for group in groups:
        runs = [member.run for member in group.members]
        names = {group.label, *(name for run in runs for name in (run.name, str(run.path), run.path.name))}
        values = [value_of(runs[0], known) for known in fields if not has_field or known == field.replace("-", "_")]
        if wanted in names or any(matches(known, value if has_field else wanted) for known in values):
            return group
    labels = [group.label for group in groups]
    raise UsageError(
        f"No group or run is called `{name}`{did_you_mean(name, labels) or '.'} There are {', '.join(labels)}"
    )
