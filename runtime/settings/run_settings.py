"""The settings that `Run` itself reads from a user's `Config`."""

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .fields import check_is_dataclass, fields, hints
from .limits import beyond_limits
from .plain import read_fields, to_plain

_NEAR = 0.9  # difflib's ratio: `time_limits` and `tracker` are near, `resume_from` and `speed` (to `seed`) are not


@dataclass(frozen=True)
class RunSettings:
    """The fields of a `Config` that `Run` reads. A field that the `Config` lacks has its default here."""

    seed: int | None = 0  # None draws one
    precision: str = "auto"  # auto, fp32, bf16 or fp16
    deterministic: bool = False  # deterministic algorithms only
    compile: bool = False  # compile the models
    run_dir: Path | None = None  # None is a new folder under runs/
    resume: str = "never"  # auto, never, or the path of a run or a checkpoint
    trackers: tuple[str, ...] = ()  # names of accelerate's trackers
    time_limit: float | None = None  # seconds after which the run saves and stops
    process_timeout: float | None = None  # seconds that processes wait for each other
    skip_non_finite: int = 0  # steps in a row that may be skipped because their gradient is not finite

    @classmethod
    def of(cls, config: Any, *, trains: bool = True) -> "RunSettings":
        """Read them from a user's settings.

        Args:
            config: The settings.
            trains: Whether to check the limits of numbers. An evaluation accepts the settings of an old run unchecked.

        Raises:
            ConfigError: The settings are not a dataclass, a value is of the wrong type, a number is beyond its limits
                (also one that only the loop reads, such as `log_every`), or a field's name is almost that of a field
                here, which would then silently keep its default. Lists all problems.
        """
        check_is_dataclass(config)
        types = hints(cls)
        given = [field.name for field in fields(config)]
        absent = [name for name in types if not hasattr(config, name)]
        problems: list[str] = []
        for name in given:
            if name not in types and (near := difflib.get_close_matches(name.lower(), absent, n=1, cutoff=_NEAR)):
                problems.append(f"  `{name}` is not read: rename it to `{near[0]}`, or to a name that is less similar")
        plain = {name: to_plain(getattr(config, name), Any, name, problems) for name in given if name in types}
        found, misfits = read_fields(cls, plain)
        problems += misfits
        if trains:
            problems += [f"  {problem}" for problem in beyond_limits({name: getattr(config, name) for name in given})]
        if problems:
            raise ConfigError(f"Settings of `{type(config).__name__}` that a run cannot use:\n" + "\n".join(problems))
        return cls(**found)
