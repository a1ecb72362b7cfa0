"""The replay that `paccel verify` requests through the environment."""

import math
from pathlib import Path

import pytest

from paccel.runtime import ConfigError
from paccel.runtime.settings.replay import VARIABLE, read_replay
from paccel.runtime.settings.run_settings import RunSettings


def test_an_ordinary_run_is_no_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert read_replay() is None


def test_a_replay_has_a_folder_and_an_end_and_no_trackers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, '{"run_dir": "/tmp/copy", "until": 12, "saves": true}')
    replay = read_replay()
    assert replay is not None
    assert (replay.until, replay.saves) == (12, True)
    settings = replay.applied_to(RunSettings(trackers=("wandb",), time_limit=5.0, seed=3))
    assert settings == RunSettings(run_dir=Path("/tmp/copy"), resume="auto", seed=3)
    monkeypatch.setenv(VARIABLE, '{"run_dir": "/tmp/copy"}')
    replay = read_replay()
    assert replay is not None
    assert replay.until == math.inf


@pytest.mark.parametrize("text", ["1", "{}", "nonsense", '{"run_dir": "x", "until": "soon"}'])
def test_a_variable_that_paccel_did_not_write_is_an_error(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(ConfigError, match="unset it"):
        read_replay()
