"""Settings as the plain values of TOML and JSON, and back."""

import dataclasses
import difflib
import json
import math
from collections.abc import Mapping, Sequence
from enum import Enum
from numbers import Integral, Real
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin

from ..errors import ConfigError
from .fields import (
    CLASS,
    check_is_dataclass,
    class_named,
    default_of,
    fields,
    hints,
    is_dataclass_type,
    is_union,
    item_hints,
    missing,
    union_members,
)

C = TypeVar("C")

# Scalar types: their name in messages, and the types that TOML and JSON have for them
_SCALARS: dict[Any, tuple[str, tuple[type, ...]]] = {
    bool: ("true or false", (bool,)),
    int: ("a whole number", (int,)),
    float: ("a number", (int, float)),
    str: ("text", (str,)),
    Path: ("a path in quotes", (str,)),
}


def config_to_dict(config: Any) -> dict[str, Any]:
    """The settings as JSON can hold them: paths as text, tuples as lists, `inf` and `nan` as text.

    Where a field's type allows several dataclasses, the table names its own under `class`.

    Raises:
        ConfigError: `config_from_dict` could not restore some values; lists all of them.
    """
    check_is_dataclass(config)
    problems: list[str] = []
    plain = to_plain(config, type(config), "", problems)
    if problems:
        raise ConfigError("Settings that cannot be saved as JSON; make them text instead:\n" + "\n".join(problems))
    return dict(plain)


def config_from_dict(config_class: type[C], values: Mapping[str, Any]) -> C:
    """The inverse of `config_to_dict`. Fields added since then get their defaults, removed ones are ignored.

    Raises:
        ConfigError: A field has neither a value nor a default, or values are of the wrong type; lists all of them.
    """
    found, problems = read_fields(config_class, values, skips_unknown=True)
    problems += [f"  `{name}` is missing" for name in missing(config_class, found)]
    if problems:
        raise ConfigError(f"The settings do not fit `{config_class.__name__}`:\n" + "\n".join(problems))
    try:
        return config_class(**found)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def read_fields(
    config_class: type, table: Mapping[str, Any], *, skips_unknown: bool = False
) -> tuple[dict[str, Any], list[str]]:
    """Convert a plain table to values of a dataclass's fields.

    Args:
        config_class: The dataclass.
        table: Plain values by field name, in kebab or snake case.
        skips_unknown: Ignore keys that name no field, instead of reporting them.

    Returns:
        The values that fit, by field, and a line for each problem.
    """
    reader = _Reader(skips_unknown=skips_unknown)
    return reader.table(config_class, table, ""), reader.problems


def to_plain(value: Any, hint: Any, place: str, problems: list[str]) -> Any:
    """A value as TOML and JSON can hold it.

    Args:
        value: The value of a field.
        hint: The type of the field.
        place: The name of the field, for messages.
        problems: Gets a line for each value that has no plain form; it becomes None.
    """
    if value is None or type(value) in (bool, int, str):
        return value
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Integral):  # such as NumPy's
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, Path):
        return str(value)
    prefix = f"{place}." if place else ""
    if isinstance(value, list | tuple):
        sequence = next(
            (member for member in union_members(hint) if (get_origin(member) or member) in (tuple, list)), Any
        )
        items = item_hints(sequence, len(value))
        return [
            to_plain(item, items[index] if index < len(items) else Any, f"{place}[{index}]", problems)
            for index, item in enumerate(value)
        ]
    if isinstance(value, Mapping):
        of_value = next((get_args(member)[1] for member in union_members(hint) if len(get_args(member)) == 2), Any)
        plain = {}
        for key, item in value.items():
            name = key.name if isinstance(key, Enum) else key
            if not isinstance(name, str):
                problems.append(f"  `{place}` has the key {key!r}, which is not text")
            plain[name] = to_plain(item, of_value, f"{prefix}{name}", problems)
        return plain
    if dataclasses.is_dataclass(value):
        types = hints(type(value))
        named = {} if union_members(hint) == [type(value)] else {CLASS: type(value).__name__}
        return named | {
            name: to_plain(getattr(value, name), types[name], f"{prefix}{name}", problems) for name in types
        }
    problems.append(f"  `{place}` is a `{type(value).__name__}`")
    return None


