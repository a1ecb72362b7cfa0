"""Test text, and settings for small runs."""

import pytest


@pytest.fixture
def settings() -> dict[str, object]:
    """Settings for a small run."""
    return {"context": 32, "global_batch_size": 8, "width": 32, "depth": 2, "heads": 2, "limit_batches": 20}
