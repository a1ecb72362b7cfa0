"""Which of many cases belong to the quick suite."""

from collections.abc import Iterable
from typing import Any

import pytest

from support.sampled import every_third_day


def quick_first(cases: Iterable[Any]) -> list[Any]:
    """The cases as parameters: the first is quick, the others are slow and run a third per day."""
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)),
            marks=[pytest.mark.slow, every_third_day(number % 3)] if number else [],
        )
        for number, case in enumerate(cases)
    ]
