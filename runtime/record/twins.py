"""Two runs of one seed that should be the same and are not: found at the first losses, not after days."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

_LOOKED_AT = 20  # of the newest runs beside this one
_BYTES = 1 << 16  # of the metrics, from their beginning
_FREE = ("run_dir", "resume", "trackers", "keep_last", "keep_best", "process_timeout", "time_limit")
_SAME = ("data", "num_processes", "precision", "threads", "cpu", "gpu", "launch", "forked_from")


def find_other_loss(run_dir: Path, step: int, loss: float) -> str | None:
    """A run beside this one with the same code, settings, data and surroundings, and with another loss at this step.

    Returns:
        A line for the terminal; None where there is no such run.
    """
    own = _description(run_dir)
    if own is None:
        return None
    for other in _newest(run_dir):
        if _is_same(_description(other), own) and (known := _loss_at(other, step)) not in (None, loss):
            return (
                f"`{other}` has the same code, settings, data and seed, and had the loss {known} at step {step}, not {loss}: "
                "something is drawn outside of the run's seed, or needs `deterministic`"
            )
    return None


def _description(run_dir: Path) -> Mapping[str, Any] | None:
    """What decides the losses of a run; None of one that has not recorded it."""
    try:
        content = json.loads((run_dir / "config.json").read_bytes())
        settings = {name: value for name, value in content["settings"].items() if name not in _FREE}
        known = {"settings": settings, "files": content["code"]["files"], "versions": dict(content["versions"])}
        return known | {name: content.get(name) for name in _SAME}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _is_same(other: Mapping[str, Any] | None, own: Mapping[str, Any]) -> bool:
    """Whether two descriptions are the same; of versions, those that both know count, as a run knows what is imported."""
    if other is None:
        return False
    before, now = other["versions"], own["versions"]
    return {**other, "versions": now} == own and all(before[name] == now[name] for name in before.keys() & now.keys())


def _newest(run_dir: Path) -> list[Path]:
    found = []
    with suppress(OSError), os.scandir(run_dir.parent) as entries:
        for entry in entries:
            with suppress(OSError):  # it is being removed
                if entry.is_dir() and entry.name != run_dir.name:
                    found.append((entry.stat().st_mtime, entry.name))
    return [run_dir.parent / name for _, name in sorted(found, reverse=True)[:_LOOKED_AT]]


def _loss_at(run_dir: Path, step: int) -> float | None:
    with suppress(OSError), (run_dir / "metrics.jsonl").open("rb") as file:
        for line in file.read(_BYTES).splitlines():
            with suppress(ValueError, KeyError, TypeError):  # torn, or of something else
                row = json.loads(line)
                if row["step"] == step and isinstance(row.get("train/loss"), float):
                    return float(row["train/loss"])
    return None
