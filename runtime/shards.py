"""Shards with an index: folders and buckets of tar, Parquet or JSON lines files whose samples are read by number.

The index is made once, by one pass over the shards: where each sample lies. With it they are map-style data: any order,
exact resume at once, the same samples on any number of processes and workers.
"""

import codecs
import glob
import hashlib
import json
import os
import platform
import stat
import tarfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from itertools import islice
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

_FORMAT = 2
_OWN = ("_arrays", "_keys", "_stamps", "_groups")  # what each process has for itself
_ARRAYS: dict[str, tuple[str, tuple[int, ...]]] = {  # of the index: type, and shape where it is not flat
    "places": ("<i8", (-1,)),
    "samples": ("<i8", (-1, 2)),
    "members": ("<i8", (-1, 3)),
    "keys": ("u1", (-1,)),
}
_MARK_BYTES, _MARKS = 4096, 8  # parts of a shard that are compared when it is opened
_OPEN = 64  # shards that a process keeps open
_GROUPS = 8  # row groups of Parquet that a process keeps decoded
_BLOCK = 512  # bytes, of tar
_NAMES = "surrogateescape"  # names in tar need not be UTF-8
_LINKS = 8  # links that point to each other are followed so far
_PIECE = 1 << 20  # bytes read at once
_PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")  # how files of gzip, bzip2, xz and Zstandard begin
_NEAR = 4096  # bytes between the files of a sample that are read along

Offsets = npt.NDArray[np.int64]


