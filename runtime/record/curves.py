"""Draws the curves of a run as one picture, from its `metrics.jsonl`."""

import json
import math
import re
from collections import defaultdict
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..storage.files import atomic_write

Array = NDArray[np.float64]

INK, FAINT, _GRID = "#2b2b33", "#8a8a96", "#e9e9ee"
COLORS = {"train": "#3f6fb5", "eval": "#d8572a", "test": "#3a8f5c"}
_OTHER_COLORS = ("#7a5ba8", "#b08d1e", "#5c6b77")
_WORDS = {"f1": "F1", "frechet": "Fréchet", "grad": "gradient", "iou": "IoU", "map": "mAP"}  # spelling in titles
_LAST = ("learning_rate", "grad_norm")  # their panels come after all scores
_SMALLER_IS_BETTER = re.compile(
    r"loss|error|err$|distance|perplexity|ppl|bits_per|^(r?mse|mae|wer|cer|nll|fid)$|_(r?mse|mae|wer|cer|nll)$"
)
_WIDTH = 10  # inches
_MAX_POINTS = 1000  # per line: the picture has no room for more
_MAX_PANELS = 13


class Series(NamedTuple):
    """One metric over the steps; NaN where it was not finite."""

    steps: Array
    values: Array


Panels = dict[str, dict[str, Series]]
"""Metric -> section -> its values, in drawing order."""


def draw_curves(metrics: Path, output: Path) -> None:
    """Draw a PNG with one panel per metric, training and evaluation together; `time/` metrics are left out.

    The loss comes first and is large, then the scores, the learning rate and the gradient norm. A thin line shows the
    logged values, a strong line is smoothed. A ring marks the best evaluation, faint vertical lines the ends of epochs,
    a red cross at the bottom a value that was not finite. The same metrics make the same bytes. No display is needed.
    An incomplete last line is skipped, and so are scores after the first dozen. Without metrics, nothing is drawn.

    Args:
        metrics: One JSON object per line: `step`, `epoch`, and numbers or null under `<section>/<name>`.
        output: The picture, replaced atomically.
    """
    panels, ends = _read(metrics)
    if not panels:
        return
    from matplotlib import style  # slow to import

    with style.context(["default", plot_style()]):
        picture = _draw(panels, ends)
        content = BytesIO()
        picture.savefig(content, format="png", metadata={"Software": None})
    atomic_write(output, content.getvalue())


def _read(metrics: Path) -> tuple[Panels, list[tuple[int, int]]]:
    """The panels, and (epoch, last step) of each epoch but the last."""
    points: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    ends: dict[int, int] = {}
    for line in metrics.read_bytes().splitlines():
        try:
            entry = json.loads(line)
            step, epoch = int(entry["step"]), int(entry.get("epoch", 0))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # incomplete: the run was killed
        ends[epoch] = max(step, ends.get(epoch, 0))
        for key, value in entry.items():
            section, slash, name = key.partition("/")
            if slash and section != "time" and not isinstance(value, str | list | dict):
                points[name][section][step] = math.nan if value is None else float(value)
    panels: Panels = defaultdict(dict)
    for name in sorted(points, key=lambda name: (_rank(name, set(points[name])), name)):
        for section in sorted(points[name], key=lambda section: ([*COLORS, section].index(section), section)):
            series = Series(*np.array(sorted(points[name][section].items()), dtype=np.float64).T)
            if np.isfinite(series.values).any():
                panels[name][section] = series
    settings = [name for name in _LAST if name in panels]
    scores = [name for name in panels if name not in _LAST][: _MAX_PANELS - len(settings)]
    return {name: panels[name] for name in scores + settings}, sorted(ends.items())[:-1]


def _rank(name: str, sections: set[str]) -> int:
    """The order of panels: the loss, evaluated metrics, metrics of training only, the optimizer's settings."""
    if name in _LAST:
        return 3 + _LAST.index(name)
    return 0 if name == "loss" else 1 if sections != {"train"} else 2


