"""The scores of a run: which one counts, its values over the steps, and the value by which a run is judged."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from ..errors import UsageError, did_you_mean
from .folder import Mode, Row, RunFolder

_SMALLER = re.compile(
    """(?x) loss(es)?|err|errors?|distance|perplexity|ppl|bits|bp[bcd]|mse|rmse|mae|s?mape|r?msle|[wct]er|eer|nll|bce|xent|kld?
    |divergence|[fk]id|frechet|lpips|ece|crps|epe|hausdorff|hd|chamfer|mpjpe|regret|deviation|f[pn]r|latency|seconds|ms|misses
    |violations"""
)
_LARGER = re.compile(
    """(?x) acc|accuracy|precision|recall|f|fbeta|m?iou|jaccard|dice|auc|auroc|auprc|ap|map|mrr|ndcg|bleu|rouge|meteor|chrf
    |psnr|ssim|r2|mcc|kappa|top|hits|correlation|pearson|spearman|sensitivity|specificity|rewards?|returns?|likelihood|elo
    |success|wins|correct|throughput"""
)
"""Words in a score's name that tell whether smaller or larger is better. The last one counts: `dice_loss` is a loss."""
_IN_PERCENT = re.compile(r"accuracy|acc$|precision|recall|f1|iou|dice|auc|auroc|^m?ap(_?\d+)?$|top_?\d", re.IGNORECASE)
_SCANNED = 1 << 20  # bytes of metrics that are searched for the best value of a run that has not recorded it


class Metric(NamedTuple):
    """A score and its direction.

    Attributes:
        name: The full name, such as `eval/loss`.
        mode: `min` if smaller is better, `max` if larger is.
        is_certain: Whether the mode is known. If it is a guess, no verdict says `better`.
    """

    name: str
    mode: Mode
    is_certain: bool = True

    def is_better(self, value: float, than: float) -> bool:
        return value < than if self.mode == "min" else value > than

    @property
    def section(self) -> str:
        return self.name.partition("/")[0]

    @property
    def in_points(self) -> bool:
        """Whether it is usually given in percent, so that differences are in percentage points."""
        return bool(_IN_PERCENT.search(self.name.partition("/")[2]))


class Point(NamedTuple):
    """A value of a score: its step, and the seconds trained until then."""

    step: int
    value: float
    seconds: float = math.nan


Use = Literal["final", "mean", "best"]
"""How a run is judged: by its last evaluation, the mean of its last ones, or its best."""


def metric_of(name: str, runs: Iterable[RunFolder] = (), mode: Mode | None = None) -> Metric:
    """Return a score with its direction: `mode` if given, else what the runs have recorded, else what the name suggests.

    The direction is uncertain if neither tells it, if the runs disagree, or if they say `min` and the name says `max`: `min`
    is the default of `Checkpoints(mode=…)`, so it may have been forgotten.
    """
    if mode is not None:
        return Metric(name, mode)
    recorded = {run.best.mode for run in runs if run.best is not None and run.best.name == name}
    suggested = _suggested(name)
    if len(recorded) == 1:
        (known,) = recorded
        return Metric(name, known, is_certain=(known, suggested) != ("min", "max"))
    return Metric(name, suggested or "max", is_certain=suggested is not None and not recorded)


def _suggested(name: str) -> Mode | None:
    """Return the mode that a name suggests; None if it suggests none."""
    _, _, short = name.rpartition("/")
    text = re.sub(r"([a-z])([A-Z][a-z])", r"\1_\2", short).lower()
    words = re.findall(r"r2|[a-z]+", text)
    if "per" in words[1:]:  # `seconds_per_step`, `tokens_per_second`
        of, to = words[: words.index("per")], words[words.index("per") + 1 :]
        if {*of} & {"seconds", "second", "s", "ms"}:
            return "min"
        if {*to} & {"seconds", "second", "sec", "s", "minute", "hour"}:
            return "max"
    is_turned = bool({*words} & {"neg", "negative"})
    if {*words} & {"brier", "false", "miss"} or words[-2:] == ["cross", "entropy"]:
        return "max" if is_turned else "min"
    for word in reversed(words):
        is_smaller = bool(_SMALLER.fullmatch(word))
        if is_smaller or _LARGER.fullmatch(word):
            return "min" if is_smaller != is_turned else "max"
    return None


