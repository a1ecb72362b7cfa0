"""The files of the shards: on a local disk, or wherever fsspec can open them."""

import glob
import hashlib
import os
import stat
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from ...errors import ConfigError, DataError

KINDS = {".tar": "tar", ".parquet": "parquet", ".jsonl": "json", ".ndjson": "json"}

_EXTENSIONS = ".tar, .parquet, .jsonl or .ndjson"
_MAX_OPEN = 64  # local files that a process keeps open
_MAX_GAP = 4096  # bytes; remote ranges closer than this are one request


class Store(ABC):
    """Reads byte ranges of shards, which are numbered from 0.

    May be pickled and forked: each process opens the files by itself.

    Attributes:
        names: Paths or URLs of the shards.
        sizes: Bytes of each shard, by name.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self.names: list[str] = []
        self.sizes: dict[str, int] = {}
        for path in paths:
            try:
                found = self.listing(path)
            except OSError as error:
                raise DataError(f"`{path}` cannot be read ({reason_of(error)})") from None
            if not found:
                raise DataError(f"No shards found at `{path}`: expected {_EXTENSIONS} files, not compressed")
            self.names += sorted(found)
            self.sizes.update(found)
        if not self.names:
            raise DataError(f"No shards given: expected {_EXTENSIONS} files")
        if len(set(map(short_name, self.names))) < len(self.names):
            raise ConfigError("Two shards have the same folder and file name, by which the index identifies them")

    @abstractmethod
    def listing(self, path: str) -> dict[str, int]:
        """Names and sizes in bytes of the shards at a path: a file, a folder or a pattern."""

    @abstractmethod
    def index_folder(self) -> Path:
        """Where the index of these shards is kept by default."""

    @abstractmethod
    def read(self, shards: Sequence[int], starts: Sequence[int], sizes: Sequence[int]) -> Iterable[bytes]:
        """Read one byte range for each entry of the three lists.

        Raises:
            DataError: A shard cannot be read, or is shorter than the range.
        """

    @abstractmethod
    def open(self, shard: int) -> Any:
        """Open a shard as a binary file."""

    def open_for_arrow(self, shard: int) -> Any:
        """What pyarrow reads a shard from: a path or a file."""
        return self.open(shard)

    def stamp(self, shard: int) -> Any:
        """A value that changes when the open file of a shard is written; None where asking costs a request."""
        return None

    def kind(self) -> str:
        """The common format of all shards: `tar`, `parquet` or `json`.

        Raises:
            ConfigError: They differ, or one has another format.
        """
        first = KINDS.get(Path(self.names[0]).suffix, "")
        for name in self.names:
            if not first or KINDS.get(Path(name).suffix) != first:
                raise ConfigError(
                    f"`{name}` is not a shard, or of another kind than the others: pass only {_EXTENSIONS} files, all of "
                    "one kind and not compressed"
                )
        return first


class LocalStore(Store):
    """Files on this machine, read with `pread`, which forked workers can do on a shared descriptor."""

    def __init__(self, paths: Iterable[str]) -> None:
        super().__init__(paths)
        self._files: OrderedDict[int, int] = OrderedDict()  # descriptors by shard, least recently used first

    def listing(self, path: str) -> dict[str, int]:
        inside = [str(file) for file in Path(path).iterdir() if _is_shard(file.name)] if Path(path).is_dir() else []
        names = inside or ([path] if Path(path).is_file() else glob.glob(path))
        return {name: os.path.getsize(name) for name in names if Path(name).is_file()}

    def index_folder(self) -> Path:
        folder = Path(self.names[0]).parent
        if (folder / ".index").exists() or os.access(folder, os.W_OK):
            return folder / ".index"
        return _index_under_data(os.path.abspath(name) for name in self.names)

    def read(self, shards: Sequence[int], starts: Sequence[int], sizes: Sequence[int]) -> Iterable[bytes]:
        while len(self._files) > _MAX_OPEN:
            os.close(self._files.popitem(last=False)[1])
        files = {shard: self._file(shard) for shard in set(shards)}
        pieces = map(os.pread, map(files.__getitem__, shards), sizes, starts)
        done = 0
        try:
            for data, size in zip(pieces, sizes, strict=True):
                if len(data) != size:
                    raise _too_short(self.names[shards[done]])
                yield data
                done += 1
        except OSError as error:
            name = self.names[shards[done]]
            raise DataError(f"`{name}` cannot be read at the offset in its index ({reason_of(error)})") from None

    def stamp(self, shard: int) -> Any:
        known = os.fstat(self._file(shard))
        return known.st_ino, known.st_size, known.st_mtime_ns

    def open(self, shard: int) -> Any:
        return open(self.names[shard], "rb")

    def open_for_arrow(self, shard: int) -> Any:
        return self.names[shard]

    def _file(self, shard: int) -> int:
        if shard not in self._files:
            name = self.names[shard]
            try:
                if not stat.S_ISREG(os.stat(name).st_mode):  # opening a pipe would wait for its other end
                    raise DataError(f"The shard `{name}` is no longer a regular file: restore it")
                self._files[shard] = os.open(name, os.O_RDONLY)
            except FileNotFoundError:
                raise DataError(f"The shard `{name}` no longer exists") from None
            except OSError as error:
                raise DataError(f"The shard `{name}` cannot be read ({reason_of(error)})") from None
        self._files.move_to_end(shard)
        return self._files[shard]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": OrderedDict()}


class RemoteStore(Store):
    """Files that fsspec opens, such as `s3://bucket/folder`. The ranges of one `read` are requested concurrently."""

    def listing(self, path: str) -> dict[str, int]:
        fs, inside = _filesystem(path)
        found = fs.glob(inside, detail=True) if "*" in inside else {}
        if not found and fs.exists(inside):
            entries = fs.ls(inside, detail=True) if fs.isdir(inside) else [fs.info(inside)]
            found = {entry["name"]: entry for entry in entries}
        sizes = {}
        for name, entry in found.items():
            if entry["type"] == "file" and (name == inside or _is_shard(Path(name).name)):
                # the listing of a web page has no sizes
                size = entry["size"] if entry["size"] is not None else fs.info(name)["size"]
                if size is None:
                    raise DataError(f"The server does not report the size of `{name}`")
                sizes[fs.unstrip_protocol(name)] = int(size)
        return sizes

    def index_folder(self) -> Path:
        return _index_under_data(self.names)

    def read(self, shards: Sequence[int], starts: Sequence[int], sizes: Sequence[int]) -> Iterable[bytes]:
        # Ranges that follow each other closely, such as the files of a tar sample, are one request
        requests: list[tuple[int, int, int]] = []
        where = []
        for shard, start, size in zip(shards, starts, sizes, strict=True):
            last_shard, first, stop = requests[-1] if requests else (-1, 0, 0)
            if shard == last_shard and first <= start <= stop + _MAX_GAP:
                requests[-1] = shard, first, max(start + size, stop)
            else:
                requests.append((shard, start, start + size))
            where.append((len(requests) - 1, start - requests[-1][1], size))
        opened = [_filesystem(self.names[shard]) for shard, _, _ in requests]
        fs, inside = opened[0][0], [path for _, path in opened]
        _, firsts, stops = zip(*requests, strict=True)
        try:
            pieces = fs.cat_ranges(inside, list(firsts), list(stops), on_error="raise")
        except Exception as error:  # each file system has its own types
            name, reason = self.names[shards[0]], f"{type(error).__name__}: {reason_of(error)}"
            raise DataError(f"`{name}`, or another shard of the same request, cannot be read ({reason})") from None
        for (shard, first, stop), piece in zip(requests, pieces, strict=True):
            if len(piece) > stop - first:
                raise DataError(
                    f"`{self.names[shard]}` cannot be read in parts: its server ignores range requests. Copy it to a "
                    "local disk"
                )
            if len(piece) < stop - first:
                raise _too_short(self.names[shard])
        return [pieces[number][start : start + size] for number, start, size in where]

    def open(self, shard: int) -> Any:
        fs, inside = _filesystem(self.names[shard])
        return fs.open(inside, "rb")


def store_of(paths: str | Path | Sequence[str | Path]) -> Store:
    """The store of the shards at one or several paths.

    Raises:
        DataError: No shard is there, or a path cannot be read.
        ConfigError: Local and remote paths are mixed, or fsspec cannot open one.
    """
    given = list(map(str, [paths] if isinstance(paths, str | Path) else paths))
    remote = ["://" in path for path in given]
    if any(remote) and not all(remote):
        raise ConfigError("Some shards have `://` in their names and others do not: write local paths as `file://…`")
    return RemoteStore(given) if any(remote) else LocalStore(given)


def short_name(name: str) -> str:
    """A shard's name in the index: folder and file, so that the folders above may change."""
    return "/".join(name.rstrip("/").split("/")[-2:])


def reason_of(error: Exception) -> str:
    """The first line of an error's message."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0]


def required(module: str, path: object) -> Any:
    """Import a module that reading a path needs."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(f"`{path}` needs {error.name}: `pip install {error.name}`") from None


def _is_shard(name: str) -> bool:
    """Whether a file in a folder is a shard, and not one of the hidden files of macOS, such as `._0.tar`."""
    return Path(name).suffix in KINDS and not name.startswith(".")


def _index_under_data(names: Iterable[str]) -> Path:
    return Path("data") / "index" / hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]


def _too_short(name: str) -> DataError:
    return DataError(f"`{name}` is shorter than when it was indexed: restore it")


def _filesystem(path: str) -> tuple[Any, str]:
    fsspec = required("fsspec.core", path)
    try:
        fs, inside = fsspec.url_to_fs(path)  # fsspec caches one per process
    except (ImportError, ValueError) as error:
        raise ConfigError(f"`{path}` cannot be opened by fsspec: {reason_of(error)}") from None
    return fs, inside
