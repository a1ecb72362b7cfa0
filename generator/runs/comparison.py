"""Compare runs: the settings, code and data in which they differ, and whether the difference in scores is real."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from . import statistics, wording
from .cautions import cautions
from .fields import Value, key_of, plain, value_of
from .folder import RunFolder
from .groups import Group, Scoring, group_runs, varies
from .inputs import changed_files
from .scores import Metric, Use, choose_metric
from .table import run_data
from .verdict import Verdict, judge


@dataclass(frozen=True)
class Comparison:
    """Groups of runs, compared with the first one.

    Attributes:
        metric: The score; None if no run has any.
        use: Whether the last value of the score, the mean of the last ones, or the best one counts.
        groups: The variants, the baseline first.
        verdicts: One for each group but the first.
        summary: All verdicts in one sentence, if there are many and none says anything; else None.
        cautions: What may mislead.
        settings: Settings that differ: name -> the values in each group.
        code: Label of each group but the first -> files that differ from the first group's; None if not known.
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
    labels: Sequence[str] = (),
) -> Comparison:
    """Compare groups of runs with a baseline.

    Args:
        runs: The runs. A run that is given twice counts once.
        by: The fields whose values make the groups. None: all settings but the seed, the code and the training data.
        against: The baseline: the label of a group, a value of it, or a run in it. None: the first group, which has the
            smallest values of `by`, or the first run.
        metric: The score. None: the one by which the runs chose their best weights, else the loss.
        use: Whether the last value, the mean of the last ones, or the best one counts.
        last: How many values are averaged for `mean`.
        step: The step at which runs are compared. None: each at its end.
        labels: What to call the groups, if there are as many.

    Raises:
        UsageError: No run has a field, or no group is called `against`.
    """
    different = list({run.path.resolve(): run for run in runs}.values())
    scoring = Scoring(metric or choose_metric(different), use, last, step)
    grouping = group_runs(different, by, against, scoring)
    if len(labels) == len(grouping.groups):
        named = [replace(group, label=label) for group, label in zip(grouping.groups, labels, strict=True)]
        grouping = grouping._replace(groups=named)
    groups, metric = grouping.groups, scoring.metric
    verdicts = []
    if metric is not None:
        verdicts = [
            replace(verdict, sentence=wording.sentence(verdict, groups, metric))
            for verdict in judge(groups, metric, use)
        ]
    warned = [*cautions(grouping, scoring)]
    if len(different) == 1 < len(runs):
        warned.append(f"`{different[0].name}` was given more than once, and counts once")
    names = [*grouping.varying, *(["seed"] if varies(different, "seed") else [])]
    return Comparison(
        metric=metric,
        use=use,
        groups=groups,
        verdicts=verdicts,
        summary=wording.summary(groups, verdicts, metric),
        cautions=warned,
        settings={name: [_values(group, name) for group in groups] for name in names},
        code={group.label: changed_files(groups[0].members[0].run, group.members[0].run) for group in groups[1:]},
    )


def _values(group: Group, name: str) -> list[Value]:
    """Return the values of a setting in a group, each once."""
    values = [value_of(member.run, name) for member in group.members]
    return list({key_of(value): value for value in reversed(values)}.values())[::-1]


def comparison_data(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as data for `--json`; `docs/experiments.md` explains the names."""
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
