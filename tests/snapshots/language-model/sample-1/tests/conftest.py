"""The text that the tests train on, and the settings that make a run small."""

from pathlib import Path

import pytest


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A few short files."""
    for split, size in (("train", 20), ("eval", 3), ("test", 2)):
        for number in range(size):
            path = tmp_path / "text" / split / f"{number}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{split} {number}\n" * (number + 3))
    return tmp_path / "text"


@pytest.fixture
def settings(data_dir: Path) -> dict[str, object]:
    """What makes a run small, besides few steps."""
    return {"data_dir": data_dir, "context": 32, "global_batch_size": 4, "width": 32, "depth": 2, "heads": 2}
