"""The curves of a run as one picture, from its `metrics.jsonl`."""

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
_WORDS = {"f1": "F1", "frechet": "Fréchet", "grad": "gradient", "iou": "IoU", "map": "mAP"}  # as they are in titles
_TITLE_SIZE, _BEST_SIZE, _APART = 11, 9, 12  # points: of the letters, and between a title and what is beside it
_LAST = ("learning_rate", "grad_norm")  # panels that come behind all scores
_SMALLER_IS_BETTER = re.compile(
    r"loss|error|err$|distance|perplexity|ppl|bits_per|^(r?mse|mae|wer|cer|nll|fid)$|_(r?mse|mae|wer|cer|nll)$"
)
_WIDTH = 10  # inches
_MAX_POINTS = 1000  # more than the picture has room for
_MAX_PANELS = 13


class Series(NamedTuple):
    """One metric over the steps, a gap where it was not finite."""

    steps: Array
    values: Array


def draw_curves(metrics: Path, output: Path) -> None:
    """Draw a PNG of all metrics but the `time/` ones: a panel for each, with what is trained and evaluated together.

    The loss comes first and large, then the scores, the learning rate and the gradient norm. Thin is what was logged,
    strong is smoothed; a ring is around the best evaluation; faint lines are where epochs end; a red cross at the
    bottom is where a value was not finite. The same metrics give the same bytes. Needs no display. A torn last line is
    passed over; of very many scores, those behind the first dozen too; without any metrics nothing is drawn.

    Args:
        metrics: One JSON object a line: `step`, `epoch`, and numbers or null under `<section>/<name>`.
        output: Where the picture goes; it replaces the one before at once.
    """
    panels, ends = _read(metrics)
    if not panels:
        return
    # Slow to import, and needed once in a while
    from matplotlib import style

    with style.context(["default", plot_style()]):
        picture = _draw(panels, ends)
        content = BytesIO()
        picture.savefig(content, format="png", metadata={"Software": None})
    atomic_write(output, content.getvalue())


def _read(metrics: Path) -> tuple[dict[str, dict[str, Series]], list[tuple[int, int]]]:
    """Metric -> section -> its values, in the order of the panels; and for each epoch but the last (epoch, end)."""
    points: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    ends: dict[int, int] = {}
    for line in metrics.read_bytes().splitlines():
        try:
            entry = json.loads(line)
            step, epoch = int(entry["step"]), int(entry.get("epoch", 0))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # torn when the run was killed
        ends[epoch] = max(step, ends.get(epoch, 0))
        for key, value in entry.items():
            section, slash, name = key.partition("/")
            if slash and section != "time" and not isinstance(value, str | list | dict):
                points[name, section][step] = math.nan if value is None else float(value)
    sections = {section: rank for rank, section in enumerate(("train", "eval", "test"))}
    order = sorted(points, key=lambda pair: (_rank(pair[0], points), pair[0], sections.get(pair[1], 9), pair[1]))
    panels: dict[str, dict[str, Series]] = defaultdict(dict)
    for name, section in order:
        steps = sorted(points[name, section])
        values = np.array([points[name, section][step] for step in steps])
        if np.isfinite(values).any():
            panels[name][section] = Series(np.array(steps, dtype=np.float64), values)
    settings = [name for name in _LAST if name in panels]
    scores = [name for name in panels if name not in _LAST][: _MAX_PANELS - len(settings)]
    return {name: panels[name] for name in scores + settings}, sorted(ends.items())[:-1]


def _rank(name: str, points: Any) -> int:
    """Loss, then what is evaluated, then what is only trained, then the settings of the optimizer."""
    if name == "loss":
        return 0
    if name in _LAST:
        return 3 + _LAST.index(name)
    return 1 if any(other == name and section != "train" for other, section in points) else 2


