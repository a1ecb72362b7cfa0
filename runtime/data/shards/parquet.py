"""Parquet: a sample is a row."""

import os
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np

from .index import Index, Integers, Reader, Scan
from .store import Store, required

_MAX_OPEN = 64  # files that a process keeps open
_MAX_GROUPS = 8  # row groups that a process keeps decoded


class ParquetScan(Scan):
    """Notes the first row of each row group, and the number of rows."""

    def add(self, name: str, file: Any, size: int) -> tuple[int, int]:
        table = required("pyarrow.parquet", name).ParquetFile(file)
        columns, known = table.schema_arrow.names, table.metadata
        if twice := {column for column in columns if columns.count(column) > 1}:
            raise ValueError(f"it has two columns `{min(twice)}`, and a sample is a dict of columns")
        rows = np.cumsum([0, *(known.row_group(group).num_rows for group in range(known.num_row_groups))], dtype="<i8")
        self._places.append(rows)
        return int(rows[-1]), len(rows)


class ParquetReader(Reader):
    """Reads rows, and keeps the row groups that it decoded last."""

    def __init__(self, index: Index, store: Store) -> None:
        super().__init__(index, store)
        self._process = os.getpid()
        self._file = lru_cache(_MAX_OPEN)(self._open)
        self._group = lru_cache(_MAX_GROUPS)(self._decode)

    def read(self, shards: Integers, numbers: Integers) -> Iterator[dict[str, Any]]:
        rows = numbers - self._index.first[shards]
        return map(self._row, shards.tolist(), rows.tolist())

    def _row(self, shard: int, row: int) -> dict[str, Any]:
        starts = self._index.places(shard)
        group = int(np.searchsorted(starts, row, "right")) - 1
        found: dict[str, Any] = self._group(shard, group).slice(row - int(starts[group]), 1).to_pylist()[0]
        return found

    def _decode(self, shard: int, group: int) -> Any:
        if self._process != os.getpid():  # forked: Arrow's threads and file positions cannot be shared
            self._process = os.getpid()
            self._file.cache_clear()
        return self._file(shard).read_row_group(group)

    def _open(self, shard: int) -> Any:
        parquet = required("pyarrow.parquet", self._store.names[shard])
        return parquet.ParquetFile(self._store.open_for_arrow(shard))

    def __reduce__(self) -> Any:
        return ParquetReader, (self._index, self._store)
