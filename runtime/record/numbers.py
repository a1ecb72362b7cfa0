"""Turns logged values (tensors, arrays, lists, dicts) into named numbers."""

import math
from collections.abc import Iterator, Mapping
from itertools import islice
from numbers import Integral, Real
from typing import Any

from ..errors import ConfigError

NOTHING = float("nan")
"""The mean of no values. Compared with `is`, since it must differ from a NaN that was computed."""

_MOST = 1000  # numbers per name


def as_numbers(section: str, values: Mapping[str, Any]) -> dict[str, float]:
    """Convert values to numbers. Several numbers become `name/0`, `name/1`, …, those in a dict `name/key`.

    Synchronises the device for each tensor. None is left out.

    Args:
        section: The first part of the logged name, for messages.
        values: The values by name.

    Raises:
        ConfigError: A value is no number, too large for a float, or more than 1000 numbers; lists all of them.
    """
    numbers: dict[str, float] = {}
    problems = []
    for name, value in values.items():
        try:
            found = dict(islice(_numbers_in(str(name), value), _MOST + 1))
            if len(found) > _MOST:
                raise ValueError(f"it has more than {_MOST} numbers")
            numbers |= found
        except (TypeError, ValueError, OverflowError, RuntimeError) as error:  # RuntimeError: nested and sparse tensors
            problems.append(f"`{section}/{name}` cannot be logged: {error}")
    if problems:
        raise ConfigError("\n".join(problems))
    return numbers


def _numbers_in(name: str, value: Any) -> Iterator[tuple[str, float]]:
    shape = getattr(value, "shape", ())
    if math.prod(shape) > _MOST:
        raise ValueError(f"it has {math.prod(shape)} numbers, shape {tuple(shape)}; at most {_MOST} can be logged")
    if hasattr(value, "tolist"):  # PyTorch and NumPy; returns a number for a scalar
        value = value.tolist()
    if isinstance(value, Mapping | list | tuple):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, item in items:
            yield from _numbers_in(f"{name}/{key}", item)
    elif value is not None:
        yield name, _number(value)


def _number(value: Any) -> float:
    if isinstance(value, bool):
        return value
    if isinstance(value, Real) or (hasattr(value, "__float__") and not isinstance(value, str | bytes)):
        number = float(value)  # raises an error if it is too large
        return int(value) if isinstance(value, Integral) else number
    text = repr(value)
    raise TypeError(f"it is no number: {text if len(text) < 60 else f'a {type(value).__name__}'}")
