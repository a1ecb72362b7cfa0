"""Test texts, and settings for small runs."""

import pytest


@pytest.fixture
def settings() -> dict[str, object]:
    """Settings for a small run."""
    return {
        "width": 32,
        "vocabulary": 512,
        "global_batch_size": 16,
        "limit_batches": 10,
    }
