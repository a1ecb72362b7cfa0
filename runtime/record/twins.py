"""Finds a run that should have the same losses as this one but does not, at the first logged loss."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

_MAX_RUNS = 20  # the newest in the same folder
_MAX_BYTES = 1 << 16  # of metrics, from the beginning
_IGNORED = ("run_dir", "resume", "trackers", "keep_last", "keep_best", "process_timeout", "time_limit")
_SAME = ("data", "num_processes", "precision", "threads", "cpu", "gpu", "launch", "forked_from")


def find_other_loss(run_dir: Path, step: int, loss: float) -> str | None:
    """Look for a run in the same folder with the same code, settings, data and environment, but another loss.

    Args:
        run_dir: This run.
        step: The step of its first logged loss.
        loss: That loss.

    Returns:
        A line for the terminal; None if there is no such run.
    """
    own = _description(run_dir)
    if own is None:
        return None
    for other in _newest(run_dir):
        if _is_same(_description(other), own) and (known := _loss_at(other, step)) not in (None, loss):
            return (
                f"`{other}` has the same code, settings, data and seed, but its loss at step {step} was {known}, not {loss}: "
                "some random numbers do not depend on the run's seed, or an operation needs `deterministic`"
            )
    return None


def _description(run_dir: Path) -> Mapping[str, Any] | None:
    """Everything that decides the losses of a run; None if the run has not recorded it."""
    try:
        content = json.loads((run_dir / "config.json").read_bytes())
        settings = {name: value for name, value in content["settings"].items() if name not in _IGNORED}
        known = {"settings": settings, "files": content["code"]["files"], "versions": dict(content["versions"])}
        return known | {name: content.get(name) for name in _SAME}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _is_same(other: Mapping[str, Any] | None, own: Mapping[str, Any]) -> bool:
    """Whether two descriptions are the same. A run records imported packages only, so versions in both are compared."""
    if other is None:
        return False
    before, now = other["versions"], own["versions"]
    return {**other, "versions": now} == own and all(before[name] == now[name] for name in before.keys() & now.keys())


def _newest(run_dir: Path) -> list[Path]:
    """The newest runs beside this one."""
    found = []
    with suppress(OSError):
        for path in run_dir.parent.iterdir():
            with suppress(OSError):  # the folder is being removed
                if path.is_dir() and path.name != run_dir.name:
                    found.append((path.stat().st_mtime, path))
    return [path for _, path in sorted(found, reverse=True)[:_MAX_RUNS]]


def _loss_at(run_dir: Path, step: int) -> float | None:
    with suppress(OSError), (run_dir / "metrics.jsonl").open("rb") as file:
        for line in file.read(_MAX_BYTES).splitlines():
            with suppress(ValueError, KeyError, TypeError):  # incomplete, or without a loss
                row = json.loads(line)
                if row["step"] == step and isinstance(row.get("train/loss"), float):
                    return float(row["train/loss"])
    return None