class _Reader:
    """Converts plain values to the types of fields, and collects a line for each one that does not fit."""

    def __init__(self, *, skips_unknown: bool = False) -> None:
        self.problems: list[str] = []
        self._skips_unknown = skips_unknown

    def table(self, config_class: type, table: Mapping[str, Any], prefix: str) -> dict[str, Any]:
        """The values that fit, by field."""
        types = hints(config_class)
        defaults = {field.name: default_of(field) for field in fields(config_class)}
        found: dict[str, Any] = {}
        for key, value in table.items():
            name = key.replace("-", "_")
            if name not in types:
                if not self._skips_unknown:
                    self.problems.append(f"  `{prefix}{key}` is unknown{_did_you_mean(name, types)}")
            elif name in found:
                self.problems.append(f"  `{prefix}{name}` is given twice")
            else:
                found[name] = self.value(value, types[name], f"{prefix}{name}", defaults[name])
        return found

    def value(self, value: Any, hint: Any, place: str, field_default: Any = None) -> Any:
        """The value as its type wants it; None if it does not fit."""
        origin, arguments = get_origin(hint) or hint, get_args(hint)
        if is_union(hint):
            if NoneType in arguments and value in (None, "None"):
                return None
            return self._one_of(union_members(hint), value, hint, place, field_default)
        if is_dataclass_type(hint) and isinstance(value, Mapping):
            return self._dataclass(hint, value, place, field_default)
        if origin is Literal:
            if (type(value), value) in [(type(choice), choice) for choice in arguments]:
                return value
        elif origin in (tuple, list) and isinstance(value, list | tuple):
            items = item_hints(hint, len(value))
            if len(items) == len(value):
                pairs = zip(value, items, strict=True)
                return origin(self.value(v, h, f"{place}[{i}]") for i, (v, h) in enumerate(pairs))
        elif isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, Mapping):
            of_key, of_value = arguments or (Any, Any)
            return {
                self.value(k, of_key, f"{place}.{k}"): self.value(v, of_value, f"{place}.{k}") for k, v in value.items()
            }
        elif isinstance(hint, type) and issubclass(hint, Enum):
            if isinstance(value, str) and value in hint.__members__:
                return hint[value]
        elif hint in _SCALARS:
            if type(value) in _SCALARS[hint][1] or (hint is float and value in ("inf", "-inf", "nan")):
                return hint(value)
        elif hint is Any or (hint is NoneType and value is None):
            return value
        self._report_misfit(value, hint, place)
        return None

    def _one_of(self, members: Sequence[Any], value: Any, hint: Any, place: str, field_default: Any) -> Any:
        """The value as one type of a union; a table without `class` must fit exactly one dataclass."""
        named = class_named(members, value[CLASS]) if isinstance(value, Mapping) and CLASS in value else None
        if named is not None:
            return self._dataclass(named, value, place, field_default)
        if len(members) == 1:
            return self.value(value, members[0], place, field_default)
        fits = []
        for member in members:
            attempt = _Reader()
            result = attempt.value(value, member, place, field_default)
            if not attempt.problems:
                fits.append((member, result))
        classes = [member.__name__ for member, _ in fits if is_dataclass_type(member)]
        if len(classes) > 1:
            names = " and ".join(f"`{name}`" for name in classes)
            self.problems.append(f'  `{place}` fits {names}: choose one, as in `{CLASS} = "{classes[0]}"`')
        elif fits:
            return fits[0][1]
        else:
            self._report_misfit(value, hint, place)
        return None

    def _dataclass(self, hint: type, value: Mapping[str, Any], place: str, field_default: Any) -> Any:
        name = value.get(CLASS, hint.__name__)
        chosen = class_named([hint], name)
        if chosen is None:
            self.problems.append(f"  `{place}.{CLASS}` must be `{hint.__name__}`, not {json.dumps(name, default=str)}")
            return None
        before = len(self.problems)
        table = self.table(chosen, {k: v for k, v in value.items() if k != CLASS}, f"{place}.")
        if type(field_default) is chosen:  # the field's default fills the gaps, not the class's own defaults
            table = {field.name: getattr(field_default, field.name) for field in fields(chosen)} | table
        self.problems += [f"  `{place}.{name}` is missing" for name in missing(chosen, table)]
        try:
            return chosen(**table) if len(self.problems) == before else None
        except ValueError as error:
            self.problems.append(f"  `{place}`: {error}")
            return None

    def _report_misfit(self, value: Any, hint: Any, place: str) -> None:
        self.problems.append(f"  `{place}` must be {_describe(hint)}, not {json.dumps(value, default=str)}")


def _describe(hint: Any) -> str:
    """What a field takes, in words."""
    origin, arguments = get_origin(hint), get_args(hint)
    if is_union(hint):
        return " or ".join(_describe(argument) for argument in arguments)
    if origin is Literal:
        return "one of " + ", ".join(f"`{argument}`" for argument in arguments)
    if origin in (tuple, list):
        return "a list" if origin is list or Ellipsis in arguments else f"a list of {len(arguments)}"
    if isinstance(hint, type) and issubclass(hint, Enum):
        return "one of " + ", ".join(f"`{name}`" for name in hint.__members__)
    if is_dataclass_type(hint):
        return f"a table (`{hint.__name__}`)"
    if isinstance(origin or hint, type) and issubclass(origin or hint, Mapping):
        return "a table"
    if hint in _SCALARS:
        return _SCALARS[hint][0]
    return '"None"' if hint is NoneType else f"a `{getattr(hint, '__name__', hint)}`"


def _did_you_mean(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean `{close[0]}`?" if close else ""
