"""The data that the tests train on, and the settings that make a run small."""

import pytest


@pytest.fixture
def settings() -> dict[str, object]:
    """What makes a run small, besides few steps."""
    return {
        "global_batch_size": 32,
    }
