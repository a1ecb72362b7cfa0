"""The best scores of a run, by which it keeps weights."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from ..errors import ConfigError
from ..hardware.agreement import Agreement
from ..record.reporting import Reporter


class BestScores:
    """The best scores so far and their steps. `status.json` shows the first of them.

    Args:
        name: Of the score. None is off.
        mode: Whether a smaller or a larger score is better.
        keep: How many to keep.
        agreement: The processes; the score of the main one counts.
        reporter: Prints the warnings, and has the record with the status.

    Attributes:
        ranking: Scores and steps, the best first.

    Raises:
        ConfigError: There is no such mode.
    """

    def __init__(
        self, name: str | None, mode: Literal["min", "max"], keep: int, agreement: Agreement, reporter: Reporter
    ) -> None:
        if mode not in ("min", "max"):
            raise ConfigError(f"`mode` must be `min` or `max`: {mode!r}")
        self.name, self.keep = name, keep
        self._mode, self._agreement, self._reporter = mode, agreement, reporter
        self.ranking: list[tuple[float, int]] = []
        self._show()

    @property
    def steps(self) -> set[int]:
        return {step for _, step in self.ranking}

    def state_dict(self) -> list[list[float]]:
        return [list(best) for best in self.ranking]

    def load_state_dict(self, state: Iterable[tuple[float, int]]) -> None:
        self.ranking = [(float(score), int(step)) for score, step in state]
        self._show()

    def check(self, scores: Mapping[str, Any]) -> None:
        """Check that `scores` has the one to choose by. Collective.

        Raises:
            ConfigError: It is missing, or no number.
        """
        if self.name is not None:
            self._agreed(scores, self.name)

    def add(self, scores: Mapping[str, Any], step: int) -> int | None:
        """Rank the score of a step. Collective.

        Of equal scores the later, trained longer, is the better one; a NaN is never among the best.

        Returns:
            Its place, 0 for the best; None if it is not among the best.

        Raises:
            ConfigError: It is missing, or no number.
        """
        if self.name is None:
            return None
        score = self._agreed(scores, self.name)
        if math.isnan(score):
            self._reporter.warn(f"the score `{self.name}` is nan: the weights of step {step} are not the best")
            return None
        sign = 1 if self._mode == "min" else -1
        ranking = sorted([*self.ranking, (score, step)], key=lambda best: (sign * best[0], -best[1]))
        self.ranking = ranking[: self.keep]
        self._show()
        return self.ranking.index((score, step)) if (score, step) in self.ranking else None

    def _agreed(self, scores: Mapping[str, Any], name: str) -> float:
        """The main process's score, with a warning if other processes have different ones. Collective."""
        own, problem = math.nan, None
        if name not in scores:
            others = f"there are {', '.join(scores)}" if scores else "there are none, as the evaluation saw no sample"
            problem = f"No score `{name}` to choose the best by: {others}"
        else:
            try:
                own = float(scores[name])
            except (TypeError, ValueError, RuntimeError):
                problem = f"The score `{name}` to choose the best by is no number: {scores[name]!r}"
        found = self._agreement.gather((own, problem))
        score, problem = found[0]
        if problem:
            raise ConfigError(problem)
        if len({repr(other) for other, _ in found}) > 1:
            values = ", ".join(f"{other:g}" for other, _ in found[:8])
            self._reporter.warn(f"the processes have different scores `{name}` ({values}): that of process 0 counts")
        return score

    def _show(self) -> None:
        """Put the name and value of the best score into the status."""
        if self._reporter.record is not None and self.name is not None:
            score, step = self.ranking[0] if self.ranking else (None, None)
            finite = score if score is None or math.isfinite(score) else None
            self._reporter.record.best = {"score": self.name, "mode": self._mode, "value": finite, "step": step}
