"""JSON lines: a sample is a line."""

import codecs
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from ...errors import DataError
from .index import Integers, Reader, Scan
from .store import reason_of

_PIECE_BYTES = 1 << 20  # read at once to count lines


class LinesScan(Scan):
    """Notes the start of each line, and the end of the last one. Blank lines belong to the line before."""

    def add(self, name: str, file: Any, size: int) -> tuple[int, int]:
        starts, place = [], 0
        for number, line in enumerate(file, 1):
            skipped = len(codecs.BOM_UTF8) if place == 0 and line.startswith(codecs.BOM_UTF8) else 0
            if line[skipped:].strip():
                starts.append(place + skipped)
                if not line.endswith(b"\n") or number == 1:  # the last may be truncated, the first no JSON at all
                    try:
                        json.loads(line[skipped:])
                    except (ValueError, RecursionError):
                        raise ValueError(f"line {number} is not valid JSON ({_problem(line[skipped:])})") from None
            place += len(line)
        self._places.append(np.array([*starts, place], "<i8"))
        return len(starts), len(starts) + 1


class LinesReader(Reader):
    """Reads samples by the offsets of their lines."""

    def read(self, shards: Integers, numbers: Integers) -> Iterator[dict[str, Any]]:
        places = numbers + shards  # each shard has one place more than samples
        starts, stops = self._index.arrays["places"][places], self._index.arrays["places"][places + 1]
        lines = self._store.read(shards.tolist(), starts.tolist(), (stops - starts).tolist())
        for shard, start, line in zip(shards.tolist(), starts.tolist(), lines, strict=True):
            try:
                sample = json.loads(line)
            except (ValueError, RecursionError):
                raise DataError(
                    f"Line {self._line_number(shard, start)} of `{self._store.names[shard]}` is not valid JSON "
                    f"({_problem(line)}): fix it, and delete `{self._index.folder}` to rebuild the index"
                ) from None
            yield sample

    def _line_number(self, shard: int, start: int) -> int:
        """The number of the line that begins at an offset, counted from 1."""
        with self._store.open(shard) as file:
            pieces: Iterator[bytes] = iter(lambda: file.read(min(_PIECE_BYTES, start - file.tell())), b"")
            return 1 + sum(piece.count(b"\n") for piece in pieces)


def _problem(line: bytes) -> str:
    try:
        json.loads(line.strip())
    except json.JSONDecodeError as error:
        return f"{error.msg} at column {error.colno}"
    except (ValueError, RecursionError) as error:
        return reason_of(error)
    return "it has changed"
