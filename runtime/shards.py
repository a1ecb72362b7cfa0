"""Shards with an index: folders and buckets of tar, Parquet or JSON lines files whose samples are read by number.

The index is made once, by one pass over the shards: where each sample lies. With it they are map-style data: any order,
exact resume at once, the same samples on any number of processes and workers.
"""

import glob
import hashlib
import io
import json
import os
import tarfile
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from .data.randomness import key
from .errors import ConfigError, DataError
from .storage.files import durable_write, json_bytes, sync_folder

KINDS = {".tar": "tar", ".parquet": "parquet", ".jsonl": "json", ".ndjson": "json"}

_FORMAT = 1
_MARK_BYTES, _MARKS = 4096, 8  # parts of a shard that are compared when it is opened
_OPEN = 64  # shards that a process keeps open
_GROUPS = 8  # row groups of Parquet that a process keeps decoded
_BLOCK = 512  # bytes, of tar

Offsets = npt.NDArray[np.int64]


class Shards(Dataset[Any]):
    """The samples of all shards, one after the other, with a length and an index.

    A sample of tar is what webdataset calls one: the files that follow each other with the same name up to its first dot,
    as `{"__key__": name, "jpg": bytes, "json": bytes}`. One of JSON lines or Parquet is a dict, a line or row. May be
    pickled and forked: each process opens shards by itself.

    Args:
        paths: A folder, a pattern such as `data/*.tar`, or several files; with `://`, what fsspec opens. All of one kind:
            `.tar`, `.parquet`, `.jsonl`, `.ndjson`.
        decode: From such a dict to the sample; called in the worker.
        index: Folder of the index. None: `.index` beside local shards, and under `data/index` for remote ones.

    Attributes:
        names: The shards, in order.
        index: Folder of the index.
        content_hash: Of the names, sizes and parts of the shards.

    Raises:
        DataError: There is no shard or no sample, one is damaged, or the index is of other shards.
        ConfigError: The shards are of several kinds or one that cannot be read.
    """

    def __init__(
        self,
        paths: str | Path | Sequence[str | Path],
        decode: Callable[[dict[str, Any]], Any] | None = None,
        index: str | Path | None = None,
    ) -> None:
        self.decode = decode
        self._store = _Store.of(paths)
        self.names = self._store.find(paths)
        self.kind = _kind_of(self.names)
        self.index = self._store.index_of(self.names) if index is None else Path(index)
        known = _read_index(self.index) or _write_index(self.index, self._store, self.names, self.kind)
        self._shards: list[dict[str, Any]] = self._checked(known)
        self._places = np.memmap(self.index / known["offsets"], "<i8", "r").view(np.ndarray)
        self._first = [0, *np.cumsum([shard["samples"] for shard in self._shards]).tolist()]
        self._at = [0, *np.cumsum([shard["offsets"] for shard in self._shards]).tolist()]
        self.content_hash = hashlib.sha256(json_bytes([self.kind, self._shards])).hexdigest()
        self._checks: set[int] = set()  # shards that this process has looked at
        self._groups: OrderedDict[tuple[int, int], Any] = OrderedDict()

    def __len__(self) -> int:
        return int(self._first[-1])

    def __getitem__(self, number: int) -> Any:
        if not -len(self) <= number < len(self):
            raise IndexError(f"sample {number} of {len(self)}")
        number %= len(self)
        shard = bisect_right(self._first, number) - 1
        self._look_at(shard)
        within = number - self._first[shard]
        found = self._row(shard, within) if self.kind == "parquet" else self._record(shard, within)
        return found if self.decode is None else self.decode(found)

    def in_blocks(self, seed: int, window: int = 16, block: int = 256) -> Callable[[int], torch.Tensor]:
        """A custom order for `run.loader(shards, …, shuffle=shards.in_blocks(seed))` that reads neighbours together.

        Blocks are shuffled, and then the samples of each `window` blocks: for Parquet, which decodes a whole row group for
        one of its rows, and for remote or spinning disks. A list of all indices: 8 bytes per sample.

        Args:
            seed: Of the run.
            window: Blocks that are shuffled among each other.
            block: Samples in a block; for Parquet, blocks are row groups.
        """
        if self.kind == "parquet":
            offsets = (self._offsets(shard)[:-1] + self._first[shard] for shard in range(len(self.names)))
            starts = np.concatenate([*offsets, [len(self)]])
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

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_places": None, "_checks": set(), "_groups": OrderedDict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        known = _read_index(self.index)
        if known is None or known["shards"] != self._shards:
            raise DataError(f"The index in `{self.index}` was written again while a run reads it")
        self._places = np.memmap(self.index / known["offsets"], "<i8", "r").view(np.ndarray)

    def _offsets(self, shard: int) -> Offsets:
        return self._places[self._at[shard] : self._at[shard + 1]]

    def _record(self, shard: int, within: int) -> dict[str, Any]:
        place = self._at[shard] + within
        start, stop = self._places[place : place + 2].tolist()
        name = self.names[shard]
        data = self._store.read(name, start, stop)
        try:
            if len(data) != stop - start:
                raise ValueError(f"it ends after {len(data)} of {stop - start} bytes")
            if self.kind == "tar":
                return _untarred(data)
            found: dict[str, Any] = json.loads(data)
            return found
        except (ValueError, tarfile.TarError) as error:
            raise DataError(f"Sample {within} of `{name}` cannot be read ({error}): {self._anew}") from None

    def _row(self, shard: int, within: int) -> dict[str, Any]:
        starts = self._offsets(shard)
        group = int(np.searchsorted(starts, within, "right")) - 1
        if (shard, group) not in self._groups:
            self._groups[shard, group] = self._store.parquet(self.names[shard]).read_row_group(group)
            if len(self._groups) > _GROUPS:
                self._groups.popitem(last=False)
        self._groups.move_to_end((shard, group))
        row: dict[str, Any] = self._groups[shard, group].slice(within - int(starts[group]), 1).to_pylist()[0]
        return row

    def _look_at(self, shard: int) -> None:
        """Compare a shard with the index, the first time that this process reads it."""
        if shard not in self._checks:
            name, known = self.names[shard], self._shards[shard]
            if _marks(self._store, name, known["size"]) != known["marks"]:
                raise DataError(f"`{name}` has changed since its index was made: {self._anew}")
            self._checks.add(shard)

    def _checked(self, known: dict[str, Any]) -> list[dict[str, Any]]:
        """The shards of the index, which must be those that are there."""
        shards: list[dict[str, Any]] = known["shards"]
        indexed, found = {shard["name"]: shard["size"] for shard in shards}, self._store.sizes
        short = {_short(name): name for name in self.names}
        problems = [f"`{name}` is missing" for name in indexed if name not in short]
        problems += [f"`{name}` is not in it" for name in short if name not in indexed]
        for name, size in indexed.items():
            if name in short and found[short[name]] != size:
                problems.append(f"`{short[name]}` has {found[short[name]]} bytes, and had {size}")
        if problems:
            more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
            what = "; ".join(problems[:3])
            raise DataError(f"The index in `{self.index}` is of other shards ({what}{more}): {self._anew}")
        return shards

    @property
    def _anew(self) -> str:
        return f"put back what it was, or delete `{self.index}` to make the index anew"


