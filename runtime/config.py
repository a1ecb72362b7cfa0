"""Settings: a dataclass from the command line, from a TOML file, and as JSON; and those of them that a run reads."""

import argparse
import contextlib
import copy
import dataclasses
import difflib
import inspect
import io
import json
import math
import os
import sys
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from enum import Enum
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import tyro

from .errors import ConfigError, local_rank
from .limits import beyond_limits

C = TypeVar("C")
T = TypeVar("T")

MAY_CHANGE = frozenset(
    {"epochs", "max_steps", "time_limit", "process_timeout", "skip_non_finite", "resume", "run_dir", "trackers"}
    | {"num_workers", "log_every", "save_every", "keep_last", "keep_best", "save_in_background"}
    | {"eval_every", "eval_batch_size", "patience"}  # which scores there are; a score is the same for any batch size
    | {"accumulate", "micro_batch_size", "compile", "deterministic"}  # the same up to rounding
    | {"data_dir", "tokens_dir", "table", "profile_from", "profile_steps"}  # of the templates
)
"""Settings that may differ when a run goes on, besides those that a `Config` marks with `may_change`."""

_CLASS = "class"  # in a table: which of several dataclasses it is. No field can have this name

# The types of a single value: what messages call it, and the types that TOML and JSON have for it
_LEAVES: dict[Any, tuple[str, tuple[type, ...]]] = {
    bool: ("true or false", (bool,)),
    int: ("a whole number", (int,)),
    float: ("a number", (int, float)),
    str: ("text", (str,)),
    Path: ("a path in quotes", (str,)),
}

_NEAR = 0.9  # of difflib: `time_limits` and `tracker` are near, `resume_from` and `speed` (to `seed`) are not


def load_config(config_class: type[C], args: Sequence[str] | None = None) -> C:
    """Make the settings from the command line: `--learning-rate 3e-4` or `--learning_rate 3e-4`, one flag a field.

    `--config FILE.toml` takes values from a file, by the names of the fields; the command line wins over it. `None`
    is None there and here. `--help` shows each field with its documentation, a string below it or a comment
    after it. A mistake ends the process with exit code 2 and one message, shown once on each host: what cannot be
    parsed, everything that is wrong in the file, or the text of a ValueError that `__post_init__` raised.

    Args:
        config_class: A dataclass with fields of the types bool, int, float, str, Path, Literal, Enum, tuples, lists and
            `dict[str, …]` of them, dataclasses, and any of these or None. A field that is one of several dataclasses
            is chosen by `optimizer:sgd`, and in a file by `class = "SGD"` in its table. `~` in a path is the home
            folder.
        args: Instead of the command line, without the program's name.
    """
    shown = local_rank() == 0
    try:
        given = _take_find_non_finite(config_class, list(sys.argv[1:] if args is None else args))
        rest, file = _take_config_option(config_class, given)
        default: Any = None if file is None else _read_defaults(config_class, file)
        about = inspect.cleandoc(config_class.__doc__ or "")
        if about.startswith(f"{config_class.__name__}("):  # what dataclasses put where nothing was written
            about = ""
        description = (
            f"{about}\n\n`--config FILE.toml` takes values from a file; the command line wins over it. `--find-non-finite` "
            "stops at the first module that returns a number that is not finite."
        ).strip()
        silence = contextlib.nullcontext() if shown else contextlib.redirect_stderr(io.StringIO())
        with silence:  # for what tyro says all the same
            config: C = tyro.cli(
                config_class, args=rest, default=default, description=description, console_outputs=shown
            )
        _expand_home(config)
        return config
    except ValueError as error:
        if shown:
            print(f"{error}\nFor all settings: python {sys.argv[0]} --help", file=sys.stderr)
        raise SystemExit(2) from None