def _draw(panels: dict[str, dict[str, Series]], ends: list[tuple[int, int]]) -> Any:
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    names = list(panels)
    columns = 1 if len(names) == 1 else 3 if len(names) % 3 == 1 and len(names) > 3 else 2
    rows = math.ceil((len(names) - 1) / columns)
    figure = Figure(figsize=(_WIDTH, 4.4 + 2.5 * rows), dpi=144)
    grid = figure.add_gridspec(rows + 1, columns, height_ratios=[1.75] + [1] * rows, **_margins(figure, rows, columns))
    last = max(series.steps[-1] for sections in panels.values() for series in sections.values())
    first = min(series.steps[0] for sections in panels.values() for series in sections.values())
    if first < 0.2 * last:
        first = 0.0
    margin = 0.015 * (last - first) or 1.0

    for index, name in enumerate(names):
        row, column = (0, slice(None)) if index == 0 else (1 + (index - 1) // columns, (index - 1) % columns)
        if index == len(names) - 1 and index > 0:
            column = slice(column, None)  # the last one takes what is left of its row
        axes = figure.add_subplot(grid[row, column])
        _draw_panel(axes, name, panels[name], above=12 if index == 0 and ends else 0)
        axes.set_xlim(first - margin, last + margin)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=10 if index == 0 else 5, integer=True, min_n_ticks=1))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}".replace("e-0", "e-")))
        if row == rows:
            axes.set_xlabel("step", loc="right")
        _draw_epochs(axes, ends, most=25 if index == 0 else 12, label=index == 0)
    return figure


def _margins(figure: Any, rows: int, columns: int) -> dict[str, float]:
    """Room around and between the panels for their labels. Laying them out by what is in them would draw all twice."""
    height = figure.get_figheight()
    left, right, top, bottom, beside, between = 0.8, 0.3, 0.55, 0.5, 0.8, 0.7  # inches
    width_of_one = (_WIDTH - left - right - (columns - 1) * beside) / columns
    height_of_one = (height - top - bottom - rows * between) / (rows + 1)
    return {
        "left": left / _WIDTH,
        "right": 1 - right / _WIDTH,
        "top": 1 - top / height,
        "bottom": bottom / height,
        "wspace": beside / width_of_one,
        "hspace": between / height_of_one,
    }


def _draw_panel(axes: Any, name: str, sections: dict[str, Series], above: int) -> None:
    """Draw one metric, with `above` points of room between its frame and its title."""
    others = iter(_OTHER_COLORS * (1 + len(sections)))
    kept: list[Array] = []
    for section, series in sections.items():
        color = COLORS.get(section) or next(others)
        if section == "train":
            kept += _draw_dense(axes, series, color, section, smooth=name != "learning_rate")
        else:
            kept += _draw_sparse(axes, series, color, section)
        gaps = series.steps[~np.isfinite(series.values)][:_MAX_POINTS]
        axes.plot(
            gaps, np.full(len(gaps), 0.03), "x", color="#c22f3d", markersize=4, transform=axes.get_xaxis_transform()
        )
    title = " ".join(_WORDS.get(word, word) for word in name.split("_"))
    pad = 12 + above
    axes.set_title(title, loc="left", pad=pad)
    room = 72 * axes.figure.get_figwidth() * axes.get_position().width - _width(title, _TITLE_SIZE, "bold") - _APART
    evaluated = [section for section in ("eval", "test", *sections) if section in sections and section != "train"]
    if evaluated:
        _mark_best(axes, name, sections[evaluated[0]], COLORS.get(evaluated[0], INK), pad, room)
    _set_scale(axes, np.concatenate(kept), from_zero=name in _LAST)
    if len(sections) > 1:
        axes.legend(loc="upper right" if _smaller_is_better(name) else "lower right", ncols=len(sections))


def _draw_dense(axes: Any, series: Series, color: str, label: str, *, smooth: bool) -> list[Array]:
    """Draw what has a value at every log point. Returns the values that must be in sight."""
    steps, values = series
    count = len(steps)
    if not smooth or count < 25:
        marker = "o" if (count < 25 and smooth) or count == 1 else None
        axes.plot(steps, values, color=color, linewidth=1.8, marker=marker, markersize=3.5, label=label)
        return [values]
    if count > _MAX_POINTS:  # the range in each of so many bins, in place of a line that is all ink
        bins = np.array_split(np.arange(count), _MAX_POINTS)
        finite = [values[chosen][np.isfinite(values[chosen])] for chosen in bins]
        steps = np.array([steps[chosen].mean() for chosen in bins])
        low, values, high = (
            np.array([function(part) if len(part) else math.nan for part in finite])
            for function in (np.min, np.mean, np.max)
        )
        axes.fill_between(steps, low, high, color=color, alpha=0.22, linewidth=0)
    else:
        low = high = values
        axes.plot(steps, values, color=color, alpha=0.35, linewidth=0.8)
    smoothed = _smooth(values, width=len(values) / 60)
    axes.plot(steps, smoothed, color=color, linewidth=1.8, label=label)
    return [smoothed, np.nanpercentile(np.concatenate([low, high]), [2, 98])]


