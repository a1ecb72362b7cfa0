"""Run directories as the runtime writes them, without training, for tests of code that reads them."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

STARTED = 1_700_000_000.0


def write_run(
    path: Path,
    scores: Mapping[str, Sequence[float]] | None = None,
    *,
    every: int = 10,
    state: str = "finished",
    commit: str | None = "c" * 40,
    versions: Mapping[str, str] | None = None,
    started: float = STARTED,
    status: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    best: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Path:
    """Write a run with these settings that has logged `scores`, one value per evaluation."""
    path.mkdir(parents=True, exist_ok=True)
    columns = {"eval/loss": [2.0, 1.0, 0.5]} if scores is None else scores
    rows: dict[int, dict[str, Any]] = {}
    for name, values in columns.items():
        for number, value in enumerate(values, 1):
            row = rows.setdefault(number, {"step": number * every, "epoch": number, "time/seconds": 1.5 * number})
            row[name] = value if math.isfinite(value) else None
    lines = [json.dumps(rows[number]) + "\n" for number in sorted(rows)]
    (path / "metrics.jsonl").write_text("".join(lines), encoding="utf-8")
    about = {
        "settings": settings,
        "num_processes": 1,
        "precision": "fp32",
        "versions": versions or {"python": "3.11.7", "torch": "2.6.0"},
        "git_commit": commit,
    }
    (path / "config.json").write_text(json.dumps(about | dict(config or {})), encoding="utf-8")
    step = max(rows, default=0) * every
    told = {
        "state": state,
        "step": step,
        "epoch": len(rows),
        "reason": None,
        "started": started,
        "updated": started + 60,
    }
    told |= {"host": "elsewhere", "machine": "another"} | ({"best": dict(best)} if best else {}) | dict(status or {})
    (path / "status.json").write_text(json.dumps(told), encoding="utf-8")
    return path
