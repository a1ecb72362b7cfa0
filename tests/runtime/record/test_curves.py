"""The picture of a run is drawn, whatever its metrics hold."""

import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.sampled import over_three_days

from paccel.runtime.record import curves
from paccel.runtime.record.curves import draw_curves

pytestmark = pytest.mark.slow  # each draws a picture


def lines(steps: int, *, every: int = 1, evaluate: int = 10, **extra: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        place = {"step": step, "epoch": 1 + step * 4 // (steps + 1)}
        if step % every == 0:
            loss = 2 * math.exp(-3 * step / steps) + 0.1 * math.sin(step)
            found.append({**place, "train/loss": loss, "train/learning_rate": 1e-3 / step, "train/grad_norm": 1.0})
        if step % evaluate == 0:
            found.append({**place, "eval/loss": 1 / step, "eval/accuracy": 1 - 1 / step, "time/seconds": 3.0, **extra})
    return found


def draw(folder: Path, entries: list[dict[str, Any]], end: str = "") -> Path:
    metrics, output = folder / "metrics.jsonl", folder / "curves.png"
    metrics.write_text("".join(json.dumps(entry) + "\n" for entry in entries) + end)
    draw_curves(metrics, output)
    return output


def is_picture(path: Path) -> bool:
    """Whether it is a PNG that is not blank."""
    from matplotlib.image import imread

    pixels = (255 * imread(path)[..., :3]).astype(int)
    colors = np.unique(pixels @ [65536, 256, 1])
    return pixels.shape[1] == 1440 and len(colors) > 20


@pytest.mark.parametrize("steps", [1, 2, 30, 3000])
def test_runs_of_any_length_are_drawn(steps: int, tmp_path: Path) -> None:
    assert is_picture(draw(tmp_path, lines(steps)))


@pytest.mark.slow
def test_a_hundred_thousand_points_are_drawn_in_seconds(tmp_path: Path) -> None:
    started = time.process_time()
    draw(tmp_path, lines(100_000, evaluate=500))
    assert time.process_time() - started < 10


def test_the_same_metrics_make_the_same_bytes_whatever_the_user_s_matplotlib_settings(tmp_path: Path) -> None:
    import matplotlib

    first = draw(tmp_path, lines(50)).read_bytes()
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black"}):
        assert draw(tmp_path, lines(50)).read_bytes() == first


def test_an_incomplete_last_line_and_values_that_are_no_metric_are_skipped(tmp_path: Path) -> None:
    whole = draw(tmp_path, lines(30)).read_bytes()
    odd = '[1]\n{"epoch": 2}\n{"step": 3, "epoch": 1, "eval/name": "text", "note": 5}\n\n{"step": 31, "train/lo'
    assert draw(tmp_path, lines(30), odd).read_bytes() == whole


@pytest.mark.parametrize("content", ["", '{"step": 1, "tr', '{"step": 1, "epoch": 1, "time/seconds": 3.0}\n'])
def test_without_metrics_nothing_is_drawn(content: str, tmp_path: Path) -> None:
    assert not draw(tmp_path, [], content).exists()


def test_losses_that_are_not_finite_leave_a_gap_that_is_marked(tmp_path: Path) -> None:
    entries = lines(60)
    for entry in entries[30:50]:
        entry["train/loss"] = None
    assert is_picture(draw(tmp_path, entries))
    for entry in entries:
        entry["train/loss"] = None
    assert is_picture(draw(tmp_path, entries))


def test_panels_are_ordered_and_show_training_and_evaluation_together(tmp_path: Path) -> None:
    entries = lines(40, **{"eval/f1": 0.5, "test/accuracy": 0.9})
    entries[0] |= {"train/accuracy": 0.1, "train/temperature": 3.0, "train/all_null": None}
    draw(tmp_path, entries)
    panels, ends = curves._read(tmp_path / "metrics.jsonl")
    assert list(panels) == ["loss", "accuracy", "f1", "temperature", "learning_rate", "grad_norm"]
    assert list(panels["loss"]) == ["train", "eval"]
    assert list(panels["accuracy"]) == ["train", "eval", "test"]
    assert [epoch for epoch, _ in ends] == [1, 2, 3]


def test_a_step_that_was_logged_again_counts_once(tmp_path: Path) -> None:
    draw(tmp_path, [*lines(20), {"step": 3, "epoch": 1, "train/loss": 9.0}])
    series = curves._read(tmp_path / "metrics.jsonl")[0]["loss"]["train"]
    assert list(series.steps) == list(range(1, 21))
    assert series.values[2] == 9.0


@pytest.mark.slow
def test_many_metrics_and_odd_values_fit_on_the_sheet(tmp_path: Path) -> None:
    extra = {f"eval/score_{i}": value for i, value in enumerate([0.0, -3.0, 1e-12, 1e12, 5, True, 0.5] * 3)}
    assert is_picture(draw(tmp_path, lines(30, **extra)))
    names = list(curves._read(tmp_path / "metrics.jsonl")[0])
    assert len(names) == 13
    assert names[0] == "loss"
    assert names[-2:] == ["learning_rate", "grad_norm"]


@pytest.mark.slow
@pytest.mark.parametrize("scores", over_three_days([0, 2, 3, 21]))
def test_no_panel_overlaps_another_or_the_edge(tmp_path: Path, scores: int) -> None:
    from matplotlib import style

    odd = [0.0, -3.0, 1e-12, 1e12, 123456.7, True, -0.000123] * 3
    entries = lines(40, **{f"eval/score_{i}": value for i, value in enumerate(odd[:scores])})
    draw(tmp_path, entries)
    with style.context(["default", curves.plot_style()]):
        figure = curves._draw(*curves._read(tmp_path / "metrics.jsonl"))
        figure.draw_without_rendering()
        boxes = [axes.get_tightbbox() for axes in figure.axes]
    for number, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
        assert not any(box.overlaps(other) for other in boxes[:number])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "title", "beside"),
    [
        ("mean_iou", "mean IoU", "best 0.9 at step 12,345"),
        ("bits_per_byte", "bits per byte", "best 0.9"),
        ("perplexity_per_word_and_line", "perplexity per word and line", ""),
    ],
)
def test_a_title_does_not_touch_the_text_beside_it(tmp_path: Path, name: str, title: str, beside: str) -> None:
    from matplotlib import style
    from matplotlib.text import Text

    scores = {f"eval/score_{i}": 0.5 for i in range(2)}  # three panels in a row
    draw(tmp_path, [{"step": 12345, "epoch": 1, "train/loss": 1.0, f"eval/{name}": 0.9, **scores}])
    with style.context(["default", curves.plot_style()]):
        figure = curves._draw(*curves._read(tmp_path / "metrics.jsonl"))
        figure.draw_without_rendering()
    (axes,) = [axes for axes in figure.axes if axes.get_title(loc="left") == title]
    assert axes.get_title(loc="right") == beside
    left, right = ([text for text in axes.findobj(Text) if text.get_text() == shown] for shown in (title, beside))
    assert not beside or right[0].get_window_extent().x0 - left[0].get_window_extent().x1 >= 10 / 72 * figure.dpi


