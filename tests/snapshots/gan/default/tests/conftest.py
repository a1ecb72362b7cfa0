"""Test data, and settings for small runs."""

import pytest

import judge


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Settings for a small run, with a judge that trains for a few steps."""
    monkeypatch.setattr(judge, "STEPS", 5)
    return {
        "global_batch_size": 32,
        "num_generated": 100,
    }
