"""Settings: a dataclass from the command line, from a TOML file, and as JSON; and those of them that a run reads."""

import argparse
import contextlib
import dataclasses
import difflib
import inspect
import io
import json
import math
import os
import sys
import tomllib
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import tyro

from .errors import ConfigError

C = TypeVar("C")

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
        config_class: A dataclass with fields of the types bool, int, float, str, Path, Literal, Enum, tuples and
            lists of them, dataclasses, and any of these or None.
        args: Instead of the command line, without the program's name.
    """
    shown = os.environ.get("LOCAL_RANK", "0") == "0"
    try:
        rest, file = _take_config_option(config_class, list(sys.argv[1:] if args is None else args))
        default: Any = None if file is None else _read_defaults(config_class, file)
        about = inspect.cleandoc(config_class.__doc__ or "")
        if about.startswith(f"{config_class.__name__}("):  # what dataclasses put where nothing was written
            about = ""
        description = (
            f"{about}\n\n`--config FILE.toml` takes values from a file; the command line wins over it.".strip()
        )
        silence = contextlib.nullcontext() if shown else contextlib.redirect_stderr(io.StringIO())
        with silence:  # for what tyro says all the same
            config: C = tyro.cli(
                config_class, args=rest, default=default, description=description, console_outputs=shown
            )
        return config
    except ValueError as error:
        if shown:
            sys.stderr.write(f"{error}\nFor all settings: python {sys.argv[0]} --help\n")
        raise SystemExit(2) from None


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """The fields of a `Config` that `Run` reads, each at its default where the `Config` has none of that name."""

    seed: int = 0
    precision: str = "auto"  # auto, fp32, bf16 or fp16
    deterministic: bool = False  # deterministic algorithms only
    compile: bool = False  # compile the models
    run_dir: Path | None = None  # None is a new folder under runs/
    resume: str = "never"  # auto, never, or the path of a run or a checkpoint
    trackers: tuple[str, ...] = ()  # accelerate's, by name
    time_limit: float | None = None  # seconds after which the run saves and stops
    skip_non_finite: int = 0  # steps in a row that may be skipped because their gradient is not finite

    @classmethod
    def of(cls, config: Any) -> "RunSettings":
        """Read them from a user's settings.

        Raises:
            ConfigError: They are not a dataclass, a value is of the wrong type, or a field is spelt almost like one of
                these, which would be silently off; lists all of it.
        """
        _check_is_dataclass(config)
        hints = _hints(cls)
        given = [field.name for field in _fields(config)]
        absent = [name for name in hints if not hasattr(config, name)]
        problems: list[str] = []
        for name in given:
            if name not in hints and (near := difflib.get_close_matches(name.lower(), absent, n=1, cutoff=_NEAR)):
                problems.append(f"  `{name}` is not read: rename it to `{near[0]}`, or to something less like it")
        plain = {name: _to_plain(getattr(config, name), name, problems) for name in given if name in hints}
        found = _from_table(cls, plain, "", problems)
        if problems:
            raise ConfigError(f"Settings of `{type(config).__name__}` that a run cannot read:\n" + "\n".join(problems))
        return cls(**found)


def config_to_dict(config: Any) -> dict[str, Any]:
    """The settings as JSON has words for them: paths as text, tuples as lists, `inf` and `nan` as text.

    Raises:
        ConfigError: Something that `config_from_dict` could not read back; lists all of it.
    """
    _check_is_dataclass(config)
    problems: list[str] = []
    plain = _to_plain(config, "", problems)
    if problems:
        raise ConfigError("Settings that cannot be saved, and could be text instead:\n" + "\n".join(problems))
    return dict(plain)


def config_from_dict(config_class: type[C], values: Mapping[str, Any]) -> C:
    """The inverse of `config_to_dict`.

    Raises:
        ConfigError: Names are unknown or missing, or values are of the wrong type; lists all of them.
    """
    problems: list[str] = []
    found = _from_table(config_class, values, "", problems)
    problems += [f"  `{field.name}` is missing" for field in _fields(config_class) if field.name not in found]
    if problems:
        raise ConfigError(f"The settings do not fit `{config_class.__name__}`:\n" + "\n".join(problems))
    try:
        return config_class(**found)
    except ValueError as error:
        raise ConfigError(str(error)) from error


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
    problems: list[str] = []
    found = _from_table(config_class, table, "", problems)
    if problems:
        raise ConfigError(f"`--config {file}` does not fit the settings:\n" + "\n".join(problems))
    instance = object.__new__(config_class)
    for field in _fields(config_class):
        value = found[field.name] if field.name in found else _default(field)
        object.__setattr__(instance, field.name, value)  # also where the class is frozen
    return instance


# Values as TOML and JSON have them, and as the fields want them


def _from_table(config_class: type, table: Mapping[str, Any], prefix: str, problems: list[str]) -> dict[str, Any]:
    """The values that fit, by field; what does not fit goes to `problems`, one line each."""
    hints = _hints(config_class)
    found: dict[str, Any] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in hints:
            problems.append(f"  `{prefix}{key}` is unknown{_did_you_mean(name, hints)}")
        elif name in found:
            problems.append(f"  `{prefix}{name}` is given twice")
        else:
            found[name] = _from_plain(value, hints[name], f"{prefix}{name}", problems)
    return found


def _from_plain(value: Any, hint: Any, place: str, problems: list[str]) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        if NoneType in arguments and value in (None, "None"):
            return None
        choices = [choice for choice in arguments if choice is not NoneType]
        if len(choices) == 1:
            return _from_plain(value, choices[0], place, problems)
        for choice in choices:
            misfits: list[str] = []
            result = _from_plain(value, choice, place, misfits)
            if not misfits:
                return result
    elif dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, Mapping):
        before = len(problems)
        table = _from_table(hint, value, f"{place}.", problems)
        missing = [f for f in _fields(hint) if f.name not in table and _default(f) is tyro.MISSING]
        problems += [f"  `{place}.{field.name}` is missing" for field in missing]
        try:
            return hint(**table) if len(problems) == before else None
        except ValueError as error:
            problems.append(f"  `{place}`: {error}")
            return None
    elif origin is Literal:
        if (type(value), value) in [(type(choice), choice) for choice in arguments]:
            return value
    elif origin in (tuple, list) and isinstance(value, list | tuple):
        is_repeated = origin is list or Ellipsis in arguments
        items = [arguments[0]] * len(value) if is_repeated else arguments
        if len(items) == len(value):
            pairs = zip(value, items, strict=True)
            return origin(_from_plain(v, h, f"{place}[{i}]", problems) for i, (v, h) in enumerate(pairs))
    elif isinstance(hint, type) and issubclass(hint, Enum):
        if isinstance(value, str) and value in hint.__members__:
            return hint[value]
    elif hint in _LEAVES:
        if type(value) in _LEAVES[hint][1] or (hint is float and value in ("inf", "-inf", "nan")):
            return hint(value)
    elif hint is Any or (hint is NoneType and value is None):
        return value
    problems.append(f"  `{place}` must be {_describe(hint)}, not {json.dumps(value, default=str)}")
    return None


def _to_plain(value: Any, place: str, problems: list[str]) -> Any:
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, list | tuple):
        return [_to_plain(item, f"{place}[{index}]", problems) for index, item in enumerate(value)]
    if dataclasses.is_dataclass(value):
        prefix = f"{place}." if place else ""
        return {f.name: _to_plain(getattr(value, f.name), f"{prefix}{f.name}", problems) for f in _fields(value)}
    problems.append(f"  `{place}` is a `{type(value).__name__}`")
    return None


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
    if dataclasses.is_dataclass(hint):
        return "a table"
    if hint in _LEAVES:
        return _LEAVES[hint][0]
    return '"None"' if hint is NoneType else f"a `{getattr(hint, '__name__', hint)}`"


def _did_you_mean(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean `{close[0]}`?" if close else ""
