"""Every point at which a process touches the disk: where a kill or a full disk may hit it."""

import io
import os
import threading
from collections.abc import Callable
from typing import Any, Self

_FUNCTIONS = ("fsync", "rename", "replace", "mkdir", "unlink", "rmdir")


class Points:
    """Calls `at` with the number of each point, counted from 1: before each operation, and in the middle of each write.

    Threads take turns, so that nothing else changes the disk while `at` looks at it; operations of `at` itself are not
    points. A context manager: it removes its hooks at the end.
    """

    def __init__(self, at: Callable[[int], None]) -> None:
        self.at, self.count = at, 0
        self._turn, self._is_looking = threading.RLock(), False
        self._originals: list[tuple[Any, str, Any]] = []

    def install(self) -> None:
        for name in _FUNCTIONS:
            self._wrap(os, name, self._operation(getattr(os, name)))
        self._wrap(io, "open", self._opening(io.open))

    def __enter__(self) -> Self:
        self.install()
        return self

    def __exit__(self, *_: object) -> None:
        for module, name, original in self._originals:
            setattr(module, name, original)

    def act(self, action: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Reach a point, then do the operation."""
        with self._turn:
            if not self._is_looking:
                self.count += 1
                self._is_looking = True
                try:
                    self.at(self.count)
                finally:
                    self._is_looking = False
            return action(*args, **options)

    def _wrap(self, module: Any, name: str, wrapped: Any) -> None:
        self._originals.append((module, name, getattr(module, name)))
        setattr(module, name, wrapped)

    def _operation(self, original: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **options: self.act(original, *args, **options)

    def _opening(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def opened(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
            if mode not in ("wb", "ab") or self._is_looking:
                return original(file, mode, *args, **options)
            return TornFile(self.act(original, file, mode, *args, **options), self)

        return opened


class TornFile:
    """A file whose writes have a point in the middle, when half of the bytes are on disk."""

    def __init__(self, file: Any, points: Points) -> None:
        self.file, self.points = file, points

    def write(self, data: Any) -> None:
        half = len(data) // 2
        self.file.write(data[:half])
        self.file.flush()
        self.points.act(self.file.write, data[half:])

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __enter__(self) -> "TornFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
