"""The index of shards on disk: where each sample is, and how to notice that a shard has changed.

`index.json` lists the shards and names the array files beside it, which are memory-mapped. It is written last, each file
by one rename, so an interrupted process leaves no index that looks complete.
"""

import hashlib
import json
import os
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import ConfigError, DataError
from ...storage.files import durable_write, json_bytes, sync_folder
from ..fingerprint import spread
from ..temporary import temporary
from .store import Store, reason_of, short_name

_FORMAT = 2
_ARRAYS: dict[str, tuple[str, tuple[int, ...]]] = {  # type and shape
    "places": ("<i8", (-1,)),
    "samples": ("<i8", (-1, 2)),
    "members": ("<i8", (-1, 3)),
    "keys": ("u1", (-1,)),
}
_PROBE_BYTES, _PROBES = 4096, 8  # parts of a shard that are hashed to notice changes
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")  # first bytes: gzip, bzip2, xz, Zstandard

Integers = npt.NDArray[np.int64]


class Scan(ABC):
    """Reads shards of one format in order and notes where their samples are.

    Attributes:
        suffixes: Of tar: the extensions that occur.
    """

    def __init__(self) -> None:
        self.suffixes: list[str] = []
        self._places: list[Integers] = []

    @abstractmethod
    def add(self, name: str, file: Any, size: int) -> tuple[int, int]:
        """Scan one shard. Returns its numbers of samples and of `places`.

        Raises:
            ValueError: The shard is damaged; says where.
        """

    def arrays(self) -> dict[str, bytes]:
        """The arrays of the index, by name."""
        return {"places": np.concatenate(self._places).tobytes()}


class Index:
    """An index in memory. May be pickled: each process maps the arrays by itself.

    Attributes:
        folder: Where it is stored.
        shards: For each shard, in order, its `name` and `size`, and how many `samples` and `places` it has.
        suffixes: Of tar: the extensions, as the array `members` numbers them.
        arrays: Memory-mapped, by name; each format has its own.
        first: The number of each shard's first sample, and of the samples in all. Shape (shards + 1,).
    """

    def __init__(self, folder: Path, content: dict[str, Any]) -> None:
        self.folder = folder
        self.shards: list[dict[str, Any]] = content["shards"]
        self.suffixes: list[str] = content["suffixes"]
        self.arrays = {name: _mapped(folder / file["name"], name) for name, file in content["files"].items()}
        self.first = np.cumsum([0, *(shard["samples"] for shard in self.shards)])
        self._first_places = np.cumsum([0, *(shard["places"] for shard in self.shards)])
        self._stamps: dict[int, Any] = {}  # of the shards that this process has compared

    def places(self, shard: int) -> Integers:
        """The part of the array `places` that belongs to a shard."""
        return self.arrays["places"][self._first_places[shard] : self._first_places[shard + 1]]

    def check_shards(self, store: Store) -> None:
        """Compare names and sizes of all shards with the index.

        Raises:
            DataError: They differ; names the first three differences.
        """
        indexed = {shard["name"]: shard["size"] for shard in self.shards}
        names = {short_name(name): name for name in store.names}
        problems = [f"`{short}` is missing" for short in indexed if short not in names]
        problems += [f"`{short}` is not in the index" for short in names if short not in indexed]
        for short, size in indexed.items():
            if short in names and (found := store.sizes[names[short]]) != size:
                problems.append(f"`{names[short]}` has {found} bytes, and had {size}")
        if not problems and list(names) != list(indexed):
            problems = ["they are in another order"]
        if problems:
            more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
            raise DataError(
                f"The index in `{self.folder}` does not match the shards ({'; '.join(problems[:3])}{more}): "
                f"{self._how_to_repair}"
            )

    def check_unchanged(self, store: Store, shard: int) -> None:
        """Compare parts of a local shard with the index, the first time and whenever its file was written since.

        Raises:
            DataError: They differ.
        """
        stamp = store.stamp(shard)
        if self._stamps.get(shard) != stamp:
            known = self.shards[shard]
            if _probe(store, shard, known["size"]) != known["marks"]:
                raise DataError(f"`{store.names[shard]}` has changed since it was indexed: {self._how_to_repair}")
            self._stamps[shard] = stamp

    @property
    def _how_to_repair(self) -> str:
        return f"restore the shards, or delete `{self.folder}` to rebuild the index"

    def __reduce__(self) -> Any:
        return _mapped_again, (self.folder, self.shards)


