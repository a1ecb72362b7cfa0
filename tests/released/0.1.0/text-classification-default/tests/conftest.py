"""The texts that the tests train on, and the settings that make a run small."""

import pytest


@pytest.fixture
def settings() -> dict[str, object]:
    """What makes a run small, besides few steps."""
    return {
        "width": 32,
        "vocabulary": 512,
        "global_batch_size": 16,
        "limit_batches": 10,
    }
