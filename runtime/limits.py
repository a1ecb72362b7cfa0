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
    is_whole: bool = False

    def __str__(self) -> str:
        return f"{'at least' if self.may_be_least else 'above'} {self.least:g}"


_LIMITS = {
    "batch_size": _Limit(1, is_whole=True),
    "epochs": _Limit(1, "off", is_whole=True),
    "max_steps": _Limit(1, "off", is_whole=True),
    "global_batch_size": _Limit(1, is_whole=True),
    "eval_batch_size": _Limit(1, is_whole=True),
    "micro_batch_size": _Limit(1, "off", is_whole=True),
    "accumulate": _Limit(1, is_whole=True),
    "passes": _Limit(1, is_whole=True),
    "limit_batches": _Limit(1, "off", is_whole=True),
    "num_workers": _Limit(0, is_whole=True),
    "learning_rate": _Limit(0),
    "weight_decay": _Limit(0),
    "max_grad_norm": _Limit(0, "off", may_be_least=False, may_be_infinite=True),
    "log_every": _Limit(1, "off", is_whole=True),
    "eval_every": _Limit(1, "after each epoch", is_whole=True),
    "save_every": _Limit(1, "after each epoch", is_whole=True),
    "Step.every": _Limit(1, "off", is_whole=True),
    "Step.due": _Limit(1, "after each epoch", is_whole=True),
    "keep_last": _Limit(1, is_whole=True),
    "keep_best": _Limit(1, is_whole=True),
    "max_shard_size": _Limit(1, is_whole=True),
    "patience": _Limit(1, is_whole=True),
    "skip_non_finite": _Limit(0, is_whole=True),
    "process_timeout": _Limit(0, "PyTorch's own", may_be_least=False),
    "time_limit": _Limit(0, "off", may_be_least=False, may_be_infinite=True),
}


def beyond_limits(numbers: Mapping[str, Any], *, are_arguments: bool = False) -> list[str]:
    """What is wrong with the numbers that have a limit, a sentence each.

    None passes, and what is no number. Among the arguments of a call, they pass only where None is off.
    """
    problems = []
    for name, number in numbers.items():
        limit = _LIMITS.get(name)
        if limit is None or (number is None and (limit.none_is or not are_arguments)):
            continue
        is_number, is_broken = isinstance(number, Real), False
        if is_number:
            fits = number >= limit.least if limit.may_be_least else number > limit.least  # NaN never fits
            fits = fits and (number != math.inf or limit.may_be_infinite)
            is_broken = fits and limit.is_whole and number != int(number)
        else:
            fits = not are_arguments or (hasattr(number, "__float__") and not limit.is_whole)  # as of a tensor
        if not fits or is_broken:
            off = f"; None is {limit.none_is}" if limit.none_is else ""
            problems.append(
                f"`{name}` must be {'a whole number' if is_broken else limit}, not {number if is_number else repr(number)}{off}"
            )
    return problems


def check_limits(numbers: Mapping[str, Any]) -> None:
    """Check the arguments of a call by their names.

    Raises:
        ConfigError: Some are beyond their limits, or no numbers; lists all of them.
    """
    if problems := beyond_limits(numbers, are_arguments=True):
        raise ConfigError("\n".join(problems))
