"""Lets a run survive the loss of its output: a closed pipe, a terminal that hung up, a full disk."""

import io
import os
import sys
from contextlib import suppress
from typing import Any


def survive_lost_output() -> None:
    """Discard text that standard output or error cannot take, instead of raising an error.

    Characters that the terminal's encoding lacks are escaped. Outputs that are no file of the operating system, such as
    a notebook's, stay as they are.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # it was closed before Python started
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        raw = getattr(stream, "buffer", None)
        raw = getattr(raw, "raw", raw)  # `python -u` has no buffer
        if type(stream) is io.TextIOWrapper and type(raw) is io.FileIO:
            with suppress(OSError):
                stream.flush()
            lossy = io.TextIOWrapper(
                io.BufferedWriter(_Lossy(stream)),
                encoding=stream.encoding,
                errors="backslashreplace",
                line_buffering=stream.line_buffering,
                write_through=stream.write_through,
            )
            setattr(sys, name, lossy)


class _Lossy(io.FileIO):
    """The file below a text stream. Every write succeeds; data that the file cannot take is discarded."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        super().__init__(stream.fileno(), "w", closefd=False)
        self.stream = stream  # keeps it alive: it closes the file when it is collected

    def write(self, data: Any) -> int:
        try:
            written = super().write(data)  # None if it would block
        except OSError:
            written = None
        return memoryview(data).nbytes if written is None else written
