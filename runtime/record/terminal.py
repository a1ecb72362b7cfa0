"""Standard output and error, which may go away while a run goes on: a closed pipe, a terminal that hung up, a full disk."""

import io
import os
import sys
from contextlib import suppress
from typing import Any


def survive_lost_output() -> None:
    """Let what is printed to an output that is gone get lost, instead of ending the process.

    What the terminal's encoding has no character for is written as an escape. Outputs that are not a file of the
    operating system, such as a notebook's, stay as they are.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # it was closed before Python started
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        raw = getattr(stream, "buffer", None)
        raw = getattr(raw, "raw", raw)  # there is no buffer under `python -u`
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
    """The file of a text stream, to which every write succeeds."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        super().__init__(stream.fileno(), "w", closefd=False)
        self.stream = stream  # which would close the file when nothing holds it

    def write(self, data: Any) -> int:
        try:
            written = super().write(data)  # None where it would have to wait
        except OSError:
            written = None
        return memoryview(data).nbytes if written is None else written
