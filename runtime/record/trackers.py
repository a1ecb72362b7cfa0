"""Trackers, through accelerate: one that fails is dropped, and training continues."""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from accelerate.utils import LoggerType

from ..errors import ConfigError
from ..storage.files import atomic_write, json_bytes
from . import progress

# Trackers that can resume their own run: how to get its ID from the run, and the options that resume it
_RUN_ID: dict[str, Callable[[Any], str]] = {
    "wandb": lambda run: run.id,
    "mlflow": lambda run: run.info.run_id,
    "trackio": lambda run: run.name,
}
_RESUME_OPTIONS: dict[str, Callable[[str], dict[str, Any]]] = {
    "wandb": lambda run_id: {"id": run_id, "resume": "allow"},
    "mlflow": lambda run_id: {"run_id": run_id},
    "trackio": lambda run_id: {"name": run_id, "resume": "allow"},
}


def check_trackers(names: tuple[str, ...]) -> None:
    """Check that accelerate knows all trackers and that they are installed.

    Raises:
        ConfigError: Some are unknown or not installed; lists all of them.
    """
    missing = {str(name) for name in set(LoggerType) - set(get_available_trackers())}
    problems = []
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            problems.append(f"unknown tracker `{name}`: choose from {', '.join(sorted(LOGGER_TYPE_TO_CLASS))}")
        elif name in missing:
            problems.append(f"tracker `{name}` is not installed: `pip install {name}`")
    if problems:
        raise ConfigError("; ".join(problems))


class Trackers:
    """The trackers of a run.

    Args:
        accelerator: Holds accelerate's tracker objects. `trackers.json` in its project folder, the run directory,
            holds the ID that each tracker has given to the run.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._path = Path(accelerator.project_dir) / "trackers.json"

    def start(self, names: Sequence[str], config: Mapping[str, Any]) -> None:
        """Start each tracker with the settings; a resumed run is resumed in the tracker too.

        Values that trackers do not accept, such as lists, are passed as text.
        """
        simple = {k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in config.items()}
        run_ids: dict[str, str] = {}
        with suppress(OSError, ValueError):  # there is no such file in a new run
            run_ids = dict(json.loads(self._path.read_text(encoding="utf-8")))
        started: list[Any] = []
        for name in names:
            # one at a time, so that a failure affects no other
            self._accelerator.log_with, self._accelerator.trackers = [name], []
            with self._dropping(name):
                options = _RESUME_OPTIONS[name](run_ids[name]) if name in run_ids else {}
                settings = {} if name == "mlflow" and options else simple  # mlflow refuses settings that have changed
                self._accelerator.init_trackers(Path.cwd().name, settings, {name: options})
                started += self._accelerator.trackers
                if name in _RUN_ID and self._accelerator.is_main_process:
                    run_ids[name] = _RUN_ID[name](self._accelerator.trackers[0].tracker)
        self._accelerator.log_with, self._accelerator.trackers = list(names), started
        if run_ids and self._accelerator.is_main_process:
            atomic_write(self._path, json_bytes(run_ids))

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log the values that are finite, since not every tracker can draw a NaN."""
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        self._each(lambda tracker: tracker.log(_allowed_names(tracker.name, finite), step=step))

    def finish(self) -> None:
        self._each(lambda tracker: tracker.finish())

    def _each(self, action: Callable[[Any], None]) -> None:
        for tracker in list(self._accelerator.trackers):
            with self._dropping(tracker.name, tracker):
                action(tracker)

    @contextmanager
    def _dropping(self, name: str, tracker: Any = None) -> Iterator[None]:
        """Drop a tracker that raises an error, whatever it is."""
        try:
            yield
        except Exception as problem:
            if tracker is not None:
                self._accelerator.trackers.remove(tracker)
            if self._accelerator.is_main_process:
                error = f"{type(problem).__name__}: {problem}"
                progress.warn(f"tracker `{name}` failed, training continues without it: {error}")


def _allowed_names(tracker: str, values: Mapping[str, float]) -> Mapping[str, float]:
    """The values under names that the tracker accepts."""
    if tracker != "mlflow":
        return values
    return {re.sub(r"[^\w\-. /:]", "_", name): value for name, value in values.items()}
