"""Settings from the command line and from a TOML file."""

import argparse
import contextlib
import dataclasses
import inspect
import io
import os
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro

from .errors import ConfigError, local_rank
from .settings.fields import default_of, fields, hints
from .settings.plain import read_fields

C = TypeVar("C")

_FIND_NON_FINITE = "--find-non-finite"


def load_config(config_class: type[C], args: Sequence[str] | None = None) -> C:
    """Read settings from the command line, one flag per field: `--learning-rate 3e-4` or `--learning_rate 3e-4`.

    `--config FILE.toml` reads values from a file, by field name; flags override it. `None` stands for None in both.
    `--help` shows each field with its documentation, the string below it or the comment after it. A mistake ends the
    process with exit code 2 and one message, shown once per host: the flag that cannot be parsed, all that is wrong in
    the file, or the text of a ValueError from `__post_init__`.

    Args:
        config_class: A dataclass with fields of the types bool, int, float, str, Path, Literal, Enum, tuples, lists and
            `dict[str, …]` of them, dataclasses, and any of these or None. Where a field allows several dataclasses,
            `optimizer:sgd` chooses one, and in a file `class = "SGD"` in its table. `~` in a path is the home folder.
        args: Arguments to parse instead of the command line, without the program's name.
    """
    shown = local_rank() == 0
    try:
        flags = _take_find_non_finite(config_class, list(sys.argv[1:] if args is None else args))
        rest, file = _take_config_option(config_class, flags)
        from_file: Any = None if file is None else _read_file(config_class, file)
        silence = contextlib.nullcontext() if shown else contextlib.redirect_stderr(io.StringIO())
        with silence:  # tyro prints some messages even without `console_outputs`
            config: C = tyro.cli(
                config_class,
                args=rest,
                default=from_file,
                description=_description(config_class),
                console_outputs=shown,
            )
        _expand_home(config)
        return config
    except ValueError as error:
        if shown:
            print(f"{error}\nFor all settings: python {sys.argv[0]} --help", file=sys.stderr)
        raise SystemExit(2) from None


def _description(config_class: type) -> str:
    """The text at the top of `--help`."""
    about = inspect.cleandoc(config_class.__doc__ or "")
    if about.startswith(f"{config_class.__name__}("):  # written by `dataclass` where there is no docstring
        about = ""
    return (
        f"{about}\n\n`--config FILE.toml` reads settings from a file; flags override it. `{_FIND_NON_FINITE}` stops at "
        "the first module that returns a NaN or an infinity."
    ).strip()


def _take_find_non_finite(config_class: type, args: list[str]) -> list[str]:
    """Remove `--find-non-finite`, unless it is a field: it concerns this start only, and is no setting of the run."""
    if "find_non_finite" in hints(config_class) or _FIND_NON_FINITE not in args:
        return args
    os.environ["PACCEL_FIND_NON_FINITE"] = "1"  # read by `loop/finder.py`
    return [argument for argument in args if argument != _FIND_NON_FINITE]


def _take_config_option(config_class: type, args: list[str]) -> tuple[list[str], Path | None]:
    """Split off `--config FILE`, unless the settings have a field of that name."""
    if "config" in hints(config_class):
        return args, None
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config", action="append", default=[])
    try:
        taken, rest = parser.parse_known_args(args)
    except argparse.ArgumentError:
        raise ConfigError("`--config` needs a file: `--config FILE.toml`") from None
    files: list[str] = taken.config
    if len(files) > 1:
        raise ConfigError(f"`--config` was given {len(files)} times: {', '.join(f'`{f}`' for f in files)}; pass one")
    return rest, Path(files[0]) if files else None


def _read_file(config_class: type[C], file: Path) -> C:
    """An instance with the file's values and otherwise the class's defaults, made without `__init__`.

    So `__post_init__` checks the settings only once, with the command line applied.
    """
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"`--config {file}` cannot be read: {error.strerror}") from None
    except ValueError as error:  # not TOML, or not UTF-8
        raise ConfigError(f"`--config {file}` is not valid TOML: {error}") from None
    found, problems = read_fields(config_class, table)
    if problems:
        raise ConfigError(f"`--config {file}` does not fit the settings:\n" + "\n".join(problems))
    instance = object.__new__(config_class)
    for field in fields(config_class):
        value = found[field.name] if field.name in found else default_of(field)
        object.__setattr__(instance, field.name, value)  # the class may be frozen
    return instance


def _expand_home(config: Any) -> None:
    """Replace `~` and `~user` by home folders, in every path."""
    for field in fields(config):
        object.__setattr__(config, field.name, _with_home(getattr(config, field.name)))  # the class may be frozen


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
