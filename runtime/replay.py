"""A part of a run made again, in a folder that is no run of its own: what `paccel verify` starts.

`PACCEL_REPLAY` in the environment holds JSON: `run_dir`, a copy of the run's directory up to the step where the replay begins;
`until`, its last step; and `saves`, whether the loop is asked to stop there, and so to save.
"""

import json
import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

from .errors import ConfigError
from .settings.run_settings import RunSettings

VARIABLE = "PACCEL_REPLAY"


@dataclass(frozen=True)
class Replay:
    """What to make again.

    Attributes:
        run_dir: Where; the run in it goes on.
        until: The last step; infinity is the end of the run.
        saves: Whether to stop at the last step as on a signal, where the run may have saved because of one.
    """

    run_dir: Path
    until: float = math.inf
    saves: bool = False

    def applied_to(self, settings: RunSettings) -> RunSettings:
        """The settings of the run, for the replay: in its folder, without trackers and time limit."""
        return replace(settings, run_dir=self.run_dir, resume="auto", trackers=(), time_limit=None)


def read_replay() -> Replay | None:
    """What the environment asks for; None in a run of its own.

    Raises:
        ConfigError: The variable is not what `paccel verify` sets.
    """
    text = os.environ.get(VARIABLE)
    if not text:
        return None
    try:
        asked = json.loads(text)
        until = asked.get("until")
        return Replay(Path(asked["run_dir"]), math.inf if until is None else int(until), bool(asked.get("saves")))
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ConfigError(f"`{VARIABLE}` is set by `paccel verify`, and cannot be `{text}`: unset it") from None
