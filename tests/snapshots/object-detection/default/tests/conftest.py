"""Test data, and settings for small runs."""

import pytest

import data


@pytest.fixture
def settings(monkeypatch) -> dict[str, object]:
    """Settings for a small run."""
    monkeypatch.setattr(data, "SIZES", {"train": 64, "eval": 8, "test": 8})
    return {"global_batch_size": 4}
