"""Limits on time and output: an untrusted template must neither hang nor fill the memory.

Jinja has no limits. Here, every loop, call, operator and output checks the budget. A single step of Python (one filter on
one text) cannot be interrupted, so its arguments are limited instead.
"""

import math
import re
import time
from collections.abc import Iterable
from typing import Any

FILE_SECONDS = 5.0
"""CPU seconds for one file, path or default."""

RENDER_SECONDS = 60.0
"""CPU seconds for a whole render."""

FILE_SIZE = 2**26
"""Characters of one file; also characters or items of each value that a template computes."""

RENDER_SIZE = 2**28
"""Characters of a whole render."""

SLOW_SIZE = 2**16
"""Characters of a text for a filter whose time may grow quadratically."""

LIST_SIZE = 2**20
"""Items of a nested value, counted at all depths."""

_BITS_PER_DIGIT = 3.3


class TooMuch(Exception):
    """Raised when a template exceeds a limit."""


class Budget:
    """The limits of one render. Call `begin` for each file."""

    def __init__(self) -> None:
        self._started = self._file_started = time.thread_time()
        self._size = self._file_size = 0.0

    def begin(self) -> None:
        """Start the limits of a new file."""
        self._file_started, self._file_size = time.thread_time(), 0.0

    def check(self) -> None:
        """Raise TooMuch if time is up. CPU time counts, because a busy machine is not the template's fault."""
        now = time.thread_time()
        if now - self._file_started > FILE_SECONDS:
            raise TooMuch(f"it takes more than {FILE_SECONDS:g} seconds")
        if now - self._started > RENDER_SECONDS:
            raise TooMuch(f"the template takes more than {RENDER_SECONDS:g} seconds")

    def spend(self, size: float) -> None:
        """Count `size` characters of output."""
        self.check()
        self._size += size
        self._file_size += size
        check_size(self._file_size)
        if self._size > RENDER_SIZE:
            raise TooMuch(f"the template makes more than {RENDER_SIZE >> 20} MiB")


def check_size(size: float) -> None:
    """Raise TooMuch if a text or list would exceed FILE_SIZE characters or items."""
    if size > FILE_SIZE:
        raise TooMuch(f"it makes a text, number or list of more than {FILE_SIZE >> 20} MiB")


def check_product(value: Any, arguments: Iterable[Any]) -> None:
    """Raise TooMuch if a text function could return too large a text.

    The result of `'x'.center(n)`, `text.replace(a, b)` or `separator.join(texts)` is at most the product of their sizes.
    """
    largest = max((weight(argument, counts=True) for argument in arguments), default=1)
    check_size(max(1, weight(value)) * max(1, largest))


def check_slow(value: Any, function: str) -> None:
    """Raise TooMuch if a text is too long for a function that may take quadratic time."""
    if isinstance(value, str) and len(value) > SLOW_SIZE:
        raise TooMuch(f"`{function}` takes texts of at most {SLOW_SIZE >> 10} KiB")


def check_format(text: Any, arguments: Iterable[Any]) -> None:
    """Raise TooMuch if `text.format(…)` or `text % …` could return too large a text."""
    text = str(text)
    widths = sum(int(digits) for digits in re.findall(r"[0-9]{1,9}", text))
    nested = re.search(r":[^{}]*\{|%[^a-zA-Z%]*\*", text) is not None
    check_size(widths + len(text) * max((weight(argument, counts=nested) for argument in arguments), default=1))


def weight(value: Any, counts: bool = False) -> float:
    """Count the characters and items in a value at all depths, up to the limits.

    Args:
        value: Any value.
        counts: Whether a number counts as itself (it may be a width or a repetition), instead of by its digits.
    """
    total, seen = 0.0, 0
    left = [value]
    while left and total <= FILE_SIZE:
        item = left.pop()
        seen += 1
        if seen > LIST_SIZE:
            return math.inf
        if isinstance(item, (str, bytes)):
            total += len(item)
        elif isinstance(item, int):
            total += abs(item) if counts else item.bit_length() / _BITS_PER_DIGIT
        elif isinstance(item, (list, tuple, set, frozenset)):
            total += len(item)
            left += item
        elif isinstance(item, dict):
            total += len(item)
            left += [*item.keys(), *item.values()]
        else:
            total += 1
    return total


def check_operator(operator: str, left: Any, right: Any) -> None:
    """Raise TooMuch if the result of `left operator right` would be too large."""
    numbers = isinstance(left, int) and isinstance(right, int)
    if operator == "**" and numbers:
        check_size(left.bit_length() * max(1, right) * 64)  # multiplying long numbers takes quadratic time
    elif operator == "*" and numbers:
        check_size((left.bit_length() + right.bit_length()) * 64)
    elif operator == "*" and (isinstance(left, int) or isinstance(right, int)):
        times, value = (left, right) if isinstance(left, int) else (right, left)
        check_size(max(0, times) * max(1.0, weight(value)))
    elif operator == "%" and isinstance(left, (str, bytes)):
        check_format(left, right if isinstance(right, tuple) else [right])
    elif operator == "+" and hasattr(left, "__len__") and hasattr(right, "__len__"):
        check_size(len(left) + len(right))
