"""`metrics.jsonl`: one line of JSON per log point."""

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..storage.files import append, atomic_write, json_bytes


class Metrics:
    """The logged values of a run, in a file that only the main process writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._last_kept: list[tuple[set[str], bytes]] = []  # lines of the step to which `cut_back` has cut

    def append(self, values: Mapping[str, Any]) -> None:
        """Add one line. NaN and infinities become null, which is all that JSON has for them.

        A run that was killed between a save and its next step logs the values of the saved step again on resume: then
        the new line replaces the old one.

        Raises:
            OSError: The line cannot be written; nothing of it is.
        """
        line = {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in values.items()}
        for old in [old for old in self._last_kept if old[0] == _identity(line)][:1]:
            self._last_kept.remove(old)
            atomic_write(self.path, self.path.read_bytes().replace(old[1], b"", 1))
        append(self.path, json_bytes(line, indent=None))

    def cut_back(self, step: int) -> None:
        """Drop all lines after `step`, and an incomplete last line.

        Raises:
            ConfigError: There is something of this name that is not a file.
        """
        if not self.path.exists():
            return
        if not self.path.is_file():
            raise ConfigError(f"`{self.path}` is not a file: remove it, since the run writes its metrics there")
        kept = []
        for line in self.path.read_bytes().splitlines(keepends=True):
            with suppress(ValueError, KeyError, TypeError):
                values = json.loads(line)
                if line.endswith(b"\n") and values["step"] <= step:
                    kept.append(line)
                    if values["step"] == step:
                        self._last_kept.append((_identity(values), line))
        atomic_write(self.path, b"".join(kept))

    def copy_from(self, checkpoint: Path) -> None:
        """Start with the metrics of the run that `checkpoint` belongs to. `cut_back` drops those after its step."""
        metrics = checkpoint.parent.parent / "metrics.jsonl"
        if metrics.exists():
            atomic_write(self.path, metrics.read_bytes())


def _identity(line: Mapping[str, Any]) -> set[str]:
    """What identifies a line: its step and the names of its metrics, except wall-clock times."""
    return {f"step {line['step']}", *(name for name in line if not name.startswith("time/"))}
