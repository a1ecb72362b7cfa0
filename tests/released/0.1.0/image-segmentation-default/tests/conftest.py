"""The data that the tests train on, and the settings that make a run small."""

import pytest

import data


@pytest.fixture
def settings(monkeypatch) -> dict[str, object]:
    """What makes a run small, besides few steps."""
    monkeypatch.setattr(data, "SIZES", {"train": 64, "eval": 8, "test": 8})
    return {"global_batch_size": 8}
