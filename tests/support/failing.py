"""Make one system call of an action fail, counted from 1, with a disk error."""

import builtins
import io
import os
from collections.abc import Callable
from typing import Any, Self

_FUNCTIONS = (
    "open",
    "fsync",
    "rename",
    "replace",
    "mkdir",
    "unlink",
    "rmdir",
    "chmod",
    "lstat",
    "stat",
    "scandir",
    "listdir",
)


class FailingCall:
    """A context in which the call of this number raises OSError; 0 only counts calls.

    Attributes:
        count: How many calls there were.
        hit: Which call failed, and on which file; empty if none did.
    """

    def __init__(self, number: int, error: int = 0) -> None:
        self.number, self.error = number, error
        self.count, self.hit = 0, ""
        self._originals: list[tuple[Any, str, Any]] = []

    def __enter__(self) -> Self:
        for name in _FUNCTIONS:
            self._wrap(os, name)
        self._wrap(io, "open")
        self._originals.append((builtins, "open", builtins.open))
        builtins.open = io.open
        return self

    def __exit__(self, *_: object) -> None:
        for module, name, original in self._originals:
            setattr(module, name, original)

    def _wrap(self, module: Any, name: str) -> None:
        original = getattr(module, name)
        self._originals.append((module, name, original))
        setattr(module, name, self._failing(original, f"{module.__name__}.{name}"))

    def _failing(self, original: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.count += 1
            if self.count == self.number:
                self.hit = f"{name}({arguments[0] if arguments else ''})"
                raise OSError(self.error, os.strerror(self.error), *map(str, arguments[:1]))
            return original(*arguments, **options)

        return call
