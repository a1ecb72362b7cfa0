"""Which settings may differ when a run is resumed, and how they differ from the saved ones."""

import copy
import dataclasses
from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypeVar

import tyro

from .fields import class_of_table, default_of, fields, hints
from .plain import to_plain

T = TypeVar("T")

MAY_CHANGE = frozenset(
    {"epochs", "max_steps", "time_limit", "process_timeout", "skip_non_finite", "resume", "run_dir", "trackers"}
    | {"num_workers", "log_every", "save_every", "keep_last", "keep_best", "save_in_background"}
    | {"eval_every", "eval_batch_size", "patience"}  # when to evaluate and stop; scores do not depend on the batch size
    | {"accumulate", "micro_batch_size", "compile", "deterministic"}  # same results up to rounding
    | {"data_dir", "tokens_dir", "table", "profile_from", "profile_steps"}  # fields of our templates
)
"""Settings that may differ on resume, besides the fields that a `Config` marks with `may_change`."""


def may_change(default: T) -> T:
    """The default of a `Config` field that may differ when a run is resumed, such as a path to data.

        data_dir: Path = may_change(Path("data"))  # folder with the images

    A resumed run prints each setting that has changed.
    """
    marked, is_mutable = {"may_change": True}, default.__hash__ is None
    if is_mutable:
        return dataclasses.field(default_factory=lambda: copy.deepcopy(default), metadata=marked)
    return dataclasses.field(default=default, metadata=marked)


def compare_settings(
    config_class: type, now: Mapping[str, Any], before: Mapping[str, Any], free: Collection[str] = ()
) -> tuple[list[str], list[str]]:
    """Compare settings with saved ones, both as `config_to_dict` returns them.

    A new field counts as unchanged while it has its default. A field that was removed may be missing.

    Args:
        config_class: The dataclass of the settings.
        now: The settings now.
        before: The saved ones.
        free: Names that may change, besides `MAY_CHANGE` and the marked fields.

    Returns:
        The changes that are allowed on resume, and those that are not; a line per setting.
    """
    may: list[str] = []
    may_not: list[str] = []
    for place, change, is_free in _changes(config_class, None, now, before, ""):
        (may if is_free or place in MAY_CHANGE.union(free) else may_not).append(f"{place} {change}")
    return may, may_not


def fixed_settings(config_class: type, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that must stay the same on resume; every checkpoint stores them."""
    return {name: value for name, value in settings.items() if name not in MAY_CHANGE | _marked(config_class)}


def _marked(config_class: type) -> set[str]:
    return {field.name for field in fields(config_class) if field.metadata.get("may_change")}


def _changes(
    config_class: type, instance: Any, now: Mapping[str, Any], before: Mapping[str, Any], prefix: str
) -> Iterator[tuple[str, str, bool]]:
    """Yield the place, the change, and whether the field is free to change, for each setting that differs.

    Defaults come from `instance`, the default of this whole table, if it is of this class; otherwise from the class.
    """
    types, marked = hints(config_class), _marked(config_class)
    defaults = {
        field.name: getattr(instance, field.name) if type(instance) is config_class else default_of(field)
        for field in fields(config_class)
    }
    for name in dict.fromkeys([*now, *before]):
        place, hint, unchanged = f"{prefix}{name}", types.get(name), defaults.get(name, tyro.MISSING)
        if name not in now:
            yield place, f"was removed (was {before[name]!r})", True
        elif name not in before:
            is_default = unchanged is not tyro.MISSING and to_plain(unchanged, hint, place, []) == now[name]
            yield place, f"is new: {now[name]!r}", is_default or name in marked
        elif now[name] != before[name]:
            inner = class_of_table(now[name], hint)
            if inner is not None and inner is class_of_table(before[name], hint):
                for at, change, is_free in _changes(inner, unchanged, now[name], before[name], f"{place}."):
                    yield at, change, is_free or name in marked
            else:
                yield place, f"was {before[name]!r}, is {now[name]!r}", name in marked
