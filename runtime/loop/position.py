"""The position of a run in its epochs and steps, and whether the run is over."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ..data.shuffle import ORDER_VERSION


@dataclass
class Position:
    """Where a run is: what a loop needs to continue. Steps and epochs are counted from 1; 0 is before the first."""

    step: int = 0
    epoch: int = 0
    step_in_epoch: int = 0
    epoch_is_over: bool = True  # the loop over its steps has ended: a checkpoint saved now resumes with the next epoch
    epoch_is_cut: bool = False  # `max_steps` ended it early: a run resumed with more steps continues in it
    finished: str | None = None  # why the run ended before its last epoch
    stream: Any = None  # the state of the training data after this step, if it is a stream
    stream_is_over: bool = False  # the epoch has no more data
    samples_in_epoch: int | None = None  # in its first `step_in_epoch` steps; None if saved by paccel 0.1
    pass_in_epoch: int = 0  # if an epoch has several loops over steps: which one, counted from 0
    beside: dict[str, list[int]] = field(default_factory=dict)  # epoch and samples of each loader of `Step.beside`
    data: dict[str, dict[str, Any]] = field(default_factory=dict)  # the description of each loader's data
    order: int = ORDER_VERSION  # version of shuffling; 1 if saved by paccel 0.1, which has no such entry

    # Not saved
    epochs: int | None = None
    max_steps: int | None = None
    replay_until: float = math.inf  # the last step of a replay
    was_saved_after_pass: bool = False  # in this epoch, so no other loop over steps may follow

    @property
    def last_step(self) -> float:
        """`max_steps`, or infinity."""
        return math.inf if self.max_steps is None else self.max_steps

    def is_over(self) -> bool:
        """Whether no epoch is left: all epochs or steps are done, or the run was finished early."""
        all_epochs = self.epochs is not None and self.epoch >= self.epochs and not self.epoch_is_cut
        return self.finished is not None or (self.epoch_is_over and (all_epochs or self.step >= self.last_step))

    def begin_pass(self, number: int) -> None:
        """Begin a loop over steps in this epoch, `number` counted from 0."""
        self.pass_in_epoch, self.step_in_epoch, self.samples_in_epoch = number, 0, 0
        self.stream, self.stream_is_over = None, False

    def state_dict(self) -> dict[str, Any]:
        self.was_saved_after_pass = self.epoch_is_over and self.step_in_epoch > 0
        state = asdict(self)
        del state["epochs"], state["max_steps"], state["replay_until"], state["was_saved_after_pass"]
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, value in {"order": 1, **state}.items():
            setattr(self, name, value)
