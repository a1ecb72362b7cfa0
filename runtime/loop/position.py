"""Where a run is, and whether it is over."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ..data.shuffle import ORDER_VERSION


@dataclass
class Position:
    """Where a run stands: all that a loop needs to go on. Everything is counted from 1; 0 is before the first."""

    step: int = 0
    epoch: int = 0
    step_in_epoch: int = 0
    epoch_is_over: bool = True  # its steps are done; whoever saves after the loop has done all that the loop does there
    epoch_is_cut: bool = False  # `max_steps` ended it: a run with more steps goes on in it
    finished: str | None = None  # why the run ended before its last epoch
    stream: Any = None  # the state of a stream of training data after this step
    stream_is_over: bool = False  # no data follows in this epoch
    samples_in_epoch: int | None = None  # that `step_in_epoch` steps had; None in a checkpoint of paccel 0.1
    pass_in_epoch: int = 0  # which loader's steps, where the loop takes several one after the other in each epoch
    beside: dict[str, list[int]] = field(
        default_factory=dict
    )  # by loader: epoch and samples, of those beside the steps
    data: dict[str, dict[str, Any]] = field(default_factory=dict)  # by loader: what its place is a place of

    order: int = ORDER_VERSION  # of shuffled data; a run of paccel 0.1 has none saved, and keeps its own

    # What the loop was told, and is told again when it is resumed: not saved
    epochs: int | None = None
    max_steps: int | None = None
    replay_until: float = math.inf  # the last step, where a part of a run is made again
    was_saved_after_pass: bool = False  # outside of all steps of this epoch, of which no more should follow

    @property
    def last_step(self) -> float:
        """The step at which the run ends at the latest; infinity where no number of steps was given."""
        return math.inf if self.max_steps is None else self.max_steps

    def is_over(self) -> bool:
        """Whether no epoch is left: the last one is over, the steps are used up, or the loop has said so."""
        all_epochs = self.epochs is not None and self.epoch >= self.epochs and not self.epoch_is_cut
        return self.finished is not None or (self.epoch_is_over and (all_epochs or self.step >= self.last_step))

    def begin_pass(self, number: int) -> None:
        """Begin the steps of one loader in this epoch, `number` counted from 0."""
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
