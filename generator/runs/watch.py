"""Follow a run while it trains: new rows of metrics, and curves as text."""

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from .folder import Row, RunFolder, parse_row, read_run
from .scores import Point

_BLOCKS = " ▁▂▃▄▅▆▇█"
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # four rows of two dots in a braille character


class News(NamedTuple):
    """An update of a run: its state, and the rows since the last update, or all rows if the run has been restarted."""

    run: RunFolder
    rows: Sequence[Row]
    is_restarted: bool


class Tail:
    """Reads the rows of a growing file. A line counts once it is complete; a replaced file is read from the start."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._place = 0
        self._identity: tuple[int, int] | None = None
        self._before = b""  # the last bytes read, to notice a file that was truncated and has grown again

    def read(self) -> tuple[list[Row], bool]:
        """Return the rows since the last call, and whether the file was read from the start."""
        try:
            with open(self._path, "rb") as file:
                about = os.fstat(file.fileno())
                file.seek(max(self._place - len(self._before), 0))
                is_restarted = (about.st_dev, about.st_ino) != self._identity or file.read(
                    len(self._before)
                ) != self._before
                if is_restarted:
                    file.seek(0)
                    self._place = 0
                content = file.read()
        except OSError:
            return [], False
        self._identity = about.st_dev, about.st_ino
        whole = content[: content.rfind(b"\n") + 1]
        self._place += len(whole)
        self._before = (b"" if is_restarted else self._before) + whole
        self._before = self._before[-64:]
        return [row for line in whole.splitlines() if (row := parse_row(line)) is not None], is_restarted


def follow(path: Path, seconds: float, wait: Callable[[float], None] = time.sleep) -> Iterator[News]:
    """Yield updates of a run until it has ended; the last one is from after its end.

    Args:
        path: The run.
        seconds: Between two updates.
        wait: Called with the seconds to wait.
    """
    tail = Tail(path / "metrics.jsonl")
    while True:
        run = read_run(path)  # before its rows: if it has ended, they are complete
        yield News(run, *tail.read())
        if run.has_ended:
            return
        wait(seconds)


def spark(points: Sequence[Point], width: int) -> str:
    """Draw a curve as one line of block characters."""
    values = [value for _, value in _binned(points, width)]
    finite = [value for value in values if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    return "".join(
        "!" if not math.isfinite(value) else _BLOCKS[1 + round(7 * (value - low) / (high - low))] if high > low else "▄"
        for value in values
    )


def picture(
    curves: Sequence[Sequence[Point]], width: int, height: int
) -> tuple[list[list[tuple[str, int]]], float, float]:
    """Draw curves with braille characters, two by four dots each.

    Args:
        curves: The points of each curve.
        width, height: The size in characters.

    Returns:
        cells: The characters of each line, each with the index of its curve, or -1.
        low, high: The values at the bottom and at the top.
    """
    finite = [point for curve in curves for point in curve if math.isfinite(point.value)]
    cells = [[(" ", -1)] * width for _ in range(height)]
    if not finite:
        return cells, 0.0, 0.0
    low, high = min(point.value for point in finite), max(point.value for point in finite)
    left, right = min(point.step for point in finite), max(point.step for point in finite)
    dots: dict[tuple[int, int], tuple[int, int]] = {}
    for number, curve in enumerate(curves):
        last: tuple[int, int] | None = None
        for point in curve:
            if not math.isfinite(point.value):
                last = None
                continue
            x = round((point.step - left) / ((right - left) or 1) * (2 * width - 1))
            y = round((high - point.value) / ((high - low) or 1) * (4 * height - 1)) if high > low else 2 * height
            for column, row in _line(last or (x, y), (x, y)):
                mask, _ = dots.get((row // 4, column // 2), (0, number))
                dots[row // 4, column // 2] = mask | _DOTS[row % 4][column % 2], number
            last = x, y
    for (row, column), (mask, number) in dots.items():
        cells[row][column] = chr(0x2800 + mask), number
    return cells, low, high


def _line(start: tuple[int, int], end: tuple[int, int]) -> Iterator[tuple[int, int]]:
    length = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1)
    for place in range(length + 1):
        yield tuple(round(a + (b - a) * place / length) for a, b in zip(start, end, strict=True))  # type: ignore[misc]


def _binned(points: Sequence[Point], width: int) -> list[tuple[int, float]]:
    """Return the means of at most `width` bins of consecutive points, each with its last step."""
    count = min(width, len(points))
    bins = [points[n * len(points) // count : (n + 1) * len(points) // count] for n in range(count)]
    return [(part[-1].step, math.fsum(point.value for point in part) / len(part)) for part in bins]