def _draw(panels: Panels, ends: list[tuple[int, int]]) -> Any:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    first, *others = panels
    columns = 1 if not others else 3 if len(others) % 3 == 0 else 2
    rows: list[Any] = [[first] * columns]
    rows += [others[start : start + columns] for start in range(0, len(others), columns)]
    rows[-1] += rows[-1][-1:] * (columns - len(rows[-1]))  # the last panel fills its row
    figure = Figure(figsize=(_WIDTH, 1.9 + 2.5 * len(rows)), dpi=144, layout="constrained")
    every = figure.subplot_mosaic(rows, height_ratios=[1.75] + [1.0] * (len(rows) - 1))
    steps = np.concatenate([series.steps for sections in panels.values() for series in sections.values()])
    start, stop = float(steps.min()), float(steps.max())
    start = 0.0 if start < 0.2 * stop else start
    margin = 0.015 * (stop - start) or 1.0
    for name, axes in every.items():
        is_first = name == first
        _draw_panel(axes, name, panels[name], room=12 * _WIDTH // (1 if is_first else columns) - 8)
        _draw_epochs(axes, ends, most=25 if is_first else 12, label=is_first)
        axes.set_xlim(start - margin, stop + margin)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=10 if is_first else 5, integer=True, min_n_ticks=1))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.6g}".replace("e-0", "e-"))
        if name in rows[-1]:
            axes.set_xlabel("step", loc="right")
    return figure


def _draw_panel(axes: Any, name: str, sections: dict[str, Series], room: int) -> None:
    """Draw one metric. Its title and its best evaluation share a line of `room` characters."""
    others = iter(_OTHER_COLORS * (1 + len(sections)))
    visible: list[Array] = []
    title = _plain(" ".join(_WORDS.get(word, word) for word in name.split("_")))
    axes.set_title(title, loc="left")
    evaluated = [section for section in sections if section != "train"]
    for section, series in sections.items():
        color = COLORS.get(section) or next(others)
        if section == "train":
            visible += _draw_dense(axes, series, color, _plain(section), smooth=name != "learning_rate")
        else:
            visible.append(series.values)
            size = min(4.5, 180 / len(series.steps))  # smaller where many points have to fit
            style = {"markersize": size, "markeredgecolor": "white", "markeredgewidth": 0.6 if size == 4.5 else 0.0}
            axes.plot(*series, "o-", color=color, linewidth=1.5, label=_plain(section), **style)
        gaps = series.steps[~np.isfinite(series.values)][:_MAX_POINTS]
        style = {"color": "#c22f3d", "markersize": 4, "transform": axes.get_xaxis_transform()}
        axes.plot(gaps, np.full(len(gaps), 0.03), "x", **style)
        if section in evaluated[:1]:
            best = int((np.nanargmin if _smaller_is_better(name) else np.nanargmax)(series.values))
            step, value = series.steps[best], series.values[best]
            ring = {"markersize": 10, "markerfacecolor": "none", "markeredgewidth": 1.4}
            axes.plot([step], [value], "o", color=color, clip_on=False, **ring)
            for text in (f"best {value:.4g} at step {step:,.0f}", f"best {value:.4g}"):
                if len(title) + len(text) <= room:
                    axes.set_title(text, loc="right", color=color, fontsize=9, fontweight="normal")
                    break
    _set_scale(axes, np.concatenate(visible), from_zero=name in _LAST)
    if len(sections) > 1:
        axes.legend(loc="upper right" if _smaller_is_better(name) else "lower right", ncols=len(sections))


