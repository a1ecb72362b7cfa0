"""Stopping when a score no longer gets better."""

import math
from typing import Any, Literal

from .errors import ConfigError


class EarlyStopping:
    """Says when a score has not got better for some evaluations.

    A score that is None or not a number counts as one that is not better. An infinite one is compared as usual.

    Args:
        patience: Evaluations in a row without a better score after which to stop. At least 1.
        mode: Whether a smaller or a larger score is better.
        min_delta: By how much a score must differ from the best to be better, in the score's unit.

    Raises:
        ConfigError: Arguments that cannot be meant; lists all problems.
    """

    def __init__(self, patience: int, mode: Literal["min", "max"] = "min", min_delta: float = 0.0) -> None:
        problems = []
        if isinstance(patience, bool) or not isinstance(patience, int) or patience < 1:
            problems.append(f"`patience` must be a whole number of evaluations, at least 1: {patience!r}")
        if mode not in ("min", "max"):
            problems.append(f"`mode` must be `min` or `max`: {mode!r}")
        if not 0 <= min_delta < math.inf:
            problems.append(f"`min_delta` must be 0 or more: {min_delta!r}")
        if problems:
            raise ConfigError("\n".join(problems))
        self.patience = patience
        self.mode = mode
        self.min_delta = min_delta
        self.best: float | None = None
        self.evaluations_since_best = 0

    def should_stop(self, value: float | None) -> bool:
        """Take the score of one evaluation, and say whether patience is at an end.

        Pass the same value on all processes, as `Meter.read` returns it, and all get the same answer.
        """
        if value is not None and self._is_better(float(value)):
            self.best, self.evaluations_since_best = float(value), 0
        else:
            self.evaluations_since_best += 1
        return self.evaluations_since_best >= self.patience

    def _is_better(self, value: float) -> bool:
        if self.best is None or math.isnan(value):
            return not math.isnan(value)
        return value < self.best - self.min_delta if self.mode == "min" else value > self.best + self.min_delta

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "evaluations_since_best": self.evaluations_since_best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.evaluations_since_best = state["best"], state["evaluations_since_best"]
