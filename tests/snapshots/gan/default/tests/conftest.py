"""Test data, and settings for small runs."""

import pytest


@pytest.fixture
def settings() -> dict[str, object]:
    """Settings for a small run."""
    return {
        "global_batch_size": 32,
        "num_generated": 100,
    }
