"""The range of each number that is a setting or an argument, in one table."""

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any, NamedTuple

from ..errors import ConfigError


class _Limit(NamedTuple):
    """The range of a number, and what None stands for; empty where None is no value."""

    least: float
    none_is: str = ""
    may_be_least: bool = True
    may_be_infinite: bool = False
    is_whole: bool = False

    def __str__(self) -> str:
        return f"{'at least' if self.may_be_least else 'above'} {self.least:g}"

    def broken_by(self, number: Any) -> str | None:
        """What the number must be, in words; None if it is in range."""
        is_large_enough = number >= self.least if self.may_be_least else number > self.least  # a NaN is not
        if not is_large_enough or (number == math.inf and not self.may_be_infinite):
            return str(self)
        return "a whole number" if self.is_whole and number != int(number) else None


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
    "process_timeout": _Limit(0, "PyTorch's default", may_be_least=False),
    "time_limit": _Limit(0, "off", may_be_least=False, may_be_infinite=True),
}


def beyond_limits(numbers: Mapping[str, Any], *, are_arguments: bool = False) -> list[str]:
    """Check numbers by their names. Returns a sentence for each that is out of range.

    Of settings, only numbers are checked; their types are checked elsewhere. An argument must be a number, or None
    where that has a meaning.
    """
    problems = []
    for name, number in numbers.items():
        limit = _LIMITS.get(name)
        if limit is None or (number is None and (limit.none_is or not are_arguments)):
            continue
        if isinstance(number, Real):
            wanted, shown = limit.broken_by(number), str(number)
        else:
            is_number = hasattr(number, "__float__") and not limit.is_whole  # such as a tensor
            wanted, shown = None if is_number or not are_arguments else str(limit), repr(number)
        if wanted is not None:
            none_is = f"; None is {limit.none_is}" if limit.none_is else ""
            problems.append(f"`{name}` must be {wanted}, not {shown}{none_is}")
    return problems


def check_limits(numbers: Mapping[str, Any]) -> None:
    """Check the arguments of a call by their names.

    Raises:
        ConfigError: Some are out of range or not numbers; lists all of them.
    """
    if problems := beyond_limits(numbers, are_arguments=True):
        raise ConfigError("\n".join(problems))