def _draw_sparse(axes: Any, series: Series, color: str, label: str) -> list[Array]:
    """Draw evaluations: each is a point, as long as there is room for points."""
    count = len(series.steps)
    size = 4.5 if count <= 40 else 2.5 if count <= 120 else 0
    marker = "o" if size else None
    style = {"markeredgecolor": "white", "markeredgewidth": 0.6 if count <= 40 else 0.0}
    axes.plot(
        series.steps, series.values, color=color, linewidth=1.5, marker=marker, markersize=size, label=label, **style
    )
    return [series.values]


def _width(text: str, size: float, weight: str = "normal") -> float:
    """How wide a line of text is, in points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    return float(TextPath((0, 0), text, size=size, prop=FontProperties(weight=weight)).get_extents().width)


def _mark_best(axes: Any, name: str, series: Series, color: str, pad: int, room: float) -> None:
    """Put a ring around the best evaluation, and its value and step beside the title, as far as there is room."""
    best = int(np.nanargmin(series.values) if _smaller_is_better(name) else np.nanargmax(series.values))
    step, value = series.steps[best], series.values[best]
    axes.plot(
        [step],
        [value],
        "o",
        markersize=10,
        markerfacecolor="none",
        markeredgecolor=color,
        markeredgewidth=1.4,
        clip_on=False,
    )
    for text in (f"best {value:.4g} at step {step:,.0f}", f"best {value:.4g}"):  # the ring is there in any case
        if _width(text, _BEST_SIZE) <= room:
            axes.set_title(text, loc="right", pad=pad, color=color, fontsize=_BEST_SIZE, fontweight="normal")
            break


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
    """Fit the axis to the values that must be in sight; logarithmic where they span more than two decades."""
    finite = values[np.isfinite(values)]
    low, high = float(finite.min()), float(finite.max())
    if low > 0 and high / low > 100 and not from_zero:
        axes.set_yscale("log")
        axes.set_ylim(low / 1.3, high * 1.3)
        return
    if from_zero and low >= 0:
        low = 0.0
    room = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
    axes.set_ylim(low if from_zero and low == 0 else low - room, high + room)


def _smooth(values: Array, width: float) -> Array:
    """Average with a Gaussian window of so many points; gaps and ends count for what they have."""
    reach = max(1, round(3 * width))
    window = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(width, 0.5)) ** 2)
    finite = np.isfinite(values)
    total = np.convolve(np.where(finite, values, 0.0), window)[reach:-reach]
    weight = np.convolve(finite.astype(np.float64), window)[reach:-reach]
    return np.where(finite, total / np.maximum(weight, 1e-300), math.nan)


def _smaller_is_better(name: str) -> bool:
    return bool(_SMALLER_IS_BETTER.search(name))


def plot_style() -> dict[str, Any]:
    return {
        "font.size": 9,
        "text.color": INK,
        "axes.edgecolor": "#b9b9c4",
        "axes.labelcolor": FAINT,
        "axes.titlesize": _TITLE_SIZE,
        "axes.titleweight": "bold",
        "axes.titlecolor": INK,
        "axes.titley": 1.0,  # told, as to find it all labels would be measured
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.8,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.axisbelow": True,
        "grid.color": _GRID,
        "grid.linewidth": 0.8,
        "xtick.color": "#b9b9c4",
        "ytick.color": "#b9b9c4",
        "xtick.labelcolor": FAINT,
        "ytick.labelcolor": FAINT,
        "xtick.major.size": 3,
        "ytick.major.size": 0,
        "lines.solid_capstyle": "round",
        "lines.solid_joinstyle": "round",
        "legend.frameon": False,
        "legend.fontsize": 9,
        "legend.handlelength": 1.4,
    }
