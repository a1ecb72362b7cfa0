"""A replay: part of a run, trained again in a folder of its own. `paccel verify` starts it.

The environment variable `PACCEL_REPLAY` holds JSON: `run_dir`, a copy of the run's directory that ends at the step where
the replay starts; `until`, the last step to replay; `saves`, whether the loop is asked to stop there, and so saves.
"""

import json
import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import ConfigError
from .run_settings import RunSettings

VARIABLE = "PACCEL_REPLAY"


@dataclass(frozen=True)
class Replay:
    """What to replay.

    Attributes:
        run_dir: The folder in which the copy of the run is resumed.
        until: The last step; infinity is the end of the run.
        saves: Whether to stop after the last step as on a signal, because the run may have saved there on a signal.
    """

    run_dir: Path
    until: float = math.inf
    saves: bool = False

    def applied_to(self, settings: RunSettings) -> RunSettings:
        """The run's settings for the replay: in its folder, without trackers and time limit."""
        return replace(settings, run_dir=self.run_dir, resume="auto", trackers=(), time_limit=None)


def read_replay() -> Replay | None:
    """The replay that the environment requests; None if this is an ordinary run.

    Raises:
        ConfigError: The variable does not hold what `paccel verify` writes.
    """
    text = os.environ.get(VARIABLE)
    if not text:
        return None
    try:
        request = json.loads(text)
        until = request.get("until")
        return Replay(Path(request["run_dir"]), math.inf if until is None else int(until), bool(request.get("saves")))
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ConfigError(f"`{VARIABLE}` is set to `{text}`, but only `paccel verify` sets it: unset it") from None
