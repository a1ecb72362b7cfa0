"""Map-style datasets over tar, Parquet and JSON lines files, in folders and buckets.

The first use reads all shards once and writes an index of where each sample is. With it, samples are read by number:
any order, immediate exact resume, and the same samples on any number of processes and workers.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from .data.randomness import key
from .data.shards.index import Index, Reader, Scan, read_index, write_index
from .data.shards.lines import LinesReader, LinesScan
from .data.shards.parquet import ParquetReader, ParquetScan
from .data.shards.store import store_of
from .data.shards.tar import TarReader, TarScan
from .storage.files import json_bytes

_FORMATS: dict[str, tuple[type[Scan], type[Reader]]] = {
    "tar": (TarScan, TarReader),
    "json": (LinesScan, LinesReader),
    "parquet": (ParquetScan, ParquetReader),
}


class Shards(Dataset[Any]):
    """The samples of all shards, in order, with a length and an index.

    A sample of JSON lines or Parquet is a dict: a line or a row. A sample of tar is what webdataset makes: the files with
    the same name up to its first dot, as `{"__key__": name, "jpg": bytes, "seg.png": bytes}`, extensions in lower case.
    Files without an extension, folders and special files are left out, and links are followed. May be pickled and forked:
    each process opens the shards by itself.

    Args:
        paths: A folder, a pattern such as `data/*.tar`, or several files; with `://`, what fsspec opens. All of one kind:
            `.tar`, `.parquet`, `.jsonl`, `.ndjson`.
        decode: From such a dict to the sample; called in the worker.
        index: Folder of the index. None: `.index` beside local shards; `data/index` for remote shards, and for folders
            that cannot be written to.

    Attributes:
        names: The shards, in order.
        index: Folder of the index.
        content_hash: Hash of the names, sizes and some parts of the shards.

    Raises:
        DataError: There is no shard or no sample, a shard is damaged, or the index does not match the shards.
        ConfigError: The shards are of several kinds, or of one that cannot be read.
    """

    def __init__(
        self,
        paths: str | Path | Sequence[str | Path],
        decode: Callable[[dict[str, Any]], Any] | None = None,
        index: str | Path | None = None,
    ) -> None:
        self.decode = decode
        self._store = store_of(paths)
        self.names = self._store.names
        self.kind = self._store.kind()
        self.index = self._store.index_folder() if index is None else Path(index)
        scan, reader = _FORMATS[self.kind]
        content = read_index(self.index) or write_index(self.index, self._store, self.kind, scan())
        self._index = Index(self.index, content)
        self._index.check_shards(self._store)
        self._reader = reader(self._index, self._store)
        self.content_hash = hashlib.sha256(json_bytes([self.kind, self._index.shards])).hexdigest()

    def __len__(self) -> int:
        return int(self._index.first[-1])

    def __getitem__(self, number: int) -> Any:
        if not -len(self) <= number < len(self):
            raise IndexError(f"sample {number} of {len(self)}")
        return self.__getitems__([number % len(self)])[0]

    def __getitems__(self, numbers: Sequence[int]) -> list[Any]:
        """Several samples. From remote shards they are requested concurrently."""
        samples = np.asarray(numbers, np.int64)
        shards = np.searchsorted(self._index.first, samples, "right") - 1
        for shard in set(shards.tolist()):
            self._index.check_unchanged(self._store, shard)
        found = self._reader.read(shards, samples)  # lazily, so that each sample is decoded while in the CPU's cache
        return list(found if self.decode is None else map(self.decode, found))

    def in_blocks(self, seed: int, window: int = 16, block: int = 256) -> Callable[[int], torch.Tensor]:
        """A custom order for `run.loader(shards, …, shuffle=shards.in_blocks(seed))` that reads neighbours together.

        Blocks are shuffled, and then the samples within each `window` blocks. Faster for Parquet, which decodes a whole
        row group for one of its rows, and for remote or spinning disks. Takes 8 bytes of memory per sample.

        Args:
            seed: Seed of the run.
            window: Number of blocks whose samples are mixed.
            block: Samples per block; for Parquet, blocks are row groups.
        """
        if self.kind == "parquet":
            groups = (self._index.places(shard)[:-1] + self._index.first[shard] for shard in range(len(self.names)))
            starts = np.concatenate([*groups, [len(self)]])
        else:
            starts = np.append(np.arange(0, len(self), block), len(self))

        def order(epoch: int) -> torch.Tensor:
            draw = np.random.Generator(np.random.PCG64(key(seed, "blocks", epoch)))
            blocks = draw.permutation(len(starts) - 1)
            parts = []
            for first in range(0, len(blocks), window):
                together = [np.arange(starts[b], starts[b + 1]) for b in blocks[first : first + window]]
                parts.append(draw.permutation(np.concatenate(together)))
            return torch.from_numpy(np.concatenate(parts))

        return order
