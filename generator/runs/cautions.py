"""Warnings about a comparison: what may mislead."""

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence

from .fields import ABSENT, NOT_COMPARED, key_of, setting_names, text_of, value_of
from .folder import RunFolder
from .groups import Group, Grouping, Member, Scoring, varies
from .inputs import code_key, data_key
from .scores import Metric
from .state import FINISHED


def cautions(grouping: Grouping, scoring: Scoring) -> Iterator[str]:
    """Yield what may mislead about a comparison."""
    groups, metric = grouping.groups, scoring.metric
    members = [member for group in groups for member in group.members]
    counted = [member for member in members if member.left_out is None]
    runs = [member.run for member in members]
    if metric is not None:
        yield from _different_repeats(members, metric)
    for group in groups:
        yield from _runs_left_out(group)
    unfinished = [member.run for member in counted if member.run.state != FINISHED]
    if unfinished and scoring.step is None:
        yield f"not finished: {', '.join(f'{run.name} ({run.state})' for run in unfinished[:5])}"
    yield from _different_lengths(counted, scoring.step)
    if metric is not None:
        yield from _about_metric(metric, len(groups))
    if scoring.use == "best" and counted:
        yield _best_is_optimistic(counted)
    if within := grouping.within:
        yield f"within groups, {_quoted(within)} {'differs' if len(within) == 1 else 'differ'} too"
    if grouping.by:
        firsts = [group.members[0].run for group in groups]
        known = {*grouping.by, *within, *NOT_COMPARED, "seed"}
        if others := [name for name in setting_names(runs) if name not in known and varies(firsts, name)]:
            yield f"the groups differ in {_quoted(others)} too"
    yield from _different_environments(runs)
    yield from _different_code(groups, runs)
    yield from _different_data(runs)


def _different_repeats(members: Sequence[Member], metric: Metric) -> Iterator[str]:
    """Find runs with the same settings, code and seed, whose scores should be identical, and are not."""
    names = [name for name in setting_names([m.run for m in members]) if name not in NOT_COMPARED]
    repeats: dict[Hashable, list[Member]] = defaultdict(list)
    for member in members:
        if member.seed is not None and member.point is not None and member.run.state == FINISHED:
            settings = tuple(key_of(value_of(member.run, name)) for name in names)
            repeats[settings, code_key(member.run), member.run.environment.get("num_processes")].append(member)
    for same in repeats.values():
        if len({(m.point.step, key_of(m.value)) for m in same if m.point is not None}) > 1:
            values = " and ".join(f"{m.value:.6g}" for m in same[:3])
            named = _quoted([m.run.name for m in same[:3]])
            yield f"runs with the same seed, settings and code differ in {metric.name} ({named}: {values}): not reproducible"


def _runs_left_out(group: Group) -> Iterator[str]:
    reasons: dict[str, list[str]] = defaultdict(list)
    for member in group.members:
        if member.left_out is not None:
            reasons[member.left_out].append(member.run.name)
    for reason, names in reasons.items():
        yield f"left out of `{group.label}`: {', '.join(names)}: {reason}"
    if group.counted and any(member.has_diverged for member in group.members):
        yield f"`{group.label}` is judged by the {len(group.counted)} of its runs that did not diverge, which flatters it"


def _different_lengths(counted: Sequence[Member], step: int | None) -> Iterator[str]:
    ends = sorted({member.point.step for member in counted if member.point is not None})
    if len(ends) > 1:
        text = f"the runs are compared at different steps, {ends[0]:,} to {ends[-1]:,}"
        yield text + (f": `--step {ends[0]}` compares them at the same one" if step is None else "")
    if varies([member.run for member in counted], "limit_batches"):
        yield "`limit_batches` differs, so evaluations may not have seen the same samples"


def _about_metric(metric: Metric, groups: int) -> Iterator[str]:
    if not metric.is_certain and groups > 1:
        yield (
            f"it is not clear whether a smaller or a larger `{metric.name}` is better: pass `--mode min` or `--mode max` to"
            " `paccel compare`"
        )
    if metric.section == "train":
        yield f"`{metric.name}` is measured on training data, while the weights change: an evaluation says more"


def _best_is_optimistic(counted: Sequence[Member]) -> str:
    numbers = sorted({len(member.history) for member in counted})
    text = "each run is judged by the best of its "
    if len(numbers) == 1:
        return f"{text}{numbers[0]} evaluations, which is optimistic"
    return f"{text}{numbers[0]} to {numbers[-1]} evaluations, which is optimistic, more so with more evaluations"


def _different_environments(runs: Sequence[RunFolder]) -> Iterator[str]:
    for package in dict.fromkeys(name for run in runs for name in run.versions):
        versions = list(dict.fromkeys(run.versions[package] for run in runs if package in run.versions))
        if len(versions) > 1:
            yield f"different versions of {package}: {', '.join(versions)}"
    for name in ("precision", "num_processes", "gpu", "threads"):
        values = list(dict.fromkeys(text_of(run.environment.get(name, ABSENT)) for run in runs))
        if len(values) > 1:
            yield f"different {name}: {', '.join(values)}"


def _different_code(groups: Sequence[Group], runs: Sequence[RunFolder]) -> Iterator[str]:
    if any(len({code_key(member.run) for member in group.members}) > 1 for group in groups):
        yield "runs of one group have different code"
    elif any(run.dirty and run.code_files is None for run in runs) and len(runs) > 1:
        yield "some runs had uncommitted changes that are not recorded (an older runtime): their code may differ"


def _different_data(runs: Sequence[RunFolder]) -> Iterator[str]:
    unknown = []
    for use, what in (("eval", "evaluation"), ("train", "training")):
        known = {data_key(run, use) for run in runs}
        if len(known - {None}) > 1:
            yield f"different {what} data: its content, or the number of samples"
        elif None in known and len(runs) > 1:
            unknown.append(what)
    if unknown:
        yield f"some runs do not record their {' and '.join(unknown)} data (an older runtime), so it may differ"


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