class _Store:
    """Files on this machine, read at a place without moving a shared one, so that forked workers may do it as well."""

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}
        self._files: OrderedDict[str, int] = OrderedDict()
        self._tables: OrderedDict[str, Any] = OrderedDict()
        self._process = os.getpid()

    @staticmethod
    def of(paths: Any) -> "_Store":
        first = paths if isinstance(paths, str | Path) else next(iter(paths), "")
        return _RemoteStore() if "://" in str(first) else _Store()

    def find(self, paths: Any) -> list[str]:
        names = []
        for path in [paths] if isinstance(paths, str | Path) else paths:
            found = self.listing(str(path))
            if not found:
                raise DataError(f"There is no shard at `{path}`: {', '.join(KINDS)}")
            self.sizes.update(found)
            names += sorted(found)
        if not names:
            raise DataError(f"No shards were given: {', '.join(KINDS)}")
        return names

    def listing(self, path: str) -> dict[str, int]:
        """Names and sizes of the shards that a path stands for."""
        inside = [str(file) for file in Path(path).iterdir() if file.suffix in KINDS] if Path(path).is_dir() else []
        names = inside or ([path] if Path(path).is_file() else glob.glob(path))
        return {name: os.path.getsize(name) for name in names if Path(name).is_file()}

    def index_of(self, names: Sequence[str]) -> Path:
        return Path(names[0]).parent / ".index"

    def read(self, name: str, start: int, stop: int) -> bytes:
        if name not in self._files:
            try:
                self._files[name] = os.open(name, os.O_RDONLY)
            except FileNotFoundError:
                raise DataError(f"The shard `{name}` is gone") from None
            if len(self._files) > _OPEN:
                os.close(self._files.popitem(last=False)[1])
        self._files.move_to_end(name)
        return os.pread(self._files[name], stop - start, start)

    def open(self, name: str) -> Any:
        return open(name, "rb")

    def for_arrow(self, name: str) -> Any:
        """What pyarrow opens: a file of its own, which it also closes."""
        return name

    def parquet(self, name: str) -> Any:
        if self._process != os.getpid():  # forked: an open table has threads, and a place in its file
            self._process, self._tables = os.getpid(), OrderedDict()
        if name not in self._tables:
            self._tables[name] = _library("pyarrow.parquet", name).ParquetFile(self.for_arrow(name))
            if len(self._tables) > _OPEN:
                self._tables.popitem(last=False)
        self._tables.move_to_end(name)
        return self._tables[name]

    def __getstate__(self) -> dict[str, Any]:
        return {"sizes": self.sizes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        type(self).__init__(self)
        self.sizes = state["sizes"]


class _RemoteStore(_Store):
    """Files that fsspec opens, such as `s3://bucket/folder`; a read is one request."""

    def listing(self, path: str) -> dict[str, int]:
        fs, inside = _filesystem(path)
        found = fs.glob(inside, detail=True) if "*" in inside else {}
        if not found and fs.exists(inside):
            entries = fs.ls(inside, detail=True) if fs.isdir(inside) else [fs.info(inside)]
            found = {entry["name"]: entry for entry in entries}
        return {
            fs.unstrip_protocol(name): int(entry["size"])
            for name, entry in found.items()
            if entry["type"] == "file" and Path(name).suffix in KINDS
        }

    def index_of(self, names: Sequence[str]) -> Path:
        return Path("data") / "index" / hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]

    def read(self, name: str, start: int, stop: int) -> bytes:
        fs, inside = _filesystem(name)
        data: bytes = fs.cat_file(inside, start=start, end=stop)
        return data

    def open(self, name: str) -> Any:
        fs, inside = _filesystem(name)
        return fs.open(inside, "rb")

    def for_arrow(self, name: str) -> Any:
        return self.open(name)


