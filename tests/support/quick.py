"""Which of many cases belong to the quick suite."""

from collections.abc import Iterable
from typing import Any

import pytest


def quick_first(cases: Iterable[Any]) -> list[Any]:
    """The cases as parameters, all but the first of them marked as slow."""
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=[pytest.mark.slow] if number else [])
        for number, case in enumerate(cases)
    ]
