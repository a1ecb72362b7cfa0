"""The public names of `paccel.runtime`, which imports this file, and PyTorch, when the first name is used."""

import difflib
from typing import NoReturn

from . import finetuning, schedules
from .checkpoints import Checkpoints
from .config import load_config
from .data.loader import Loader
from .early_stopping import EarlyStopping
from .ema import EMA
from .errors import AgreementError, CheckpointError, ConfigError, DataError, NonFiniteError, Stopped, exit_with_message
from .learning_rate import find_learning_rate
from .loading import load_run, load_weights
from .loop.step import Step
from .meter import Meter
from .run import Run
from .settings.changes import may_change

__all__ = [
    "EMA",
    "AgreementError",
    "CheckpointError",
    "Checkpoints",
    "ConfigError",
    "DataError",
    "EarlyStopping",
    "Loader",
    "Meter",
    "NonFiniteError",
    "Run",
    "Step",
    "Stopped",
    "exit_with_message",
    "find_learning_rate",
    "finetuning",
    "load_config",
    "load_run",
    "load_weights",
    "may_change",
    "schedules",
]


def __getattr__(name: str) -> NoReturn:
    near = difflib.get_close_matches(name, __all__, n=1)
    raise AttributeError(
        f"`{__package__}` has no `{name}`" + (f"; did you mean `{near[0]}`?" if near else ""), name=name
    )