def choose_metric(runs: Sequence[RunFolder], asked: str | None = None, mode: Mode | None = None) -> Metric | None:
    """Return the score by which to judge runs; None if they have none.

    It is `asked` if given, else the score by which most runs chose their best weights, else `eval/loss`, else the first
    other score.

    Raises:
        UsageError: No run has the score `asked`.
    """
    if asked is None:
        recorded = Counter(run.best.name for run in runs if run.best is not None)
        if recorded:
            asked = recorded.most_common(1)[0][0]
    names = names_of(runs)
    if asked is not None and not any(asked in (name, name.partition("/")[2]) for name in names):
        names = names_of(runs, most=len(runs))
    if asked is None:
        evaluated = [name for name in names if not name.startswith(("train/", "time/"))]
        asked = next((name for name in ("eval/loss", *evaluated, *names) if name in names), None)
        if asked is None:
            return None
    elif "/" not in asked:  # `loss` is `eval/loss`
        asked = next((name for name in names if name.partition("/")[2] == asked), asked)
    if names and asked not in names and not any(run.best is not None and run.best.name == asked for run in runs):
        raise UsageError(
            f"No run has a score `{asked}`{did_you_mean(asked, names) or '.'} There are {', '.join(names)}"
        )
    return metric_of(asked, runs, mode)


def names_of(runs: Sequence[RunFolder], most: int = 8) -> list[str]:
    """Return the scores that the runs have logged last, evaluations first. Only `most` of the runs are looked at."""
    some = runs if len(runs) <= most else [runs[place * (len(runs) - 1) // (most - 1)] for place in range(most)]
    found = dict.fromkeys(name for run in some for row in run.last_rows() for name in row if "/" in name)
    order = ("eval", "test")
    ranks = {"train": 3, "time": 4}
    return sorted(found, key=lambda n: order.index(s) if (s := n.partition("/")[0]) in order else ranks.get(s, 2))


def best_of(run: RunFolder, metric: Metric) -> tuple[Point | None, bool]:
    """Return the best value of a score, and whether the whole run was searched for it.

    The value that the run has recorded is used if there is one. Else the metrics are searched: their end, if they are large.
    """
    best = run.best
    if best is not None and best.name == metric.name and best.mode == metric.mode:
        if best.value is not None and best.step is not None:
            return Point(best.step, best.value), True
        if run.has_ended is False:
            return None, True  # none so far
    is_whole = run.metrics_size() <= _SCANNED
    return best_point(points(run.last_rows(_SCANNED), metric.name), metric), is_whole


def best_point(found: Sequence[Point], metric: Metric) -> Point | None:
    """Return the best finite value; of equal ones the later."""
    best: Point | None = None
    for point in found:
        if math.isfinite(point.value) and (best is None or not metric.is_better(best.value, point.value)):
            best = point
    return best


def points(rows: Iterable[Row], name: str) -> list[Point]:
    """Return the values of a score by step. Of several at one step the last counts: a resumed run repeats steps."""
    found: dict[int, Point] = {}
    for row, seconds in _with_time(rows):
        if name in row:
            step = int(row["step"])
            found[step] = Point(step, row[name], seconds)
    return [found[step] for step in sorted(found)]


def all_points(rows: Iterable[Row]) -> dict[str, list[Point]]:
    """Return the values of every score by step."""
    found: dict[str, dict[int, Point]] = defaultdict(dict)
    for row, seconds in _with_time(rows):
        step = int(row["step"])
        for name, value in row.items():
            if "/" in name:
                found[name][step] = Point(step, value, seconds)
    return {name: [by_step[step] for step in sorted(by_step)] for name, by_step in found.items()}


def _with_time(rows: Iterable[Row]) -> Iterator[tuple[Row, float]]:
    """Yield each row with the seconds trained so far, summed over restarts: `time/seconds` starts at 0 each time."""
    before = last = 0.0
    for row in rows:
        seconds = row.get("time/seconds", math.nan)
        if seconds < last:
            before += last
        last = seconds if math.isfinite(seconds) else last
        yield row, before + seconds


def judged(found: Sequence[Point], metric: Metric, use: Use, last: int = 3, until: int | None = None) -> Point | None:
    """Return the value by which a run is judged, and its step; None if it has none.

    Args:
        found: The values of the score, by step.
        metric: The score.
        use: Whether to take the last value, the mean of the last ones, or the best.
        last: How many values to average for `mean`.
        until: The last step that counts; None for all.
    """
    seen = [point for point in found if until is None or point.step <= until]
    if not seen:
        return None
    if use == "best":
        return best_point(seen, metric) or seen[-1]
    if use == "mean":
        tail = seen[-last:]
        return Point(seen[-1].step, math.fsum(point.value for point in tail) / len(tail), seen[-1].seconds)
    return seen[-1]