def may_change(default: T) -> T:
    """The default of a field of a `Config` that may differ when a run goes on, such as where its data lies.

        data_dir: Path = may_change(Path("data"))  # folder with the images

    What a run prints when it goes on names each setting that has changed.
    """
    marked, is_mutable = {"may_change": True}, default.__hash__ is None
    if is_mutable:
        return dataclasses.field(default_factory=lambda: copy.deepcopy(default), metadata=marked)
    return dataclasses.field(default=default, metadata=marked)


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """The fields of a `Config` that `Run` reads, each at its default where the `Config` has none of that name."""

    seed: int | None = 0  # None draws one
    precision: str = "auto"  # auto, fp32, bf16 or fp16
    deterministic: bool = False  # deterministic algorithms only
    compile: bool = False  # compile the models
    run_dir: Path | None = None  # None is a new folder under runs/
    resume: str = "never"  # auto, never, or the path of a run or a checkpoint
    trackers: tuple[str, ...] = ()  # accelerate's, by name
    time_limit: float | None = None  # seconds after which the run saves and stops
    process_timeout: float | None = None  # seconds that processes wait for each other
    skip_non_finite: int = 0  # steps in a row that may be skipped because their gradient is not finite

    @classmethod
    def of(cls, config: Any, *, trains: bool = True) -> "RunSettings":
        """Read them from a user's settings.

        Args:
            config: The settings.
            trains: Whether a training follows. An evaluation takes the settings of an old run as they are.

        Raises:
            ConfigError: They are not a dataclass, a value is of the wrong type, a number is beyond its limits (also of
                a field that the loop reads, such as `log_every`), or a field is spelt almost like one of these, which
                would be silently off; lists all of it.
        """
        _check_is_dataclass(config)
        hints = _hints(cls)
        given = [field.name for field in _fields(config)]
        absent = [name for name in hints if not hasattr(config, name)]
        problems: list[str] = []
        for name in given:
            if name not in hints and (near := difflib.get_close_matches(name.lower(), absent, n=1, cutoff=_NEAR)):
                problems.append(f"  `{name}` is not read: rename it to `{near[0]}`, or to something less like it")
        plain = {name: _to_plain(getattr(config, name), Any, name, problems) for name in given if name in hints}
        reader = _Reader()
        found = reader.table(cls, plain, "")
        problems += reader.problems
        if trains:
            problems += [f"  {problem}" for problem in beyond_limits({name: getattr(config, name) for name in given})]
        if problems:
            raise ConfigError(f"Settings of `{type(config).__name__}` that a run cannot use:\n" + "\n".join(problems))
        return cls(**found)


def config_to_dict(config: Any) -> dict[str, Any]:
    """The settings as JSON has words for them: paths as text, tuples as lists, `inf` and `nan` as text.

    A dataclass that its field's type does not determine has its name under `class`.

    Raises:
        ConfigError: Something that `config_from_dict` could not read back; lists all of it.
    """
    _check_is_dataclass(config)
    problems: list[str] = []
    plain = _to_plain(config, type(config), "", problems)
    if problems:
        raise ConfigError("Settings that cannot be saved, and could be text instead:\n" + "\n".join(problems))
    return dict(plain)


def config_from_dict(config_class: type[C], values: Mapping[str, Any]) -> C:
    """The inverse of `config_to_dict`; fields that have come since have their defaults, those that are gone are left out.

    Raises:
        ConfigError: A field has neither a value nor a default, or values are of the wrong type; lists all of them.
    """
    reader = _Reader(skips_unknown=True)
    found = reader.table(config_class, values, "")
    reader.problems += [f"  `{name}` is missing" for name in _missing(config_class, found)]
    if reader.problems:
        raise ConfigError(f"The settings do not fit `{config_class.__name__}`:\n" + "\n".join(reader.problems))
    try:
        return config_class(**found)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def compare_settings(
    config_class: type, now: Mapping[str, Any], before: Mapping[str, Any], free: Collection[str] = ()
) -> tuple[list[str], list[str]]:
    """How settings differ from earlier ones, both as `config_to_dict` returns them.

    Args:
        free: Names that may change besides `MAY_CHANGE` and the fields that are marked.

    Returns:
        What may change in a run that goes on, and what may not; a line for each setting. One that is new counts as
        unchanged at its default, and one that is gone may be.
    """
    may: list[str] = []
    may_not: list[str] = []
    for place, change, is_free in _changes(config_class, None, now, before, ""):
        (may if is_free or place in MAY_CHANGE.union(free) else may_not).append(f"{place} {change}")
    return may, may_not