class Shards(Dataset[Any]):
    """The samples of all shards, one after the other, with a length and an index.

    A sample of tar is what webdataset calls one: the files with the same name up to its first dot, as `{"__key__": name,
    "jpg": bytes, "seg.png": bytes}`, endings in lower case. Files without an ending, folders and special files are left
    out, and links are followed. One of JSON lines or Parquet is a dict, a line or row. May be pickled and forked: each
    process opens shards by itself.

    Args:
        paths: A folder, a pattern such as `data/*.tar`, or several files; with `://`, what fsspec opens. All of one kind:
            `.tar`, `.parquet`, `.jsonl`, `.ndjson`.
        decode: From such a dict to the sample; called in the worker.
        index: Folder of the index. None: `.index` beside local shards, and under `data/index` for remote ones and where
            theirs cannot be written to.

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
        self._first = np.cumsum([0, *(shard["samples"] for shard in self._shards)])  # samples before each shard
        self._size = int(self._first[-1])
        self.content_hash = hashlib.sha256(json_bytes([self.kind, self._shards])).hexdigest()
        self._open(known)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, number: int) -> Any:
        if not -len(self) <= number < len(self):
            raise IndexError(f"sample {number} of {len(self)}")
        return self.__getitems__([number % len(self)])[0]

    def __getitems__(self, numbers: Sequence[int]) -> list[Any]:
        """Several samples, whose places are known before the first is read: of remote shards, they come at once."""
        places = np.asarray(numbers, np.int64)
        shards = np.searchsorted(self._first, places, "right") - 1
        for shard in set(shards.tolist()):
            self._look_at(shard)
        read = self._rows if self.kind == "parquet" else self._lines if self.kind == "json" else self._files
        found = read(shards, places)  # one by one: a sample is decoded while it is in a core's cache
        return list(found if self.decode is None else map(self.decode, found))

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
            groups = (self._groups_of(shard)[:-1] + self._first[shard] for shard in range(len(self.names)))
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

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in _OWN}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        known = _read_index(self.index)
        if known is None or known["shards"] != self._shards:
            raise DataError(f"The index in `{self.index}` was written again while a run reads it")
        self._open(known)

    def _open(self, known: dict[str, Any]) -> None:
        """Map the index, and begin without a shard that was looked at: what each process has for itself."""
        self._arrays = {name: _mapped(self.index / file["name"], name) for name, file in known["files"].items()}
        self._suffixes: list[str] = known["suffixes"]
        self._keys = self._arrays.get("keys", np.empty(0, "u1")).data
        self._stamps: dict[int, Any] = {}  # by shard that this process has compared: how its file was then
        self._groups: OrderedDict[tuple[int, int], Any] = OrderedDict()

    def _groups_of(self, shard: int) -> Offsets:
        """The first row of each row group of a Parquet file, and the number of its rows."""
        at = sum(known["places"] for known in self._shards[:shard])
        return self._arrays["places"][at : at + self._shards[shard]["places"]]

    def _lines(self, shards: Offsets, numbers: Offsets) -> Iterator[dict[str, Any]]:
        places = numbers + shards  # each shard has one more: where its last line ends
        starts, stops = self._arrays["places"][places], self._arrays["places"][places + 1]
        for shard, number, data in zip(shards, numbers, self._read(shards, starts, stops - starts), strict=True):
            try:
                line = json.loads(data)
            except (ValueError, RecursionError):
                name, start = self.names[shard], self._arrays["places"][number + shard]
                where = f"Line {self._store.line_at(name, int(start))} of `{name}`"
                raise DataError(
                    f"{where} is no JSON ({_why_no_json(data)}): mend it, and delete `{self.index}` to make the index anew"
                ) from None
            yield line

    def _files(self, shards: Offsets, numbers: Offsets) -> Iterator[dict[str, Any]]:
        """Samples of tar. What the index knows of all their files is looked up at once."""
        (first, key), (stop, key_stop) = self._arrays["samples"][numbers].T, self._arrays["samples"][numbers + 1].T
        counts = stop - first
        rows = np.arange(counts.sum()) + np.repeat(first - counts.cumsum() + counts, counts)
        starts, sizes, suffixes = self._arrays["members"][rows].T
        pieces = self._read(shards.repeat(counts), starts, sizes)
        files = zip(map(self._suffixes.__getitem__, suffixes.tolist()), pieces, strict=True)
        for count, begin, end in zip(counts.tolist(), key.tolist(), key_stop.tolist(), strict=True):
            sample: dict[str, Any] = {"__key__": str(self._keys[begin:end], "utf-8", _NAMES)}
            sample.update(islice(files, count))
            yield sample

    def _read(self, shards: Offsets, starts: Offsets, sizes: Offsets) -> Iterable[bytes]:
        names = list(map(self.names.__getitem__, shards.tolist()))
        return self._store.read_all(names, starts.tolist(), sizes.tolist())

    def _rows(self, shards: Offsets, numbers: Offsets) -> Iterator[dict[str, Any]]:
        within = numbers - self._first[shards]
        return (self._row(*where) for where in zip(shards.tolist(), within.tolist(), strict=True))

    def _row(self, shard: int, within: int) -> dict[str, Any]:
        starts = self._groups_of(shard)
        group = int(np.searchsorted(starts, within, "right")) - 1
        if (shard, group) not in self._groups:
            self._groups[shard, group] = self._store.parquet(self.names[shard]).read_row_group(group)
            if len(self._groups) > _GROUPS:
                self._groups.popitem(last=False)
        self._groups.move_to_end((shard, group))
        row: dict[str, Any] = self._groups[shard, group].slice(within - int(starts[group]), 1).to_pylist()[0]
        return row

    def _look_at(self, shard: int) -> None:
        """Compare a shard with the index, the first time that this process reads it, and where it was written since."""
        name, known = self.names[shard], self._shards[shard]
        stamp = self._store.stamp(name)
        if self._stamps.get(shard) != stamp:
            if _marks(self._store, name, known["size"]) != known["marks"]:
                raise DataError(f"`{name}` has changed since its index was made: {self._anew}")
            self._stamps[shard] = stamp

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
        self._files: OrderedDict[str, int] = OrderedDict()  # the last ones used are at the end
        self._tables: OrderedDict[str, Any] = OrderedDict()
        self._process = os.getpid()

    @staticmethod
    def of(paths: Any) -> "_Store":
        remote = ["://" in str(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
        if any(remote) and not all(remote):
            raise ConfigError(
                "Some shards have `://` in their names and others have not: give the others as `file://…`"
            )
        return _RemoteStore() if any(remote) else _Store()

    def find(self, paths: Any) -> list[str]:
        names = []
        for path in [paths] if isinstance(paths, str | Path) else paths:
            try:
                found = self.listing(str(path))
            except OSError as error:
                raise DataError(f"`{path}` cannot be read ({_reason(error)})") from None
            if not found:
                raise DataError(f"There is no shard at `{path}`: {', '.join(KINDS)}, not compressed")
            self.sizes.update(found)
            names += sorted(found)
        if not names:
            raise DataError(f"No shards were given: {', '.join(KINDS)}")
        return names

    def listing(self, path: str) -> dict[str, int]:
        """Names and sizes of the shards that a path stands for."""
        inside = [str(file) for file in Path(path).iterdir() if _is_shard(file.name)] if Path(path).is_dir() else []
        names = inside or ([path] if Path(path).is_file() else glob.glob(path))
        return {name: os.path.getsize(name) for name in names if Path(name).is_file()}

    def index_of(self, names: Sequence[str]) -> Path:
        folder = Path(names[0]).parent
        is_possible = (folder / ".index").exists() or os.access(folder, os.W_OK)
        return folder / ".index" if is_possible else _index_elsewhere([os.path.abspath(name) for name in names])

    def read_all(self, names: Sequence[str], starts: Sequence[int], sizes: Sequence[int]) -> Iterable[bytes]:
        """So many bytes of files from a place on, one after the other.

        Raises:
            DataError: A file ends before.
        """
        while len(self._files) > _OPEN:
            os.close(self._files.popitem(last=False)[1])
        files = {name: self._file(name) for name in set(names)}
        pieces = map(os.pread, map(files.__getitem__, names), sizes, starts)
        read = 0
        try:
            for data, size in zip(pieces, sizes, strict=True):
                if len(data) != size:
                    raise _ends_early(names[read])
                yield data
                read += 1
        except OSError as error:
            raise DataError(f"`{names[read]}` cannot be read where its index says ({_reason(error)})") from None

    def stamp(self, name: str) -> Any:
        """What differs when a file is written again, or another has its name; the open one is read."""
        known = os.fstat(self._file(name))
        return known.st_ino, known.st_size, known.st_mtime_ns

    def _file(self, name: str) -> int:
        if name not in self._files:
            try:
                if not stat.S_ISREG(os.stat(name).st_mode):  # to open a pipe would wait for its other end
                    raise DataError(f"The shard `{name}` is no file any more: put back what it was")
                self._files[name] = os.open(name, os.O_RDONLY)
            except FileNotFoundError:
                raise DataError(f"The shard `{name}` is gone") from None
            except OSError as error:
                raise DataError(f"The shard `{name}` cannot be read ({_reason(error)})") from None
        self._files.move_to_end(name)
        return self._files[name]

    def open(self, name: str) -> Any:
        return open(name, "rb")

    def line_at(self, name: str, place: int) -> int:
        """The number of the line that begins at a place, counted from 1; reads all before it."""
        with self.open(name) as file:
            pieces: Iterator[bytes] = iter(lambda: file.read(min(_PIECE, place - file.tell())), b"")
            return 1 + sum(piece.count(b"\n") for piece in pieces)

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
        sizes = {}
        for name, entry in found.items():
            if entry["type"] == "file" and (name == inside or _is_shard(Path(name).name)):
                size = entry["size"] if entry["size"] is not None else fs.info(name)["size"]  # a web page has no sizes
                if size is None:
                    raise DataError(f"The size of `{name}` is not known: its server does not tell it")
                sizes[fs.unstrip_protocol(name)] = int(size)
        return sizes

    def index_of(self, names: Sequence[str]) -> Path:
        return _index_elsewhere(names)

    def read_all(self, names: Sequence[str], starts: Sequence[int], sizes: Sequence[int]) -> Iterable[bytes]:
        """The same, all at once; files that are neighbours, as those of a sample of tar, are one request."""
        spans: list[tuple[str, int, int]] = []
        where = []
        for name, start, size in zip(names, starts, sizes, strict=True):
            last = spans[-1] if spans else ("", 0, 0)
            if name == last[0] and last[1] <= start <= last[2] + _NEAR:
                spans[-1] = name, last[1], max(start + size, last[2])
            else:
                spans.append((name, start, start + size))
            where.append((len(spans) - 1, start - spans[-1][1], size))
        fs, _ = _filesystem(names[0])
        inside = [_filesystem(name)[1] for name, _, _ in spans]
        try:
            pieces = fs.cat_ranges(inside, [span[1] for span in spans], [span[2] for span in spans], on_error="raise")
        except Exception as error:  # each store has errors of its own
            reason = f"{type(error).__name__}: {_reason(error)}"
            raise DataError(f"`{names[0]}`, or a shard read with it, cannot be read ({reason})") from None
        for (name, start, stop), piece in zip(spans, pieces, strict=True):
            if len(piece) > stop - start:
                raise DataError(f"`{name}` cannot be read at a place: its server sends whole files. Copy it to a disk")
            if len(piece) < stop - start:
                raise _ends_early(name)
        return [pieces[span][start : start + size] for span, start, size in where]

    def stamp(self, name: str) -> Any:
        return None  # asking would be one more request for each batch

    def open(self, name: str) -> Any:
        fs, inside = _filesystem(name)
        return fs.open(inside, "rb")

    def for_arrow(self, name: str) -> Any:
        return self.open(name)


def _is_shard(name: str) -> bool:
    """Whether a file in a folder is one; macOS leaves hidden ones beside each, `._0.tar`."""
    return Path(name).suffix in KINDS and not name.startswith(".")


def _reason(error: Exception) -> str:
    """What an error of the system or of a library says, in one line."""
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(words).splitlines()[0]


def _why_no_json(line: bytes) -> str:
    try:
        json.loads(line.strip())
    except json.JSONDecodeError as error:
        return f"{error.msg} at column {error.colno}"
    except (ValueError, RecursionError) as error:
        return _reason(error)
    return "it has changed"


def _index_elsewhere(names: Sequence[str]) -> Path:
    return Path("data") / "index" / hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]


def _ends_early(name: str) -> DataError:
    return DataError(f"`{name}` has changed since its index was made, and ends too early: put back what it was")


def _filesystem(path: str) -> tuple[Any, str]:
    try:
        fs, inside = _library("fsspec.core", path).url_to_fs(path)  # fsspec keeps one for each process
    except (ImportError, ValueError) as error:
        raise ConfigError(f"`{path}` cannot be opened by fsspec: {_reason(error)}") from None
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
    """None where there is none, or one of an older paccel, which is made anew."""
    path = folder / "index.json"
    try:
        if not path.exists():
            return None
        if not path.is_file():
            raise ValueError  # to open a pipe would wait for its other end
        index: dict[str, Any] = json.loads(path.read_bytes())
        if index["format"] < _FORMAT:
            return None
        if index["format"] == _FORMAT and all(
            (folder / file["name"]).stat().st_size == file["size"] for file in index["files"].values()
        ):
            return index
    except FileNotFoundError:
        pass
    except OSError as error:
        raise DataError(f"The index `{path}` cannot be read ({_reason(error)}): pass another `index`") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise DataError(f"`{path}` is no index of shards, or one of another paccel: delete `{folder}` to make it anew")


def _mapped(path: Path, name: str) -> npt.NDArray[Any]:
    kind, shape = _ARRAYS[name]
    try:
        found = np.memmap(path, kind, "r") if path.stat().st_size else np.empty(0, kind)
    except OSError as error:
        raise DataError(f"The index `{path}` cannot be read ({_reason(error)}): pass another `index`") from None
    return found.view(np.ndarray).reshape(shape)


def _write_index(folder: Path, store: _Store, names: Sequence[str], kind: str) -> dict[str, Any]:
    if len({_short(name) for name in names}) < len(names):
        raise ConfigError("Two shards have the same folder and file name, by which the index knows them")
    scan = _ScanTar() if kind == "tar" else _ScanLines() if kind == "json" else _ScanParquet()
    shards: list[dict[str, Any]] = []
    for name in names:
        size = store.sizes[name]
        try:
            with store.open(name) as file:
                if file.read(len(max(_PACKED, key=len))).startswith(_PACKED):
                    raise ValueError("it is compressed, and cannot be read at a place: unpack it")
                file.seek(0)
                samples, places = scan(name, file, size)
        except (tarfile.TarError, ValueError, OSError) as error:
            raise DataError(f"`{name}` is damaged, or no {Path(name).suffix} file: {error}") from None
        marks = _marks(store, name, size)
        shards.append({"name": _short(name), "size": size, "marks": marks, "samples": samples, "places": places})
    if not sum(shard["samples"] for shard in shards):
        raise DataError(f"There is no sample in `{names[0]}`" + " and the other shards" * (len(names) > 1))
    contents, files = {}, {}
    for name, data in scan.arrays().items():
        file_name = f"{name}-{hashlib.sha256(data).hexdigest()[:16]}.bin"
        files[name], contents[file_name] = {"name": file_name, "size": len(data)}, data
    index = {"format": _FORMAT, "kind": kind, "files": files, "suffixes": scan.suffixes, "shards": shards}
    for file_name, content in (*contents.items(), ("index.json", json_bytes(index))):
        aside = folder / f"{file_name}.{platform.node()}-{os.getpid()}.tmp"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            durable_write(aside, [content])
            os.replace(aside, folder / file_name)
        except OSError as error:
            raise DataError(
                f"The index cannot be written to `{folder}` ({error.strerror}): pass another `index`"
            ) from None
        finally:
            with suppress(OSError):
                aside.unlink()
    sync_folder(folder)
    return index


class _Scan:
    """Reads shards one after the other, and notes where their samples lie."""

    def __init__(self) -> None:
        self.suffixes: list[str] = []  # of tar
        self._places: list[Offsets] = []

    def arrays(self) -> dict[str, bytes]:
        """What is mapped when samples are read."""
        return {"places": np.concatenate(self._places).tobytes()}


class _ScanTar(_Scan):
    """Notes for each sample where its files and its name begin among those of all, and for each file where it lies."""

    def __init__(self) -> None:
        super().__init__()
        self._members: list[Offsets] = []
        self._keys: list[bytes] = []
        self._counts = np.zeros(2, "<i8")  # of files, and of bytes of names
        self._last = "", "", frozenset[str]()  # the shard before, and its last sample

    def arrays(self) -> dict[str, bytes]:
        samples = b"".join(map(bytes, [*self._places, self._counts]))
        return {"samples": samples, "members": b"".join(map(bytes, self._members)), "keys": b"".join(self._keys)}

    def __call__(self, name: str, file: Any, size: int) -> tuple[int, int]:
        samples: dict[str, dict[str, tuple[int, int]]] = {}
        links: dict[str, list[tuple[str, str]]] = {}  # by what they point to
        whole, last = 0, "its start"
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                archive.members = []  # type: ignore[attr-defined]  # else all are kept
                last = f"`{member.name}`"
                whole = member.offset_data + (-(-member.size // _BLOCK) * _BLOCK if member.isfile() else 0)
                key, suffix = _split_name(member.name)
                if member.issparse():
                    raise ValueError(f"{last} is a sparse file, which has no single place")
                if not suffix or not (member.isfile() or member.islnk() or member.issym()):
                    continue
                files = samples.setdefault(key, {})
                if suffix in files:
                    raise ValueError(f"{last} comes twice: each file of a sample must have an ending of its own")
                files[suffix] = member.offset_data, member.size
                if not member.isfile():
                    links.setdefault(_target(member), []).append((key, suffix))
        # tarfile takes an archive that is cut or damaged within a header for one that ends there
        file.seek(whole)
        if whole + _BLOCK > size or any(file.read(_BLOCK)):
            raise ValueError(
                f"it is cut short, or damaged after {last} at {whole} of {size} bytes: its end has no mark"
            )
        self._follow(links, samples, file)
        self._compare_with_last(name, samples)
        self._add(samples)
        return len(samples), len(samples)

    def _follow(
        self, links: dict[str, list[tuple[str, str]]], samples: dict[str, dict[str, tuple[int, int]]], file: Any
    ) -> None:
        """Give each link the place of the file that it points to."""
        for _ in range(_LINKS if links else 0):
            found = {}
            file.seek(0)
            with tarfile.open(fileobj=file, mode="r:") as archive:
                for member in archive:
                    if os.path.normpath(member.name) in links:
                        found[os.path.normpath(member.name)] = member
            further: dict[str, list[tuple[str, str]]] = {}
            for target, places in links.items():
                if target in found and found[target].isfile():
                    for key, suffix in places:
                        samples[key][suffix] = found[target].offset_data, found[target].size
                elif target in found and (found[target].islnk() or found[target].issym()):
                    further.setdefault(_target(found[target]), []).extend(places)
                else:
                    raise ValueError(f"`{'.'.join(places[0])}` is a link to `{target}`, which is no file in it")
            if not (links := further):
                return
        if links:
            raise ValueError(f"`{'.'.join(next(iter(links.values()))[0])}` is a link that leads to no file")

    def _compare_with_last(self, name: str, samples: dict[str, dict[str, tuple[int, int]]]) -> None:
        before, key, suffixes = self._last
        if samples and key == next(iter(samples)) and not suffixes & set(samples[key]):
            raise ValueError(f"the sample `{key}` begins in `{before}`: all files of a sample must be in one shard")
        if samples:
            self._last = name, next(reversed(samples)), frozenset(samples[next(reversed(samples))])

    def _add(self, samples: dict[str, dict[str, tuple[int, int]]]) -> None:
        keys = [key.encode(errors=_NAMES) for key in samples]
        counts = np.array([[len(files), len(key)] for files, key in zip(samples.values(), keys, strict=True)], "<i8")
        counts = counts.reshape(-1, 2)
        self._places.append(self._counts + counts.cumsum(0) - counts)
        self._counts = self._counts + counts.sum(0)
        self._keys += keys
        numbers = {suffix: number for number, suffix in enumerate(self.suffixes)}
        rows = [
            (*place, numbers.setdefault(suffix, len(numbers)))
            for files in samples.values()
            for suffix, place in files.items()
        ]
        self.suffixes = list(numbers)
        self._members.append(np.array(rows, "<i8"))


class _ScanLines(_Scan):
    """Notes where each line begins, and where the last one ends; empty ones belong to the line before."""

    def __call__(self, name: str, file: Any, size: int) -> tuple[int, int]:
        offsets, place = [], 0
        for number, line in enumerate(file, 1):
            begin = len(codecs.BOM_UTF8) if place == 0 and line.startswith(codecs.BOM_UTF8) else 0
            if line[begin:].strip():
                offsets.append(place + begin)
                if not line.endswith(b"\n") or number == 1:  # the last one may be cut short, the first no JSON at all
                    try:
                        json.loads(line[begin:])
                    except (ValueError, RecursionError):
                        raise ValueError(f"line {number} is no JSON ({_why_no_json(line[begin:])})") from None
            place += len(line)
        self._places.append(np.array([*offsets, place], "<i8"))
        return len(offsets), len(offsets) + 1


class _ScanParquet(_Scan):
    """Notes the first row of each row group, and the number of rows."""

    def __call__(self, name: str, file: Any, size: int) -> tuple[int, int]:
        table = _library("pyarrow.parquet", name).ParquetFile(file)
        columns, known = table.schema_arrow.names, table.metadata
        if twice := {column for column in columns if columns.count(column) > 1}:
            raise ValueError(f"it has two columns `{min(twice)}`, of which a row can hold one")
        rows = np.cumsum([0, *(known.row_group(group).num_rows for group in range(known.num_row_groups))], dtype="<i8")
        self._places.append(rows)
        return int(rows[-1]), len(rows)


def _marks(store: _Store, name: str, size: int) -> str:
    """A hash of some parts of a shard, the first and the last among them."""
    digest, last = hashlib.sha256(str(size).encode()), max(0, size - _MARK_BYTES)
    for place in sorted({last * number // (_MARKS - 1) for number in range(_MARKS)}):
        digest.update(*store.read_all([name], [place], [min(_MARK_BYTES, size - place)]))
    return digest.hexdigest()


def _split_name(name: str) -> tuple[str, str]:
    """`folder/0001.seg.PNG` is the file `seg.png` of the sample `folder/0001`; hidden files have no ending."""
    folder, slash, base = name.rpartition("/")
    stem, _, suffix = base.partition(".")
    return folder + slash + stem, suffix.lower() if stem else ""


def _target(link: tarfile.TarInfo) -> str:
    """The name that a link points to: a hard link from the archive's top, a symbolic one from its own folder."""
    return os.path.normpath(link.linkname if link.islnk() else os.path.join(os.path.dirname(link.name), link.linkname))
