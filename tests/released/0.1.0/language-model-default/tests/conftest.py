"""The text that the tests train on, and the settings that make a run small."""

import pytest


@pytest.fixture
def settings() -> dict[str, object]:
    """What makes a run small, besides few steps."""
    return {"context": 32, "global_batch_size": 8, "width": 32, "depth": 2, "heads": 2, "limit_batches": 20}
