"""Stopping when a score no longer improves."""

import math
from typing import Any, Literal

from .errors import ConfigError
from .hardware.agreement import from_main


class EarlyStopping:
    """Says when to stop: when a score has not improved for several evaluations.

    A score that is None or NaN counts as no improvement. An infinite score is compared as usual.

    Args:
        patience: Consecutive evaluations without improvement after which to stop. At least 1.
        mode: Whether a smaller or a larger score is better.
        min_delta: Smallest change that counts as an improvement, in the unit of the score.

    Raises:
        ConfigError: Invalid arguments; lists all problems.
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
        """Record the score of one evaluation; returns whether to stop.

        Collective: the score of the main process decides on all.

        Raises:
            ConfigError: The score is no number.
        """
        value = from_main(value)
        try:
            value = None if value is None else float(value)
        except (TypeError, ValueError, RuntimeError):
            raise ConfigError(f"The score to stop by is no number: {value!r}") from None
        if value is not None and self._is_better(value):
            self.best, self.evaluations_since_best = value, 0
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
