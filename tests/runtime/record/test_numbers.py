"""Logged values become numbers; a value without any is an error that names it."""

import json
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.tiny_train import Config

from paccel.runtime import ConfigError, Run
from paccel.runtime.record.numbers import as_numbers


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.array(0.25), 0.25),
        (np.bool_(True), True),
        (torch.tensor(0.5, requires_grad=True), 0.5),
        (torch.tensor(3), 3),
        (Decimal("0.5"), 0.5),
        (Fraction(1, 4), 0.25),
        (2**70, 2**70),
        (True, True),
    ],
)
def test_a_number_is_logged_as_it_is(value: Any, number: float) -> None:
    found = as_numbers("eval", {"with spaces": value})
    assert found == {"with spaces": number}
    assert type(found["with spaces"]) is type(number)


@pytest.mark.parametrize(
    ("value", "numbers"),
    [
        (torch.tensor([1, 2]), {"f1/0": 1, "f1/1": 2}),
        (np.array([[0.5], [0.25]]), {"f1/0/0": 0.5, "f1/1/0": 0.25}),
        ([1, None, (2,)], {"f1/0": 1, "f1/2/0": 2}),
        ({"cat": np.float64(1), 3: [torch.tensor(2.0)]}, {"f1/cat": 1.0, "f1/3/0": 2.0}),
        (None, {}),
        ([], {}),
    ],
)
def test_several_numbers_are_named_by_index_or_key(value: Any, numbers: dict[str, float]) -> None:
    assert as_numbers("eval", {"f1": value}) == numbers


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("a note", "it is no number: 'a note'"),
        (b"0.5", "it is no number: b'0.5'"),
        (1j, "it is no number: 1j"),
        (["x" * 99], "it is no number: a str"),
        ({1, 2}, "it is no number: {1, 2}"),
        (10**400, "int too large to convert to float"),
        ([[1] * 40] * 40, "it has more than 1000 numbers"),
        (torch.zeros(2, 501), r"it has 1002 numbers, shape \(2, 501\)"),
    ],
)
def test_a_value_that_is_no_number_is_named(value: Any, problem: str) -> None:
    with pytest.raises(ConfigError, match=f"^`eval/f1` cannot be logged: {problem}"):
        as_numbers("eval", {"loss": 1, "f1": value})


def test_all_problems_come_at_once() -> None:
    with pytest.raises(ConfigError, match=r"(?s)`eval/a` .*\n`eval/c` "):
        as_numbers("eval", {"a": "x", "b": 1, "c": "y"})


def test_a_line_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    with Run(Config(tmp_path / "run")) as run:
        with pytest.raises(ConfigError, match="`eval/note`"):
            run.log("eval", loss=1.0, note="text")
        run.log("eval", {"f1": np.array([0.5, np.nan])}, bad=torch.tensor(float("nan")), huge=2**70)
    (line,) = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    logged = {name: value for name, value in json.loads(line).items() if name.startswith("eval/")}
    assert logged == {"eval/f1/0": 0.5, "eval/f1/1": None, "eval/bad": None, "eval/huge": 2**70}