class Reader(ABC):
    """Reads samples of one format at the offsets in the index."""

    def __init__(self, index: Index, store: Store) -> None:
        self._index, self._store = index, store

    @abstractmethod
    def read(self, shards: Integers, numbers: Integers) -> Iterator[dict[str, Any]]:
        """The samples with these numbers; `shards` has the shard of each."""


def _mapped_again(folder: Path, shards: list[dict[str, Any]]) -> Index:
    content = read_index(folder)
    if content is None or content["shards"] != shards:
        raise DataError(f"The index in `{folder}` was rewritten while a run reads it")
    return Index(folder, content)


def _mapped(path: Path, name: str) -> npt.NDArray[Any]:
    kind, shape = _ARRAYS[name]
    try:
        found = np.memmap(path, kind, "r") if path.stat().st_size else np.empty(0, kind)
    except OSError as error:
        raise _unreadable(path, error) from None
    return found.view(np.ndarray).reshape(shape)


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"The index `{path}` cannot be read ({reason_of(error)}): pass another `index`")


def read_index(folder: Path) -> dict[str, Any] | None:
    """The content of `index.json`. None if there is none, or one of an older paccel, which has to be rebuilt.

    Raises:
        DataError: It cannot be read, or is not complete.
    """
    path = folder / "index.json"
    try:
        if not path.exists():
            return None
        if not path.is_file():
            raise ValueError("it is not a regular file")  # opening a pipe would wait for its other end
        index: dict[str, Any] = json.loads(path.read_bytes())
        if index["format"] < _FORMAT:
            return None
        if index["format"] == _FORMAT and all(
            (folder / file["name"]).stat().st_size == file["size"] for file in index["files"].values()
        ):
            return index
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        pass
    except OSError as error:
        raise _unreadable(path, error) from None
    raise DataError(f"`{path}` is not a valid index of shards for this paccel: delete `{folder}` to rebuild it")


def write_index(folder: Path, store: Store, kind: str, scan: Scan) -> dict[str, Any]:
    """Scan all shards and write their index. Returns the content of `index.json`.

    Several processes may do so at the same time: they write the same files.

    Raises:
        DataError: A shard is damaged or compressed, there is no sample, or the index cannot be written.
        ConfigError: A package is missing.
    """
    shards = [_scanned(store, number, scan) for number in range(len(store.names))]
    if not any(shard["samples"] for shard in shards):
        raise DataError(f"No samples in `{store.names[0]}`" + " or the other shards" * (len(shards) > 1))
    files, contents = {}, {}
    for name, data in scan.arrays().items():
        file_name = f"{name}-{hashlib.sha256(data).hexdigest()[:16]}.bin"
        files[name], contents[file_name] = {"name": file_name, "size": len(data)}, data
    index = {"format": _FORMAT, "kind": kind, "files": files, "suffixes": scan.suffixes, "shards": shards}
    contents["index.json"] = json_bytes(index)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file_name, content in contents.items():
            _write(folder / file_name, content)
    except OSError as error:
        raise DataError(f"The index cannot be written to `{folder}` ({error.strerror}): pass another `index`") from None
    sync_folder(folder)
    return index


def _scanned(store: Store, number: int, scan: Scan) -> dict[str, Any]:
    """A shard's entry in the index."""
    name = store.names[number]
    size = store.sizes[name]
    try:
        with store.open(number) as file:
            if file.read(len(max(_COMPRESSED, key=len))).startswith(_COMPRESSED):
                raise ValueError("it is compressed, which has no random access: decompress it")
            file.seek(0)
            samples, places = scan.add(name, file, size)
    except ConfigError:
        raise  # a package is missing
    except (tarfile.TarError, ValueError, OSError) as error:
        raise DataError(f"`{name}` is damaged, or not a {Path(name).suffix} file: {error}") from None
    marks = _probe(store, number, size)
    return {"name": short_name(name), "size": size, "marks": marks, "samples": samples, "places": places}


def _write(path: Path, content: bytes) -> None:
    aside = temporary(path)
    try:
        durable_write(aside, [content])
        os.replace(aside, path)
    finally:
        with suppress(OSError):
            aside.unlink()


def _probe(store: Store, shard: int, size: int) -> str:
    """A hash of some parts of a shard, including its first and last bytes."""
    digest = hashlib.sha256(str(size).encode())
    for start in spread(range(max(0, size - _PROBE_BYTES) + 1), _PROBES):
        digest.update(*store.read([shard], [start], [min(_PROBE_BYTES, size - start)]))
    return digest.hexdigest()