def _filesystem(path: str) -> tuple[Any, str]:
    fs, inside = _library("fsspec.core", path).url_to_fs(path)  # fsspec keeps one for each process
    return fs, inside


def _library(module: str, path: object) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(f"`{path}` needs {error.name}: `pip install {error.name}`") from None


def _kind_of(names: Sequence[str]) -> str:
    kinds = {KINDS.get(Path(name).suffix, "") for name in names}
    if len(kinds) > 1 or "" in kinds:
        odd = next(name for name in names if KINDS.get(Path(name).suffix) != KINDS.get(Path(names[0]).suffix, ""))
        raise ConfigError(
            f"`{odd}` is no shard, or of another kind than the others: {', '.join(KINDS)}; compressed files cannot be read "
            "at a place"
        )
    return kinds.pop()


def _short(name: str) -> str:
    """A shard's name in the index: folder and file, so that all of it may be moved."""
    return "/".join(name.rstrip("/").split("/")[-2:])


# The index


def _read_index(folder: Path) -> dict[str, Any] | None:
    path = folder / "index.json"
    try:
        index: dict[str, Any] = json.loads(path.read_bytes())
        if index["format"] == _FORMAT and (folder / index["offsets"]).stat().st_size == index["size"]:
            return index
    except FileNotFoundError:
        if not path.exists():
            return None
    except (ValueError, KeyError, TypeError):
        pass
    raise DataError(f"`{path}` is no index of shards, or one of another paccel: delete `{folder}` to make it anew")


