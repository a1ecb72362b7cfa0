"""Tar: a sample is all files with the same name up to its first dot, as in webdataset."""

import os
import tarfile
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np

from .index import Integers, Reader, Scan

_BLOCK_BYTES = 512
_MAX_LINKS = 8  # links in a row that are followed
_NAME_ERRORS = "surrogateescape"  # names in tar need not be UTF-8

Samples = dict[str, dict[str, tuple[int, int]]]
"""By key and suffix: the offset and size of a file."""

Links = dict[str, list[tuple[str, str]]]
"""By the name that links point to: the keys and suffixes of the links."""


class TarScan(Scan):
    """Notes the first file and the key of each sample, and offset, size and suffix of each file."""

    def __init__(self) -> None:
        super().__init__()
        self._members: list[Integers] = []
        self._keys: list[bytes] = []
        self._counts = np.zeros(2, "<i8")  # files, and bytes of keys, so far
        self._last = "", "", frozenset[str]()  # the previous shard, and the key and suffixes of its last sample

    def arrays(self) -> dict[str, bytes]:
        samples = b"".join(map(bytes, [*self._places, self._counts]))
        return {"samples": samples, "members": b"".join(map(bytes, self._members)), "keys": b"".join(self._keys)}

    def add(self, name: str, file: Any, size: int) -> tuple[int, int]:
        samples: Samples = {}
        links: Links = {}
        end, last = 0, "its start"
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                archive.members = []  # type: ignore[attr-defined]  # else it keeps all of them
                last = f"`{member.name}`"
                end = member.offset_data + (-(-member.size // _BLOCK_BYTES) * _BLOCK_BYTES if member.isfile() else 0)
                key, suffix = _split_name(member.name)
                if member.issparse():
                    raise ValueError(f"{last} is a sparse file, which is not stored in one piece")
                if not suffix or not (member.isfile() or member.islnk() or member.issym()):
                    continue
                files = samples.setdefault(key, {})
                if suffix in files:
                    raise ValueError(f"{last} occurs twice: the files of a sample must have different extensions")
                files[suffix] = member.offset_data, member.size
                if not member.isfile():
                    links.setdefault(_target(member), []).append((key, suffix))
        # To tarfile, an archive that is truncated or damaged within a header ends there
        file.seek(end)
        if end + _BLOCK_BYTES > size or any(file.read(_BLOCK_BYTES)):
            raise ValueError(
                f"it is truncated, or damaged after {last} at {end} of {size} bytes: the end-of-archive block is missing"
            )
        _resolve_links(links, samples, file)
        self._check_not_continued(name, samples)
        self._append(samples)
        return len(samples), len(samples)

    def _check_not_continued(self, name: str, samples: Samples) -> None:
        """Raise if the first sample has the key of the previous shard's last one, and other files."""
        if not samples:
            return
        previous, key, suffixes = self._last
        if key == next(iter(samples)) and not suffixes & set(samples[key]):
            raise ValueError(f"the sample `{key}` begins in `{previous}`: all files of a sample must be in one shard")
        last = next(reversed(samples))
        self._last = name, last, frozenset(samples[last])

    def _append(self, samples: Samples) -> None:
        keys = [key.encode(errors=_NAME_ERRORS) for key in samples]
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


class TarReader(Reader):
    """Reads the files of samples by their offsets, without the headers of tar."""

    def read(self, shards: Integers, numbers: Integers) -> Iterator[dict[str, Any]]:
        arrays, suffixes = self._index.arrays, self._index.suffixes
        (first, key), (stop, key_stop) = arrays["samples"][numbers].T, arrays["samples"][numbers + 1].T
        counts = stop - first
        rows = np.arange(counts.sum()) + np.repeat(first - counts.cumsum() + counts, counts)  # of all their files
        starts, sizes, suffix_numbers = arrays["members"][rows].T
        pieces = self._store.read(shards.repeat(counts).tolist(), starts.tolist(), sizes.tolist())
        files = zip(map(suffixes.__getitem__, suffix_numbers.tolist()), pieces, strict=True)
        keys = arrays["keys"].data
        for count, begin, end in zip(counts.tolist(), key.tolist(), key_stop.tolist(), strict=True):
            sample: dict[str, Any] = {"__key__": str(keys[begin:end], "utf-8", _NAME_ERRORS)}
            sample.update(islice(files, count))
            yield sample


def _resolve_links(links: Links, samples: Samples, file: Any) -> None:
    """Give each link the offset and size of the file it leads to."""
    for _ in range(_MAX_LINKS):
        if not links:
            return
        found = {}
        file.seek(0)
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                if os.path.normpath(member.name) in links:
                    found[os.path.normpath(member.name)] = member
        further: Links = {}
        for target, places in links.items():
            if target in found and found[target].isfile():
                for key, suffix in places:
                    samples[key][suffix] = found[target].offset_data, found[target].size
            elif target in found and (found[target].islnk() or found[target].issym()):
                further.setdefault(_target(found[target]), []).extend(places)
            else:
                raise ValueError(f"`{'.'.join(places[0])}` is a link to `{target}`, which is not a file in this shard")
        links = further
    if links:
        raise ValueError(f"`{'.'.join(next(iter(links.values()))[0])}` is a link that does not lead to a file")


def _split_name(name: str) -> tuple[str, str]:
    """Split a name into key and suffix: `folder/0001.seg.PNG` into `folder/0001` and `seg.png`.

    A hidden file has no suffix.
    """
    folder, slash, base = name.rpartition("/")
    stem, _, suffix = base.partition(".")
    return folder + slash + stem, suffix.lower() if stem else ""


def _target(link: tarfile.TarInfo) -> str:
    """The name that a link points to: a hard link from the archive's top, a symbolic one from its own folder."""
    return os.path.normpath(link.linkname if link.islnk() else os.path.join(os.path.dirname(link.name), link.linkname))
