"""The table that the tests train on, and the settings that make a run small."""

import csv
import math
from pathlib import Path

import pytest


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A small table with two numbers and a category, of which the target is a function."""
    rows: list[list[object]] = []
    for number in range(200):
        size, weight, colour = math.sin(number), number % 7, ("red", "green", "blue")[number % 3]
        rows.append([size, weight, colour, "large" if size > 0 else "small"])
    path = tmp_path / "table.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["size", "weight", "colour", "target"], *rows])
    return path


@pytest.fixture
def settings(table: Path) -> dict[str, object]:
    """What makes a run small, besides few steps."""
    return {"table": table, "categorical": ("colour",), "width": 16, "global_batch_size": 16}
