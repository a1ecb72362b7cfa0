"""The fields of a settings dataclass: their types, their defaults, and the dataclass that a table stands for."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import tyro

from ..errors import ConfigError

CLASS = "class"
"""In a table whose field allows several dataclasses, the key that names one. No field can have this name."""


def check_is_dataclass(config: Any) -> None:
    """Raise a ConfigError unless `config` is an instance of a dataclass."""
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise ConfigError(f"The settings must be an instance of a dataclass, not a `{type(config).__name__}`")


def fields(config: Any) -> list[dataclasses.Field[Any]]:
    """The fields that `__init__` takes, of a dataclass or an instance of one."""
    return [field for field in dataclasses.fields(config) if field.init]


def hints(config_class: type) -> dict[str, Any]:
    """The type of each field, by name."""
    found = get_type_hints(config_class)
    return {field.name: found[field.name] for field in fields(config_class)}


def default_of(field: dataclasses.Field[Any]) -> Any:
    """The default of a field, made anew if it has a factory; tyro's MISSING if there is none."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return tyro.MISSING if field.default is dataclasses.MISSING else field.default


def missing(config_class: type, found: Collection[str]) -> list[str]:
    """The fields that have neither a value nor a default."""
    return [f.name for f in fields(config_class) if f.name not in found and default_of(f) is tyro.MISSING]


def is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, UnionType)


def union_members(hint: Any) -> list[Any]:
    """The types of a union without None; of any other type, the type itself."""
    members = get_args(hint) if is_union(hint) else (hint,)
    return [member for member in members if member is not NoneType]


def item_hints(hint: Any, length: int) -> list[Any]:
    """The type of each item in a list or tuple of that length."""
    arguments = get_args(hint)
    if not arguments:
        return [Any] * length
    return [arguments[0]] * length if get_origin(hint) is list or Ellipsis in arguments else list(arguments)


def is_dataclass_type(hint: Any) -> bool:
    return dataclasses.is_dataclass(hint) and isinstance(hint, type)


def class_named(members: Sequence[Any], name: Any) -> type | None:
    """The dataclass with that name among types and their subclasses, in any case: `sgd` finds `SGD`, as in tyro."""
    known = [found for member in members if is_dataclass_type(member) for found in _with_subclasses(member)]
    return next((found for found in known if found.__name__.lower() == str(name).lower()), None)


def class_of_table(table: Any, hint: Any) -> type | None:
    """The dataclass whose fields a plain value holds; None if it is no table, or its class is unknown."""
    if not isinstance(table, Mapping):
        return None
    members = [member for member in union_members(hint) if is_dataclass_type(member)]
    if CLASS in table:
        return class_named(members, table[CLASS])
    return members[0] if len(members) == 1 else None


def _with_subclasses(hint: type) -> list[type]:
    children: list[type] = type.__subclasses__(hint)
    return [hint, *(found for child in children for found in _with_subclasses(child))]
