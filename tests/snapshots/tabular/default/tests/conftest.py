"""A test table, and settings for small runs."""

import csv
import math
from pathlib import Path

import pytest


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A small table whose target is a function of two numbers and a category."""
    rows: list[list[object]] = []
    for number in range(200):
        size, weight, colour = math.sin(number), number % 7, ("red", "green", "blue")[number % 3]
        rows.append([size, weight, colour, 100 + 3 * size - weight])
    path = tmp_path / "table.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["size", "weight", "colour", "target"], *rows])
    return path


@pytest.fixture
def settings(table: Path) -> dict[str, object]:
    """Settings for a small run."""
    return {"table": table, "categorical": ("colour",), "width": 16, "global_batch_size": 16}
