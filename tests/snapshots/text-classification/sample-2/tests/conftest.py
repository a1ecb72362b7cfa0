"""The texts that the tests train on, and the settings that make a run small."""

import json
from pathlib import Path

import pytest


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A small dataset of pairs on disk, as `load_dataset` reads it."""
    folder = tmp_path / "dataset"
    folder.mkdir()
    for split, size in (("train", 120), ("validation", 20), ("test", 24)):
        rows = [{"sentence1": f"word {n}", "sentence2": f"word {n + n % 2}", "label": n % 2} for n in range(size)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def settings(dataset: Path) -> dict[str, object]:
    """What makes a run small, besides few steps."""
    return {
        "dataset": str(dataset),
        "subset": "default",
        "width": 32,
        "vocabulary": 512,
        "global_batch_size": 16,
        "limit_batches": 10,
    }
