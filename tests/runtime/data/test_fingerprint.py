"""Fingerprints distinguish data of the same length."""

from dataclasses import dataclass
from functools import partial
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from paccel.runtime.data.fingerprint import fingerprint

# Imported by the tests that use them: they take seconds, and each worker collects each file
pandas, transformers = partial(import_module, "pandas"), partial(import_module, "transformers")


@dataclass
class Row:
    """A sample."""

    value: float


def content(**attributes: Any) -> str | None:
    return fingerprint(SimpleNamespace(**attributes))["content"]


@pytest.mark.parametrize(
    "make",
    [
        lambda value: pandas().DataFrame({"a": [1.0, value], "b": ["x", "y"]}),
        lambda value: pandas().Series([1.0, value]).to_numpy(),
        lambda value: {"ids": [[1, 2], [3, value]], "mask": [[1, 1], [1, 0]]},
        pytest.param(lambda value: transformers().BatchEncoding({"ids": [[1, 2], [3, value]]}), marks=pytest.mark.slow),
        lambda value: {"x": np.array([1.0, value])},
        lambda value: [Row(1.0), Row(value)],
    ],
)
def test_tables_columns_and_rows_that_a_dataset_holds_are_told_apart(make: Any) -> None:
    assert content(data=make(5)) == content(data=make(5))
    assert content(data=make(5)) != content(data=make(6))


def test_a_table_with_other_names_of_columns_is_another_one() -> None:
    assert content(data=pandas().DataFrame({"a": [1]})) != content(data=pandas().DataFrame({"b": [1]}))


def test_caches_by_index_and_options_are_not_part_of_the_data() -> None:
    assert content(cache={3: np.zeros(2)}, options={"size": [8, 8], "mode": "train"}) is None


def files(folder: str, *names: str) -> str | None:
    return content(files=[f"{folder}/{name}" for name in names])


@pytest.mark.parametrize(
    "names", [("0.png", "1.png"), ("cat/0.png", "dog/0.png"), ("a/b/0.png", "a/c/0.png"), ("0.png",)]
)
def test_files_may_lie_in_a_folder_of_any_name_but_not_under_other_names(names: tuple[str, ...]) -> None:
    found = files("/scratch/job-1", *names)
    assert found == files("/scratch/job-2", *names) == files("data", *names)
    assert found != files("/scratch/job-1", *names[1:], "other/2.png")


def test_files_that_change_their_class_are_other_data() -> None:
    assert files("/data", "cat/0.png", "dog/1.png") != files("/data", "dog/0.png", "cat/1.png")