def test_a_smoothed_line_keeps_constants_and_gaps() -> None:
    steps, values = np.arange(200.0), np.full(200, 3.0)
    values[50:60] = math.nan
    smoothed = curves._smooth(curves.Series(steps, values))
    assert np.array_equal(smoothed.steps, steps)
    assert np.isnan(smoothed.values[50:60]).all()
    assert np.allclose(np.delete(smoothed.values, range(50, 60)), 3.0, rtol=1e-12)


def test_a_long_line_is_smoothed_at_fewer_points() -> None:
    steps = np.arange(1.0, 5001)
    smoothed = curves._smooth(curves.Series(steps, 2 * steps))
    assert len(smoothed.steps) == 1000
    middle = slice(100, -100)  # at its ends a slope is averaged from one side
    assert np.allclose(smoothed.values[middle], 2 * smoothed.steps[middle], rtol=1e-9)


@pytest.mark.parametrize(("name", "smaller"), [("loss", True), ("mae", True), ("val_rmse", True), ("top5_error", True),
                                               ("perplexity", True), ("bits_per_byte", True), ("accuracy", False), ("f1", False), ("terror", True)])  # fmt: skip
def test_the_name_tells_whether_smaller_is_better(name: str, smaller: bool) -> None:
    assert curves._smaller_is_better(name) is smaller


@pytest.mark.slow
def test_slow_modules_are_imported_only_where_they_are_needed() -> None:
    slow = ("matplotlib", "sympy", "torch.distributed.fsdp", "torch.distributed.tensor", "torch._dynamo")
    code = f"import sys, paccel.runtime, paccel.runtime.record.curves; sys.exit(str([m for m in {slow} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], timeout=60, check=False, capture_output=True, text=True)
    assert done.stderr.strip() == "[]"
