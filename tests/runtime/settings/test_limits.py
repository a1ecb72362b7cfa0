"""Each number has a range, and the error for a number outside it says what to pass instead."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from paccel.runtime.errors import ConfigError
from paccel.runtime.settings.limits import beyond_limits, check_limits

FROM_1 = [
    "epochs",
    "max_steps",
    "global_batch_size",
    "eval_batch_size",
    "micro_batch_size",
    "accumulate",
    "passes",
    "limit_batches",
]
FROM_1 += ["log_every", "eval_every", "save_every", "Step.every", "Step.due", "keep_last", "keep_best", "patience"]
FROM_0 = ["num_workers", "learning_rate", "weight_decay", "skip_non_finite"]
ABOVE_0 = ["max_grad_norm", "process_timeout", "time_limit"]


@pytest.mark.parametrize(
    ("names", "fits", "beyond", "words"),
    [
        (FROM_1, (1, 10**400, np.int64(3)), (0, -1, 0.5, np.int32(0)), "must be at least 1, not "),
        (FROM_0, (0, 3, np.float32(0)), (-1, -1e-9, np.float64(-1)), "must be at least 0, not "),
        (ABOVE_0, (1e-9, 3), (0, -0.0, -1, Fraction(-1, 2)), "must be above 0, not "),
    ],
)
def test_a_number_beyond_its_limit_is_named(
    names: list[str], fits: tuple[Any, ...], beyond: tuple[Any, ...], words: str
) -> None:
    for name in names:
        assert beyond_limits(dict.fromkeys([name], None)) == []
        assert [beyond_limits({name: number}) for number in fits] == [[]] * len(fits)
        for number in (*beyond, math.nan, -math.inf):
            (problem,) = beyond_limits({name: number})
            assert problem.startswith(f"`{name}` {words}{number}")


def test_only_a_clipping_norm_and_a_time_limit_may_be_infinite() -> None:
    infinite = {name for name in (*FROM_1, *FROM_0, *ABOVE_0) if not beyond_limits({name: math.inf})}
    assert infinite == {"max_grad_norm", "time_limit"}


@pytest.mark.parametrize(
    ("name", "off"),
    [
        ("log_every", "off"),
        ("save_every", "after each epoch"),
        ("max_grad_norm", "off"),
        ("process_timeout", "PyTorch's default"),
    ],
)
def test_the_message_says_what_none_is(name: str, off: str) -> None:
    assert beyond_limits({name: -1})[0].endswith(f", not -1; None is {off}")


def test_settings_without_a_limit_and_values_that_are_no_number_pass() -> None:
    assert beyond_limits({"width": -1, "epochs": "many", "log_every": None}) == []


def test_arguments_are_numbers_and_counts_are_whole() -> None:
    assert beyond_limits({"epochs": 2.0, "learning_rate": 0.5, "max_grad_norm": 0.5}) == []
    assert beyond_limits({"epochs": 2.5}) == ["`epochs` must be a whole number, not 2.5; None is off"]
    for given, said in (("8", "'8'"), (None, "None")):
        with pytest.raises(ConfigError, match=f"`accumulate` must be at least 1, not {said}"):
            check_limits({"accumulate": given})
    check_limits({"max_grad_norm": torch.tensor(1.0), "micro_batch_size": None})


def test_all_problems_come_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        check_limits({"keep_last": 0, "keep_best": 1, "patience": -2})
    assert str(caught.value).splitlines() == [
        "`keep_last` must be at least 1, not 0",
        "`patience` must be at least 1, not -2",
    ]
