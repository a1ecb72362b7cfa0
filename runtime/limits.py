"""What numbers settings and arguments may be: one table, by name."""

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any, NamedTuple

from .errors import ConfigError


class _Limit(NamedTuple):
    """The range of a number, and what to pass instead of a number that would mean "off"."""

    least: float
    none_is: str = ""
    may_be_least: bool = True
    may_be_infinite: bool = False

    def __str__(self) -> str:
        return f"{'at least' if self.may_be_least else 'above'} {self.least:g}"


_LIMITS = {
    "epochs": _Limit(1, "off"),
    "max_steps": _Limit(1, "off"),
    "global_batch_size": _Limit(1),
    "eval_batch_size": _Limit(1),
    "micro_batch_size": _Limit(1),
    "accumulate": _Limit(1),
    "passes": _Limit(1),
    "limit_batches": _Limit(1, "off"),
    "num_workers": _Limit(0),
    "learning_rate": _Limit(0),
    "weight_decay": _Limit(0),
    "max_grad_norm": _Limit(0, "off", may_be_least=False, may_be_infinite=True),
    "log_every": _Limit(1, "off"),
    "eval_every": _Limit(1, "after each epoch"),
    "save_every": _Limit(1, "after each epoch"),
    "Step.every": _Limit(1, "off"),
    "Step.due": _Limit(1, "after each epoch"),
    "keep_last": _Limit(1),
    "keep_best": _Limit(1),
    "patience": _Limit(1),
    "skip_non_finite": _Limit(0),
    "process_timeout": _Limit(0, "PyTorch's own", may_be_least=False),
    "time_limit": _Limit(0, "off", may_be_least=False, may_be_infinite=True),
}


def beyond_limits(numbers: Mapping[str, Any]) -> list[str]:
    """What is wrong with the numbers that have a limit, a sentence each. None, and what is no number, passes."""
    problems = []
    for name, number in numbers.items():
        limit, is_number = _LIMITS.get(name), isinstance(number, Real)
        if limit is None or not is_number:
            continue
        fits = number >= limit.least if limit.may_be_least else number > limit.least
        if not fits or (number == math.inf and not limit.may_be_infinite):  # NaN never fits
            off = f"; None is {limit.none_is}" if limit.none_is else ""
            problems.append(f"`{name}` must be {limit}, not {number}{off}")
    return problems


def check_limits(numbers: Mapping[str, Any]) -> None:
    """Check numbers by their names.

    Raises:
        ConfigError: Some are beyond their limits; lists all of them.
    """
    if problems := beyond_limits(numbers):
        raise ConfigError("\n".join(problems))
