"""The fields of a run, such as its settings and state: looked up by name, compared, and shown as text."""

import math
import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

from ..errors import UsageError, did_you_mean
from .folder import RunFolder
from .state import as_float

Value = Any
"""A JSON value, or `ABSENT`."""


class _Absent:
    """The type of `ABSENT`. None is a value that a setting can have."""

    def __repr__(self) -> str:
        return "-"


ABSENT = _Absent()
"""The value of a field that a run does not have."""

NOT_COMPARED = frozenset(
    {"run_dir", "resume", "trackers", "num_workers", "log_every", "save_every", "keep_last", "keep_best"}
    | {"process_timeout", "time_limit", "watch", "profile"}
)
"""Settings that do not affect what a run computes, so runs that differ only in them are the same variant."""

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
"""Fields of a run other than settings and scores. A setting of the same name takes precedence."""


def value_of(run: RunFolder, name: str) -> Value:
    """Return a setting or another field of a run, such as `state`, `versions.torch` or `optimizer.lr`; else ABSENT."""
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


def setting_names(runs: Sequence[RunFolder]) -> list[str]:
    """Return the settings that any of the runs has, in the order in which they first appear."""
    return list(dict.fromkeys(name for run in runs for name in run.settings))


def unknown_field(runs: Sequence[RunFolder], name: str, others: Iterable[str] = ()) -> UsageError:
    """Return the error for a field that no run has; it lists those that there are, and the names in `others`."""
    names = list(dict.fromkeys([*setting_names(runs), *FIELDS, *others]))
    return UsageError(f"No run has a field `{name}`{did_you_mean(name, names) or '.'} There are {', '.join(names)}")


def matches(value: Value, typed: str) -> bool:
    """Whether a value is the one that someone typed: `1e-3` matches 0.001, and `True` and `None` match in any case."""
    if value is None or isinstance(value, bool):
        return typed.lower() in ({"none", "null", ""} if value is None else {str(value).lower()})
    if isinstance(value, int | float):
        try:
            return float(typed) == value or (math.isnan(value) and math.isnan(float(typed)))
        except (ValueError, OverflowError):
            return text_of(value) == typed
    if isinstance(value, list | Mapping):
        return _without_quotes_and_brackets(text_of(value)) == _without_quotes_and_brackets(typed)
    is_quoted = len(typed) > 1 and typed[0] == typed[-1] and typed[0] in "'\""
    return str(value) in (typed, typed[1:-1] if is_quoted else typed)


def _without_quotes_and_brackets(text: str) -> str:
    """Normalize a list: `[1, 'a', None]`, `[1,"a",null]` and `1,a,none` become the same text."""
    return re.sub(r"[\s'\"]", "", text).lower().replace("null", "none").strip("[]()")


def key_of(value: Value) -> Hashable:
    """Return a key that is equal for equal values: 1 and 1.0 are equal, 1 and True are not."""
    return isinstance(value, bool), text_of(float(value) if type(value) is int and abs(value) < 2**53 else value)


def order_of(value: Value) -> tuple[int, float, str]:
    """Return a sort key for values of any type: numbers by size, then text."""
    if isinstance(value, bool | int | float):
        return 0, as_float(value), ""
    return 1, 0.0, text_of(value)


def text_of(value: Value) -> str:
    """Return a value as it would be typed on the command line."""
    if value is ABSENT:
        return "-"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return f"{value:.1f}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(text_of, value)) + "]"
    return str(value)


def plain(value: Value) -> Value:
    """Return a value for JSON: None for `ABSENT` and for numbers that are not finite."""
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if value is ABSENT or (isinstance(value, float) and not math.isfinite(value)) else value
