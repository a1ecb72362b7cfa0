"""A comparison as a self-contained HTML page: curves, verdicts and settings."""

import json
import math
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from .comparison import Comparison, comparison_data
from .folder import RunFolder
from .scores import Point, all_points, metric_of

_MAX_POINTS = 30_000  # of one score over all runs; a screen shows fewer
_FEWEST, _MOST = 60, 1000  # points of one curve
_DIGITS = 7
_RARELY_READ = ("learning_rate", "grad_norm", "epoch")  # scores that come last


def page_of(comparison: Comparison, refresh: float | None = None) -> str:
    """Return the page as HTML.

    Args:
        comparison: What to show.
        refresh: Seconds after which the browser reloads the page; None for never.
    """
    data = page_data(comparison) | {"refresh": refresh}
    template = (files(__package__) / "page.html").read_text(encoding="utf-8")
    # A `<` in a name could end the script element, so it is escaped.
    text = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    meta = f'<meta http-equiv="refresh" content="{refresh:g}">' if refresh else ""
    return template.replace("<!-- refresh -->", meta, 1).replace("/* data */", text, 1)


def page_data(comparison: Comparison) -> dict[str, Any]:
    """Return the data that the page's script draws: the comparison, and the curves of each run."""
    runs = comparison.runs
    most = max(_FEWEST, min(_MOST, _MAX_POINTS // max(len(runs), 1)))
    curves = {str(run.path): _curves(run, most) for run in runs}
    names = dict.fromkeys(name for found in curves.values() for name in found)
    first = [] if comparison.metric is None else [comparison.metric.name]
    ordered = [*first, *sorted((name for name in names if name not in first), key=_rank)]
    data = comparison_data(comparison)
    for group in data["groups"]:
        for run in group["runs"]:
            run["curves"] = curves[run["path"]]
    return data | {
        "metrics": [{"name": name, "mode": metric_of(name, runs).mode} for name in ordered if name in names],
        "patches": {run.name: patch for run in runs if (patch := run.patch())},
    }


def _rank(name: str) -> tuple[int, str]:
    section, _, short = name.partition("/")
    return {"eval": 0, "test": 1, "train": 2, "time": 9}.get(section, 3) + 2 * (short in _RARELY_READ), name


def _curves(run: RunFolder, most: int) -> dict[str, list[list[float | None]]]:
    """Return steps, values and seconds of each score; None for a value that is not finite."""
    try:
        found = all_points(run.rows())
    except OSError:
        return {}
    return {name: _columns(thin(points, most)) for name, points in found.items() if name != "time/seconds"}


def _columns(points: Sequence[Point]) -> list[list[float | None]]:
    return [
        [point.step for point in points],
        [_rounded(point.value) for point in points],
        [_rounded(point.seconds) for point in points],
    ]


def _rounded(value: float) -> float | None:
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None


def thin(points: Sequence[Point], most: int) -> Sequence[Point]:
    """Reduce a curve to about `most` points: the lowest and the highest of each stretch, so that no peak is lost."""
    if len(points) <= most:
        return points
    kept: list[Point] = [points[0]]
    stretches = max(1, (most - 2) // 2)
    for number in range(stretches):
        part = points[number * len(points) // stretches : (number + 1) * len(points) // stretches]
        finite = [point for point in part if math.isfinite(point.value)]
        if finite:
            ends = {min(finite, key=lambda point: point.value), max(finite, key=lambda point: point.value)}
            kept += sorted(ends, key=lambda point: point.step)
        else:
            kept.append(part[0])
    kept.append(points[-1])
    return list({point.step: point for point in kept}.values())
