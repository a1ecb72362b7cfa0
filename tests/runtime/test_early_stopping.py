"""Early stopping counts evaluations without a better score."""

import json
import math
from typing import Any

import pytest
import torch

from paccel.runtime.early_stopping import EarlyStopping
from paccel.runtime.errors import ConfigError


def first_stop(stopping: EarlyStopping, values: list[float | None]) -> int | None:
    """The number of evaluations after which it says to stop."""
    return next((number for number, value in enumerate(values, 1) if stopping.should_stop(value)), None)


def test_it_stops_after_patience_evaluations_without_improvement() -> None:
    assert first_stop(EarlyStopping(2), [3.0, 2.0, 2.5, 1.0, 1.0, 1.5, 0.0]) == 6
    assert first_stop(EarlyStopping(1), [3.0, 2.0, 1.0]) is None
    assert first_stop(EarlyStopping(1), [3.0, 3.0]) == 2


def test_larger_can_be_better() -> None:
    assert first_stop(EarlyStopping(2, "max"), [0.1, 0.2, 0.2, 0.19]) == 4
    assert first_stop(EarlyStopping(2, "max"), [0.1, 0.2, 0.3, 0.4]) is None


def test_an_improvement_below_min_delta_does_not_count() -> None:
    assert first_stop(EarlyStopping(3, min_delta=0.1), [1.0, 0.95, 0.92, 0.91]) == 4
    assert first_stop(EarlyStopping(3, min_delta=0.1), [1.0, 0.95, 0.92, 0.89, 0.89]) is None


def test_nan_and_none_are_never_better() -> None:
    assert first_stop(EarlyStopping(3), [math.nan, None, math.nan]) == 3
    stopping = EarlyStopping(3)
    assert first_stop(stopping, [1.0, math.nan, None, 0.5, math.nan, 0.6]) is None
    assert stopping.best == 0.5
    assert first_stop(EarlyStopping(2), [math.inf, 5.0, -math.inf, 1.0, 1.0]) == 5


def test_it_resumes_where_it_was_saved() -> None:
    values = [5.0, 4.0, 4.5, 4.6, 4.7]
    for at in range(len(values)):
        before = EarlyStopping(3)
        assert first_stop(before, values[:at]) is None
        after = EarlyStopping(3)
        after.load_state_dict(json.loads(json.dumps(before.state_dict())))
        assert first_stop(after, values[at:]) == len(values) - at


def test_all_invalid_arguments_are_named() -> None:
    with pytest.raises(ConfigError) as caught:
        EarlyStopping(0, "least", -1.0)  # type: ignore[arg-type]
    assert [line.split("`")[1] for line in str(caught.value).splitlines()] == ["patience", "mode", "min_delta"]
    for patience in (1.5, True, None):
        with pytest.raises(ConfigError, match="whole number"):
            EarlyStopping(patience)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="min_delta"):
        EarlyStopping(1, min_delta=math.nan)


@pytest.mark.parametrize("score", [[1.0], {"loss": 1.0}, "low", 1 + 2j, torch.ones(2)])
def test_a_score_that_is_no_number_is_named(score: Any) -> None:
    with pytest.raises(ConfigError, match="The score to stop by is no number: "):
        EarlyStopping(1).should_stop(score)
