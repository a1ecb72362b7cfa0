"""Test text, and settings for small runs."""

from pathlib import Path

import pytest


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, object]:
    """Settings for a small run."""
    return {
        "tokens_dir": tmp_path / "tokens",
        "context": 32,
        "global_batch_size": 8,
        "width": 32,
        "depth": 2,
        "heads": 2,
        "limit_batches": 20,
    }