def fixed_settings(config_class: type, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those that must stay the same while a run goes on: what a checkpoint belongs to."""
    marked = {field.name for field in _fields(config_class) if field.metadata.get("may_change")}
    return {name: value for name, value in settings.items() if name not in MAY_CHANGE | marked}


def _changes(
    config_class: type, given: Any, now: Mapping[str, Any], before: Mapping[str, Any], prefix: str
) -> Iterator[tuple[str, str, bool]]:
    """Yield place, change and whether it may be, for each setting that differs.

    The defaults are those of `given`, the default of the whole table, if that is of the class, and else the class's own.
    """
    hints = _hints(config_class)
    defaults = {
        field.name: getattr(given, field.name) if type(given) is config_class else _default(field)
        for field in _fields(config_class)
    }
    marked = {field.name for field in _fields(config_class) if field.metadata.get("may_change")}
    for name in dict.fromkeys([*now, *before]):
        place, hint, default = f"{prefix}{name}", hints.get(name), defaults.get(name, tyro.MISSING)
        if name not in now:
            yield place, f"is gone: it was {before[name]!r}", True
        elif name not in before:
            is_default = default is not tyro.MISSING and _to_plain(default, hint, place, []) == now[name]
            yield place, f"is new: {now[name]!r}", is_default or name in marked
        elif now[name] != before[name]:
            inner = _dataclass_of(now[name], hint)
            if inner is not None and inner is _dataclass_of(before[name], hint):
                for at, change, is_free in _changes(inner, default, now[name], before[name], f"{place}."):
                    yield at, change, is_free or name in marked
            else:
                yield place, f"was {before[name]!r}, is {now[name]!r}", name in marked


def _take_find_non_finite(config_class: type, args: list[str]) -> list[str]:
    """Split `--find-non-finite` off, unless the settings have a field of that name: it is for one start of a run alone."""
    flag = "--find-non-finite"
    if "find_non_finite" in _hints(config_class) or flag not in args:
        return args
    os.environ["PACCEL_FIND_NON_FINITE"] = "1"  # read by `loop/finder.py`
    return [argument for argument in args if argument != flag]


def _take_config_option(config_class: type, args: list[str]) -> tuple[list[str], Path | None]:
    """Split `--config FILE` off, unless the settings have a field of that name."""
    if "config" in _hints(config_class):
        return args, None
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config", action="append", default=[])
    try:
        taken, rest = parser.parse_known_args(args)
    except argparse.ArgumentError:
        raise ConfigError("`--config` needs a file: `--config FILE.toml`") from None
    files: list[str] = taken.config
    if len(files) > 1:
        raise ConfigError(f"`--config` was given {len(files)} times: {', '.join(f'`{f}`' for f in files)}; take one")
    return rest, Path(files[0]) if files else None


def _read_defaults(config_class: type[C], file: Path) -> C:
    """An instance that holds the file's values and the class's own defaults, and has not been validated yet.

    `__post_init__` shall see the settings as they will be, after the command line, so it is not run here.
    """
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"`--config {file}` cannot be read: {error.strerror}") from None
    except ValueError as error:  # not TOML, or not UTF-8
        raise ConfigError(f"`--config {file}` is not valid TOML: {error}") from None
    reader = _Reader()
    found = reader.table(config_class, table, "")
    if reader.problems:
        raise ConfigError(f"`--config {file}` does not fit the settings:\n" + "\n".join(reader.problems))
    instance = object.__new__(config_class)
    for field in _fields(config_class):
        value = found[field.name] if field.name in found else _default(field)
        object.__setattr__(instance, field.name, value)  # also where the class is frozen
    return instance


# Values as TOML and JSON have them, and as the fields want them


class _Reader:
    """Turns values of TOML and JSON into those that fields want, and collects what does not fit, one line each."""

    def __init__(self, *, skips_unknown: bool = False) -> None:
        self.problems: list[str] = []
        self.skips_unknown = skips_unknown

    def table(self, config_class: type, table: Mapping[str, Any], prefix: str) -> dict[str, Any]:
        """The values that fit, by field."""
        hints = _hints(config_class)
        defaults = {field.name: _default(field) for field in _fields(config_class)}
        found: dict[str, Any] = {}
        for key, value in table.items():
            name = key.replace("-", "_")
            if name not in hints:
                if not self.skips_unknown:
                    self.problems.append(f"  `{prefix}{key}` is unknown{_did_you_mean(name, hints)}")
            elif name in found:
                self.problems.append(f"  `{prefix}{name}` is given twice")
            else:
                found[name] = self.value(value, hints[name], f"{prefix}{name}", defaults[name])
        return found

    def value(self, value: Any, hint: Any, place: str, default: Any = None) -> Any:
        origin, arguments = get_origin(hint) or hint, get_args(hint)
        if origin in (Union, UnionType):
            if NoneType in arguments and value in (None, "None"):
                return None
            return self._one_of([arm for arm in arguments if arm is not NoneType], value, hint, place, default)
        if dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, Mapping):
            return self._dataclass(hint, value, place, default)
        if origin is Literal:
            if (type(value), value) in [(type(choice), choice) for choice in arguments]:
                return value
        elif origin in (tuple, list) and isinstance(value, list | tuple):
            items = _item_hints(hint, len(value))
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
        elif hint in _LEAVES:
            if type(value) in _LEAVES[hint][1] or (hint is float and value in ("inf", "-inf", "nan")):
                return hint(value)
        elif hint is Any or (hint is NoneType and value is None):
            return value
        self.problems.append(f"  `{place}` must be {_describe(hint)}, not {json.dumps(value, default=str)}")
        return None

    def _one_of(self, arms: Sequence[Any], value: Any, hint: Any, place: str, default: Any) -> Any:
        """The value as one of several types; a table without a class must fit one of them alone."""
        chosen = _class_named(arms, value[_CLASS]) if isinstance(value, Mapping) and _CLASS in value else None
        if chosen is not None:
            return self._dataclass(chosen, value, place, default)
        if len(arms) == 1:
            return self.value(value, arms[0], place, default)
        fits = []
        for arm in arms:
            attempt = _Reader(skips_unknown=False)
            result = attempt.value(value, arm, place, default)
            if not attempt.problems:
                fits.append((arm, result))
        several = [arm.__name__ for arm in _dataclasses([arm for arm, _ in fits])]
        if len(several) > 1:
            names = " or ".join(f"`{name}`" for name in several)
            self.problems.append(f'  `{place}` may be {names}: add `{_CLASS} = "{several[0]}"` to it, or another')
        elif fits:
            return fits[0][1]
        else:
            self.problems.append(f"  `{place}` must be {_describe(hint)}, not {json.dumps(value, default=str)}")
        return None

    def _dataclass(self, hint: type, value: Mapping[str, Any], place: str, default: Any) -> Any:
        name = value.get(_CLASS, hint.__name__)
        found = _class_named([hint], name)
        if found is None:
            self.problems.append(
                f"  `{place}.{_CLASS}` is {json.dumps(name, default=str)}, and must be `{hint.__name__}`"
            )
            return None
        before = len(self.problems)
        table = self.table(found, {k: v for k, v in value.items() if k != _CLASS}, f"{place}.")
        if type(default) is found:  # what a file leaves out is as the settings have it, not as the class has it
            table = {field.name: getattr(default, field.name) for field in _fields(found)} | table
        self.problems += [f"  `{place}.{name}` is missing" for name in _missing(found, table)]
        try:
            return found(**table) if len(self.problems) == before else None
        except ValueError as error:
            self.problems.append(f"  `{place}`: {error}")
            return None


def _to_plain(value: Any, hint: Any, place: str, problems: list[str]) -> Any:
    if value is None or type(value) in (bool, int, str):
        return value
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Integral):  # of NumPy
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, Path):
        return str(value)
    prefix = f"{place}." if place else ""
    if isinstance(value, list | tuple):
        fitting = next((arm for arm in _arms(hint) if (get_origin(arm) or arm) in (tuple, list)), Any)
        items = _item_hints(fitting, len(value))
        return [
            _to_plain(item, items[index] if index < len(items) else Any, f"{place}[{index}]", problems)
            for index, item in enumerate(value)
        ]
    if isinstance(value, Mapping):
        of_value = next((get_args(arm)[1] for arm in _arms(hint) if len(get_args(arm)) == 2), Any)
        plain = {}
        for key, item in value.items():
            name = key.name if isinstance(key, Enum) else key
            if not isinstance(name, str):
                problems.append(f"  `{place}` has the key {key!r}, which is no text")
            plain[name] = _to_plain(item, of_value, f"{prefix}{name}", problems)
        return plain
    if dataclasses.is_dataclass(value):
        hints = _hints(type(value))
        named = {} if _arms(hint) == [type(value)] else {_CLASS: type(value).__name__}
        return named | {
            name: _to_plain(getattr(value, name), hints[name], f"{prefix}{name}", problems) for name in hints
        }
    problems.append(f"  `{place}` is a `{type(value).__name__}`")
    return None


def _plain_default(config_class: Any, name: str, default: Any) -> Any:
    return _to_plain(default, _hints(config_class)[name], name, [])


def _expand_home(config: Any) -> None:
    """Put folders in the place of `~` and `~user`, in each path."""
    for field in _fields(config):
        object.__setattr__(config, field.name, _with_home(getattr(config, field.name)))  # also where it is frozen


def _with_home(value: Any) -> Any:
    if isinstance(value, Path):
        return value.expanduser()
    if type(value) in (list, tuple):
        return type(value)(map(_with_home, value))
    if type(value) is dict:
        return {key: _with_home(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        _expand_home(value)
    return value


# The types of fields


def _arms(hint: Any) -> list[Any]:
    """The types of which a value may be one, without None."""
    arms = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return [arm for arm in arms if arm is not NoneType]


def _item_hints(hint: Any, length: int) -> list[Any]:
    """The type of each item of a list or tuple of some length."""
    arguments = get_args(hint)
    if not arguments:
        return [Any] * length
    return [arguments[0]] * length if get_origin(hint) is list or Ellipsis in arguments else list(arguments)


def _with_subclasses(hint: type) -> list[type]:
    children: list[type] = type.__subclasses__(hint)
    return [hint, *(found for child in children for found in _with_subclasses(child))]


def _dataclasses(arms: Sequence[Any]) -> list[type]:
    return [arm for arm in arms if dataclasses.is_dataclass(arm) and isinstance(arm, type)]


def _class_named(arms: Sequence[Any], name: Any) -> type | None:
    """The dataclass of that name among types and their subclasses; `sgd` is `SGD`, as on the command line."""
    known = [found for arm in _dataclasses(arms) for found in _with_subclasses(arm)]
    return next((found for found in known if found.__name__.lower() == str(name).lower()), None)


def _dataclass_of(table: Any, hint: Any) -> type | None:
    """The dataclass that a table stands for."""
    if not isinstance(table, Mapping):
        return None
    arms = _dataclasses(_arms(hint))
    if _CLASS in table:
        return _class_named(arms, table[_CLASS])
    return arms[0] if len(arms) == 1 else None


def _missing(config_class: type, found: Collection[str]) -> list[str]:
    return [f.name for f in _fields(config_class) if f.name not in found and _default(f) is tyro.MISSING]


def _check_is_dataclass(config: Any) -> None:
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise ConfigError(f"Settings are an instance of a dataclass, not a `{type(config).__name__}`")


def _fields(config: Any) -> list[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(config) if field.init]


def _default(field: dataclasses.Field[Any]) -> Any:
    """A new default of a field; tyro's MISSING where it has none."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return tyro.MISSING if field.default is dataclasses.MISSING else field.default


def _hints(config_class: type) -> dict[str, Any]:
    hints = get_type_hints(config_class)
    return {field.name: hints[field.name] for field in _fields(config_class)}


def _describe(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(_describe(argument) for argument in arguments)
    if origin is Literal:
        return "one of " + ", ".join(f"`{argument}`" for argument in arguments)
    if origin in (tuple, list):
        return "a list" if origin is list or Ellipsis in arguments else f"a list of {len(arguments)}"
    if isinstance(hint, type) and issubclass(hint, Enum):
        return "one of " + ", ".join(f"`{name}`" for name in hint.__members__)
    if dataclasses.is_dataclass(hint) or (isinstance(origin or hint, type) and issubclass(origin or hint, Mapping)):
        return "a table"
    if hint in _LEAVES:
        return _LEAVES[hint][0]
    return '"None"' if hint is NoneType else f"a `{getattr(hint, '__name__', hint)}`"


def _did_you_mean(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean `{close[0]}`?" if close else ""
