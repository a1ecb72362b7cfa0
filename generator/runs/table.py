"""A table of runs: which ones, in which order, and what tells them apart."""

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import UsageError, did_you_mean
from .folder import RunFolder, as_float, common_names
from .scores import Metric, Point, best_of, metric_of, names_of

Value = Any
"""What JSON has a word for; `ABSENT` for what a run does not have."""


class _Absent:
    """What stands for a setting that a run does not have; `None` is a value."""

    def __repr__(self) -> str:
        return "-"


ABSENT = _Absent()

NO_VARIANT = frozenset(
    {"run_dir", "resume", "trackers", "num_workers", "log_every", "save_every", "keep_last", "keep_best"}
    | {"process_timeout", "time_limit", "watch", "profile"}
)
"""Settings that change nothing of what a run computes, so that they make no variant of it."""

FIELDS: Mapping[str, Callable[[RunFolder], Value]] = {
    "name": lambda run: run.name,
    "folder": lambda run: run.name.rpartition("/")[0] or run.path.absolute().parent.name,
    "state": lambda run: run.state,
    "step": lambda run: run.step,
    "epoch": lambda run: run.epoch,
    "started": lambda run: run.started,
    "commit": lambda run: run.git_commit[:9] + "+" * bool(run.dirty) if run.git_commit else None,
    "dirty": lambda run: run.dirty,
    "num_processes": lambda run: run.environment.get("num_processes", ABSENT),
    "precision": lambda run: run.environment.get("precision", ABSENT),
}
"""What a run can be asked for besides its settings, which come first where they have the same name, and its scores."""

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
        best: The best value of the score that the table is about; None without one.
        is_whole: Whether all of the run was looked at for it.
        differs: The settings that are not those of the run that it is held against; `ABSENT` for what it does not have.
    """

    run: RunFolder
    best: Point | None
    is_whole: bool
    differs: Mapping[str, Value]


def value_of(run: RunFolder, name: str) -> Value:
    """A setting, or another field of a run, such as `state` or `versions.torch`; ABSENT if it has none."""
    if name in run.settings:
        return run.settings[name]
    if name in FIELDS:
        return FIELDS[name](run)
    if name.startswith("versions."):
        return run.versions.get(name.partition(".")[2], ABSENT)
    inner: Value = run.settings
    for part in name.split("."):
        if not isinstance(inner, Mapping) or part not in inner:
            return ABSENT
        inner = inner[part]
    return inner


def select(runs: Sequence[RunFolder], conditions: Sequence[str]) -> list[RunFolder]:
    """The runs that meet all conditions, such as `learning_rate=1e-3`, `step>=100`, `eval/loss<0.4` or `name~base`.

    Numbers are compared as numbers; `~` looks for a text within; a score is meant at its best. A run without the field
    meets `!=` alone.

    Raises:
        UsageError: One is not a condition, or no run has its field.
    """
    found = list(runs)
    for text in conditions:
        match = _CONDITION.fullmatch(text.strip())
        if match is None or (match[2] in _OPERATIONS and not match[3]):
            raise UsageError(f"`{text}` is not a condition: write `FIELD=VALUE`, or `!=`, `<`, `<=`, `>`, `>=`, `~`")
        name, sign, wanted = match[1].strip(), match[2], match[3].strip()
        get = _getter(runs, name)
        found = [run for run in found if _meets(get(run), sign, wanted)]
    return found


def _getter(runs: Sequence[RunFolder], name: str) -> Callable[[RunFolder], Value]:
    """How to get a field of these runs.

    Raises:
        UsageError: None of them has it.
    """
    field = name
    if "/" not in name:
        plain = field.replace("-", "_")  # as it is typed in a command line
        field = plain if any(plain in run.settings for run in runs) else field
        if not runs or field in FIELDS or any(value_of(run, field) is not ABSENT for run in runs):
            return lambda run: value_of(run, field)
    score = _full_name(runs, name)
    known = any(run.best is not None and run.best.name == name for run in runs)
    if score is None and not known:
        scores = names_of(runs)
        names = [*common_names(runs), *FIELDS, *scores]
        raise UsageError(
            f"No run has a field `{name}`{did_you_mean(name, names) or '.'} There are {', '.join(dict.fromkeys(names))}"
        )
    metric = metric_of(score or name, runs)

    def get(run: RunFolder) -> Value:
        best, _ = best_of(run, metric)
        return ABSENT if best is None else best.value

    return get


def _meets(value: Value, sign: str, wanted: str) -> bool:
    if sign == "~":
        return value is not ABSENT and wanted.lower() in text_of(value).lower()
    if sign in ("=", "==", "!="):
        return (value is not ABSENT and is_typed(value, wanted)) == (sign != "!=")
    try:
        return value is not ABSENT and value is not None and bool(_OPERATIONS[sign](float(value), float(wanted)))
    except OverflowError:  # an integer that is larger than any float
        return bool(_OPERATIONS[sign](value, float(wanted)))
    except (TypeError, ValueError):
        return value is not ABSENT and isinstance(value, str) and bool(_OPERATIONS[sign](value, wanted))


def is_typed(value: Value, wanted: str) -> bool:
    """Whether a value is what someone typed: `1e-3` is 0.001, `true` and `none` are spelled as one likes."""
    if value is None or isinstance(value, bool):
        return wanted.lower() in ({"none", "null", ""} if value is None else {str(value).lower()})
    if isinstance(value, int | float):
        try:
            return float(wanted) == value or (math.isnan(value) and math.isnan(float(wanted)))
        except (ValueError, OverflowError):
            return text_of(value) == wanted
    if isinstance(value, list | Mapping):
        return _bare(text_of(value)) == _bare(wanted)
    return str(value) in (wanted, _unquoted(wanted))


def _bare(text: str) -> str:
    """A list as everyone writes it: `[1, 'a', None]`, `[1,"a",null]` and `1,a,none` are the same."""
    return re.sub(r"[\s'\"]", "", text).lower().replace("null", "none").strip("[]()")


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def sort(runs: Sequence[RunFolder], by: str | None, reverse: bool = False) -> list[RunFolder]:
    """The runs in an order: by a score the best first, by another field the smallest, without one the newest.

    Runs without the field come last.

    Raises:
        UsageError: No run has the field.
    """
    newest = sorted(runs, key=lambda run: (run.started, run.name), reverse=True)
    if by is None or by == "age":
        return newest[::-1] if reverse else newest
    get = _getter(runs, by)
    is_score = not any(value_of(run, by) is not ABSENT for run in runs) and by not in FIELDS
    flip = (is_score and metric_of(_full_name(runs, by) or by, runs).mode == "max") != reverse
    values = {id(run): get(run) for run in newest}
    there = [run for run in newest if not _is_missing(values[id(run)])]
    absent = [run for run in newest if _is_missing(values[id(run)])]
    return sorted(there, key=lambda run: order_of(values[id(run)]), reverse=flip) + absent


def _full_name(runs: Sequence[RunFolder], name: str) -> str | None:
    """The full name of a score, of which `loss` may be the short one; None if no run has it."""
    for names in (names_of(runs), names_of(runs, most=len(runs))):
        for full in names:
            if name in (full, full.partition("/")[2]):
                return full
    return None


def _is_missing(value: Value) -> bool:
    return value is ABSENT or value is None or (isinstance(value, float) and math.isnan(value))


def order_of(value: Value) -> tuple[int, float, str]:
    """A key that sorts values of any type: numbers by size, before texts."""
    if isinstance(value, bool | int | float):
        return 0, as_float(value), ""
    return 1, 0.0, text_of(value)


def differences(run: RunFolder, against: RunFolder) -> dict[str, Value]:
    """The settings of a run that are not those of another one; without where it writes and what it resumes."""
    names = [name for name in common_names([against, run]) if name not in ("run_dir", "resume")]
    pairs = {name: (run.settings.get(name, ABSENT), against.settings.get(name, ABSENT)) for name in names}
    return {name: mine for name, (mine, other) in pairs.items() if mine != other or type(mine) is not type(other)}


def lines(runs: Sequence[RunFolder], metric: Metric | None, against: RunFolder | None) -> list[Line]:
    """The lines of a table about one score, each run held against one of them."""
    found = []
    for run in runs:
        best, is_whole = (None, True) if metric is None else best_of(run, metric)
        found.append(Line(run, best, is_whole, {} if against is None else differences(run, against)))
    return found


def find_run(runs: Sequence[RunFolder], name: str) -> RunFolder:
    """The run of a name, or of the beginning or end of one that no other has.

    Raises:
        UsageError: There is none, or there are several.
    """
    wanted = name.rstrip("/\\").replace("\\", "/")
    exact = [run for run in runs if wanted in (run.name, str(run.path), run.path.name)]
    near = exact or [run for run in runs if run.name.startswith(wanted) or run.name.endswith(wanted)]
    if len(near) == 1:
        return near[0]
    if near:
        raise UsageError(f"`{name}` may be {', '.join(f'`{run.name}`' for run in near[:5])}: give more of the name")
    raise UsageError(f"There is no run `{name}`{did_you_mean(name, [run.name for run in runs])}")


def text_of(value: Value) -> str:
    """A value as it is typed in a command line."""
    if value is ABSENT:
        return "-"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return f"{value:.1f}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(text_of, value)) + "]"
    return str(value)


def plain(value: Value) -> Value:
    """A value for JSON, which has no word for what is absent or not finite."""
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if value is ABSENT or (isinstance(value, float) and not math.isfinite(value)) else value


def run_data(run: RunFolder) -> dict[str, Any]:
    """A run for `--json`."""
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
    """The table for `--json`."""
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
