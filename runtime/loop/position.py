"""Where a run is."""

from dataclasses import dataclass
from typing import Any


@dataclass
class Position:
    """Where a run stands: all that a loop needs to go on. Everything is counted from 1; 0 is before the first."""

    step: int = 0
    epoch: int = 0
    step_in_epoch: int = 0
    epoch_is_over: bool = True  # its steps are done; who saves behind them has done there what the loop does there
    epoch_is_cut: bool = False  # `max_steps` ended it: a run with more steps goes on in it
    finished: str | None = None  # why the run ended before its last epoch
    stream: Any = None  # what a stream of training data says of itself behind this step
    stream_is_over: bool = False  # it has nothing behind this step, in this epoch
