"""The table of `paccel runs`: runs selected, sorted, and shown with the settings in which they differ."""

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import UsageError, did_you_mean
from .fields import ABSENT, FIELDS, Value, matches, order_of, plain, setting_names, text_of, unknown_field, value_of
from .folder import RunFolder
from .scores import Metric, Point, best_of, metric_of, names_of

_CONDITION = re.compile(r"([^=<>!~]+?)\s*(!=|<=|>=|==|=|<|>|~)\s*(.*)", re.DOTALL)
_OPERATIONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Line:
    """A run in the table.

    Attributes:
        run: The run.
        best: The best value of the table's score; None without one.
        is_whole: Whether all metrics of the run were read to find it.
        differs: The settings that differ from those of the reference run; `ABSENT` for one that this run does not have.
    """

    run: RunFolder
    best: Point | None
    is_whole: bool
    differs: Mapping[str, Value]


def select(runs: Sequence[RunFolder], conditions: Sequence[str]) -> list[RunFolder]:
    """Return the runs that meet all conditions, such as `learning_rate=1e-3`, `step>=100`, `eval/loss<0.4`, `name~base`.

    Numbers are compared as numbers, `~` means "contains", and a score is taken at its best. A run without the field
    meets only `!=`.

    Raises:
        UsageError: A condition cannot be parsed, or no run has its field.
    """
    found = list(runs)
    for text in conditions:
        match = _CONDITION.fullmatch(text.strip())
        if match is None or (match[2] in _OPERATIONS and not match[3]):
            raise UsageError(f"`{text}` is not a condition: write `FIELD=VALUE`, or `!=`, `<`, `<=`, `>`, `>=`, `~`")
        name, sign, wanted = match[1].strip(), match[2], match[3].strip()
        get, _ = _field(runs, name)
        found = [run for run in found if _meets(get(run), sign, wanted)]
    return found


def _field(runs: Sequence[RunFolder], name: str) -> tuple[Callable[[RunFolder], Value], Metric | None]:
    """Return a function that reads a field, or the best value of a score, from one of these runs; and the score if it is one.

    Raises:
        UsageError: None of the runs has it.
    """
    field = name
    if "/" not in name:
        underscored = field.replace("-", "_")  # the command line has dashes
        field = underscored if any(underscored in run.settings for run in runs) else field
        if not runs or field in FIELDS or any(value_of(run, field) is not ABSENT for run in runs):
            return (lambda run: value_of(run, field)), None
    score = _full_name(runs, name)
    known = any(run.best is not None and run.best.name == name for run in runs)
    if score is None and not known:
        raise unknown_field(runs, name, names_of(runs))
    metric = metric_of(score or name, runs)

    def get(run: RunFolder) -> Value:
        best, _ = best_of(run, metric)
        return ABSENT if best is None else best.value

    return get, metric


def _meets(value: Value, sign: str, wanted: str) -> bool:
    if sign == "~":
        return value is not ABSENT and wanted.lower() in text_of(value).lower()
    if sign in ("=", "==", "!="):
        return (value is not ABSENT and matches(value, wanted)) == (sign != "!=")
    try:
        return value is not ABSENT and value is not None and bool(_OPERATIONS[sign](float(value), float(wanted)))
    except OverflowError:  # an integer larger than any float
        return bool(_OPERATIONS[sign](value, float(wanted)))
    except (TypeError, ValueError):
        return value is not ABSENT and isinstance(value, str) and bool(_OPERATIONS[sign](value, wanted))


def sort(runs: Sequence[RunFolder], by: str | None, reverse: bool = False) -> list[RunFolder]:
    """Sort runs: by a score, best first; by another field, smallest first; by default, newest first.

    Runs without the field come last.

    Raises:
        UsageError: No run has the field.
    """
    newest = sorted(runs, key=lambda run: (run.started, run.name), reverse=True)
    if by is None or by == "age":
        return newest[::-1] if reverse else newest
    get, metric = _field(runs, by)
    flip = (metric is not None and metric.mode == "max") != reverse
    values = {id(run): get(run) for run in newest}
    present = [run for run in newest if not _is_missing(values[id(run)])]
    missing = [run for run in newest if _is_missing(values[id(run)])]
    return sorted(present, key=lambda run: order_of(values[id(run)]), reverse=flip) + missing


def _full_name(runs: Sequence[RunFolder], name: str) -> str | None:
    """Return the full name of a score, which may be given as `loss`; None if no run has it."""
    for names in (names_of(runs), names_of(runs, most=len(runs))):
        for full in names:
            if name in (full, full.partition("/")[2]):
                return full
    return None


def _is_missing(value: Value) -> bool:
    return value is ABSENT or value is None or (isinstance(value, float) and math.isnan(value))


def differences(run: RunFolder, against: RunFolder) -> dict[str, Value]:
    """Return the settings in which a run differs from another one, apart from `run_dir` and `resume`."""
    names = [name for name in setting_names([against, run]) if name not in ("run_dir", "resume")]
    pairs = {name: (run.settings.get(name, ABSENT), against.settings.get(name, ABSENT)) for name in names}
    return {name: own for name, (own, other) in pairs.items() if own != other or type(own) is not type(other)}


def lines(runs: Sequence[RunFolder], metric: Metric | None, against: RunFolder | None) -> list[Line]:
    """Return the lines of the table, with the best value of one score and the differences from one run."""
    found = []
    for run in runs:
        best, is_whole = (None, True) if metric is None else best_of(run, metric)
        found.append(Line(run, best, is_whole, {} if against is None else differences(run, against)))
    return found


def find_run(runs: Sequence[RunFolder], name: str) -> RunFolder:
    """Return the run with this name, path, or unambiguous beginning or end of a name.

    Raises:
        UsageError: No run matches, or several do.
    """
    wanted = name.rstrip("/\\").replace("\\", "/")
    exact = [run for run in runs if wanted in (run.name, str(run.path), run.path.name)]
    near = exact or [run for run in runs if run.name.startswith(wanted) or run.name.endswith(wanted)]
    if len(near) == 1:
        return near[0]
    if near:
        raise UsageError(
            f"`{name}` is ambiguous: {', '.join(f'`{run.name}`' for run in near[:5])}; give more of the name"
        )
    raise UsageError(f"There is no run `{name}`{did_you_mean(name, [run.name for run in runs])}")


def run_data(run: RunFolder) -> dict[str, Any]:
    """Return a run as data for `--json`."""
    best = run.best
    return {
        "name": run.name,
        "path": str(run.path),
        "state": run.state,
        "note": run.note,
        "reason": run.reason,
        "step": run.step,
        "epoch": run.epoch,
        "started": run.started,
        "updated": run.updated,
        "settings": plain(run.settings),
        "git_commit": run.git_commit,
        "dirty": run.dirty,
        "versions": dict(run.versions),
        "data": plain(run.data),
        "chosen_by": None if best is None else {"name": best.name, "mode": best.mode},
        "damaged": run.damaged,
    }


def data_of(
    found: Sequence[Line], metric: Metric | None, against: RunFolder | None, others: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """Return the table as data for `--json`."""
    return {
        "metric": None if metric is None else metric._asdict(),
        "against": None if against is None else against.name,
        "runs": [
            run_data(line.run)
            | {
                "best": None if line.best is None else {"value": plain(line.best.value), "step": line.best.step},
                "best_of_all": line.is_whole,
                "differs": {name: plain(value) for name, value in line.differs.items()},
            }
            for line in found
        ],
        "others": [{"name": name, "reason": reason} for name, reason in others],
    }
