"""What rendering a template may take: a template that one does not trust must neither hang nor fill the memory.

Jinja has no bounds of its own. Every loop, call, operator and output asks the budget; what it cannot interrupt is a single
step of Python's own (one filter on one text), whose arguments are bounded instead.
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
"""Characters (or items) of one file, and of each value on the way to it."""

RENDER_SIZE = 2**28
"""Characters of a whole render."""

SLOW_SIZE = 2**16
"""Characters of a text for a filter whose time may grow with its square."""

LIST_SIZE = 2**20
"""Items of a value that is counted at any depth."""

_DIGITS = 3.3  # bits for each


class TooMuch(Exception):
    """A template asks for more than a render may take."""


class Budget:
    """The bounds of one render; call `begin` for each file."""

    def __init__(self) -> None:
        self._started = self._file_started = time.thread_time()
        self._size = self._file_size = 0.0

    def begin(self) -> None:
        """Begin a file."""
        self._file_started, self._file_size = time.thread_time(), 0.0

    def check(self) -> None:
        """Raise TooMuch if the time is over. The processor's time counts: a busy machine is no fault of the template."""
        now = time.thread_time()
        if now - self._file_started > FILE_SECONDS:
            raise TooMuch(f"it takes more than {FILE_SECONDS:g} seconds")
        if now - self._started > RENDER_SECONDS:
            raise TooMuch(f"the template takes more than {RENDER_SECONDS:g} seconds")

    def spend(self, size: float) -> None:
        """Take `size` characters of output from what is left."""
        self.check()
        self._size += size
        self._file_size += size
        check_size(self._file_size)
        if self._size > RENDER_SIZE:
            raise TooMuch(f"the template makes more than {RENDER_SIZE >> 20} MiB")


def check_size(size: float) -> None:
    """Raise TooMuch if a text or a list would have more than FILE_SIZE characters or items."""
    if size > FILE_SIZE:
        raise TooMuch(f"it makes a text, number or list of more than {FILE_SIZE >> 20} MiB")


def check_product(value: Any, arguments: Iterable[Any]) -> None:
    """Raise TooMuch if a function of texts and numbers could make too large a text of `value` and `arguments`.

    `'x'.center(n)`, `text.replace(a, b)`, `separator.join(texts)`: none makes more than the product of its sizes.
    """
    largest = max((weight(argument, counts=True) for argument in arguments), default=1)
    check_size(max(1, weight(value)) * max(1, largest))


def check_slow(value: Any, function: str) -> None:
    """Raise TooMuch if a text is too long for a function whose time may grow with the square of its length."""
    if isinstance(value, str) and len(value) > SLOW_SIZE:
        raise TooMuch(f"`{function}` takes texts of at most {SLOW_SIZE >> 10} KiB")


def check_format(text: Any, arguments: Iterable[Any]) -> None:
    """Raise TooMuch if `text.format(…)` or `text % …` could make too large a text."""
    text = str(text)
    widths = sum(int(digits) for digits in re.findall(r"[0-9]{1,9}", text))
    nested = re.search(r":[^{}]*\{|%[^a-zA-Z%]*\*", text) is not None
    check_size(widths + len(text) * max((weight(argument, counts=nested) for argument in arguments), default=1))


def weight(value: Any, counts: bool = False) -> float:
    """The number of characters and items in a value, at any depth, as far as it matters.

    Args:
        value: Anything.
        counts: Numbers count as themselves (how often, how wide), and not as their digits.
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
            total += abs(item) if counts else item.bit_length() / _DIGITS
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
    """Raise TooMuch if `left operator right` would be too large."""
    numbers = isinstance(left, int) and isinstance(right, int)
    if operator == "**" and numbers:
        check_size(left.bit_length() * max(1, right) * 64)  # a long multiplication takes the square of its digits
    elif operator == "*" and numbers:
        check_size((left.bit_length() + right.bit_length()) * 64)
    elif operator == "*" and (isinstance(left, int) or isinstance(right, int)):
        times, value = (left, right) if isinstance(left, int) else (right, left)
        check_size(max(0, times) * max(1.0, weight(value)))
    elif operator == "%" and isinstance(left, (str, bytes)):
        check_format(left, right if isinstance(right, tuple) else [right])
    elif operator == "+" and hasattr(left, "__len__") and hasattr(right, "__len__"):
        check_size(len(left) + len(right))