def _draw_dense(axes: Any, series: Series, color: str, label: str, *, smooth: bool) -> list[Array]:
    """Draw a metric with a value at every log point. Returns the values that the axis must show."""
    count = len(series.steps)
    if not smooth or count < 25:
        marker = "o" if smooth or count == 1 else None
        axes.plot(*series, color=color, linewidth=1.8, marker=marker, markersize=3.5, label=label)
        return [series.values]
    starts = _bins(count)
    extremes = np.column_stack([np.fmin.reduceat(series.values, starts), np.fmax.reduceat(series.values, starts)])
    axes.plot(np.repeat(series.steps[starts], 2), extremes.ravel(), color=color, alpha=0.3, linewidth=0.8)
    smoothed = _smooth(series)
    axes.plot(*smoothed, color=color, linewidth=1.8, label=label)
    return [smoothed.values, np.nanpercentile(series.values, [2, 98])]


def _draw_epochs(axes: Any, ends: list[tuple[int, int]], *, most: int, label: bool) -> None:
    every = max(1, math.ceil(len(ends) / most))
    shown = [(epoch, end) for epoch, end in ends if epoch % every == 0]
    for _, end in shown:
        axes.axvline(end, color=_GRID, linewidth=0.8, zorder=0)
    if label and shown:
        top = axes.secondary_xaxis("top")
        names = [str(epoch) for epoch, _ in shown]
        names[0] = f"epoch {names[0]}"
        top.set_xticks([end for _, end in shown], names)
        top.tick_params(length=3, width=0.6, pad=1, labelsize=7, colors=FAINT)
        top.spines["top"].set_visible(False)


def _set_scale(axes: Any, values: Array, *, from_zero: bool) -> None:
    """Fit the axis to the values that it must show; logarithmic where they span more than two decades."""
    finite = values[np.isfinite(values)]
    low, high = float(finite.min()), float(finite.max())
    if low > 0 and high / low > 100 and not from_zero:
        axes.set_yscale("log")
        axes.set_ylim(low / 1.3, high * 1.3)
        return
    from_zero = from_zero and low >= 0
    room = 0.06 * (high - (0.0 if from_zero else low)) or abs(high) * 0.1 or 1.0
    axes.set_ylim(0.0 if from_zero else low - room, high + room)


def _bins(count: int) -> NDArray[np.int_]:
    """The starts of at most 1000 equal bins of `count` values."""
    return np.unique(np.linspace(0, count, _MAX_POINTS, endpoint=False).astype(int))


def _smooth(series: Series) -> Series:
    """Smooth with a Gaussian whose width is 1/60 of the series. Gaps and ends average over the values there are."""
    starts = _bins(len(series.steps))
    sizes = np.diff([*starts, len(series.steps)])
    finite = np.isfinite(series.values)
    counts = np.add.reduceat(finite.astype(np.float64), starts)
    totals = np.add.reduceat(np.where(finite, series.values, 0.0), starts)
    width = max(len(starts) / 60, 0.5)
    reach = math.ceil(3 * width)
    window = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    weights, sums = (np.convolve(values, window)[reach:-reach] for values in (counts, totals))
    values = np.where(counts > 0, sums / np.maximum(weights, 1e-300), math.nan)
    return Series(np.add.reduceat(series.steps, starts) / sizes, values)


def _plain(text: str) -> str:
    """The text, escaped so that matplotlib does not read it as a formula."""
    return text.replace("$", r"\$")


def _smaller_is_better(name: str) -> bool:
    return bool(_SMALLER_IS_BETTER.search(name))


def plot_style() -> dict[str, Any]:
    """The look of all pictures, for `matplotlib.style.context`."""
    return {
        "figure.constrained_layout.w_pad": 0.12,  # inches around each panel
        "figure.constrained_layout.h_pad": 0.1,
        "font.size": 9,
        "text.color": INK,
        "axes.edgecolor": "#b9b9c4",
        "axes.labelcolor": FAINT,
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "axes.titlepad": 12,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "grid.color": _GRID,
        "xtick.color": "#b9b9c4",
        "ytick.color": "#b9b9c4",
        "xtick.labelcolor": FAINT,
        "ytick.labelcolor": FAINT,
        "ytick.major.size": 0,
        "lines.solid_capstyle": "round",
        "legend.frameon": False,
        "legend.handlelength": 1.4,
    }