def _write_index(folder: Path, store: _Store, names: Sequence[str], kind: str) -> dict[str, Any]:
    scan = {"tar": _scan_tar, "json": _scan_lines, "parquet": _scan_parquet}[kind]
    shards: list[dict[str, Any]] = []
    places = []
    for name in names:
        try:
            with store.open(name) as file:
                offsets, samples = scan(file, store.sizes[name])
        except (tarfile.TarError, ValueError, OSError) as error:
            raise DataError(f"`{name}` is damaged, or no {Path(name).suffix} file: {error}") from None
        places.append(np.asarray(offsets, "<i8"))
        size = store.sizes[name]
        marks = _marks(store, name, size)
        shards.append({"name": _short(name), "size": size, "marks": marks, "samples": samples, "offsets": len(offsets)})
    if not sum(shard["samples"] for shard in shards):
        raise DataError(f"There is no sample in `{names[0]}`" + " and the other shards" * (len(names) > 1))
    if len({shard["name"] for shard in shards}) < len(shards):
        raise ConfigError("Two shards have the same folder and file name, by which the index knows them")
    data = np.concatenate(places).tobytes()
    offsets_name = f"offsets-{hashlib.sha256(data).hexdigest()[:16]}.bin"
    index = {"format": _FORMAT, "kind": kind, "offsets": offsets_name, "size": len(data), "shards": shards}
    for file_name, content in ((offsets_name, data), ("index.json", json_bytes(index))):
        aside = folder / f"{file_name}.{os.getpid()}.tmp"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            durable_write(aside, [content])
            os.replace(aside, folder / file_name)
        except OSError as error:
            raise DataError(
                f"The index cannot be written to `{folder}` ({error.strerror}): pass another `index`"
            ) from None
        finally:
            aside.unlink(missing_ok=True)
    sync_folder(folder)
    return index


def _scan_tar(file: Any, size: int) -> tuple[list[int], int]:
    """Where each sample of a tar file begins, and where the last one ends."""
    offsets, last, end, whole = [], None, 0, 0
    with tarfile.open(fileobj=file, mode="r:") as archive:
        for member in archive:
            archive.members = []  # type: ignore[attr-defined]  # else all are kept
            data_size = member.size if member.isfile() else 0
            whole = member.offset_data + -(-data_size // _BLOCK) * _BLOCK
            if member.isfile():
                name = _split_name(member.name)[0]
                if name != last:
                    offsets.append(member.offset)
                last, end = name, whole
    # tarfile takes an archive that is cut within a header for one that ends there
    file.seek(whole)
    if whole + _BLOCK > size or any(file.read(_BLOCK)):
        raise ValueError(f"it is cut short, or damaged after {whole} of {size} bytes: its end has no mark")
    return [*offsets, end], len(offsets)


def _scan_lines(file: Any, size: int) -> tuple[list[int], int]:
    """Where each line begins, and where the last one ends; empty ones belong to the line before."""
    offsets, place = [], 0
    for line in file:
        if line.strip():
            offsets.append(place)
            if not line.endswith(b"\n"):
                json.loads(line)  # the last line, which may be cut short
        place += len(line)
    return [*offsets, place], len(offsets)


def _scan_parquet(file: Any, size: int) -> tuple[list[int], int]:
    """The first row of each row group, and the number of rows."""
    known = _library("pyarrow.parquet", getattr(file, "name", "a shard")).ParquetFile(file).metadata
    rows = np.cumsum([0, *(known.row_group(group).num_rows for group in range(known.num_row_groups))]).tolist()
    return rows, rows[-1]


def _marks(store: _Store, name: str, size: int) -> str:
    """A hash of some parts of a shard, the first and the last among them."""
    digest, last = hashlib.sha256(str(size).encode()), max(0, size - _MARK_BYTES)
    for place in sorted({last * number // (_MARKS - 1) for number in range(_MARKS)}):
        digest.update(store.read(name, place, min(size, place + _MARK_BYTES)))
    return digest.hexdigest()


# Samples of tar


def _split_name(name: str) -> tuple[str, str]:
    """`folder/0001.seg.png` is the file `seg.png` of the sample `folder/0001`."""
    folder, slash, base = name.rpartition("/")
    stem, _, suffix = base.partition(".")
    return folder + slash + stem, suffix


def _untarred(data: bytes) -> dict[str, Any]:
    sample: dict[str, Any] = {}
    key = ""
    for name, content in _members(data):
        key = key or _split_name(name)[0]  # the same for all
        sample[name[len(key) + 1 :]] = content
    return {"__key__": key, **sample}


def _members(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the files in a piece of a tar file. Plain headers are read here, 30 times as fast."""
    place, whole = 0, len(data)
    while place < whole:
        # The type is that of a file, there is no prefix of the name, and the size is written in octal digits
        if data[place + 156] not in b"0\0" or data[place + 345] or data[place + 124] & 0x80:
            yield from _members_of_tarfile(data[place:])
            return
        start = place + _BLOCK
        size = int(data[place + 124 : place + 136].rstrip(b"\0 ") or b"0", 8)
        yield data[place : place + 100].rstrip(b"\0").decode(), data[start : start + size]
        place = start + -(-size // _BLOCK) * _BLOCK


def _members_of_tarfile(data: bytes) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for member in archive:
            if (file := archive.extractfile(member)) is not None:
                yield member.name, file.read()
