"""A cheap hash by which a resumed run recognizes its data: of what a dataset holds in memory. No sample is fetched.

Fetching one could open files that must not be open when workers are forked, and could draw random numbers.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from hashlib import blake2b
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

_MAX_ITEMS = 4096  # a longer list or mapping is sampled
_MAX_BYTES = 1 << 22  # a larger tensor is sampled
_SPREAD = 256  # items or rows that are sampled: the first, the last and others between
_FILES = 32  # files whose size is read
_SAMPLES = 64  # samples of a stream in a digest
_DEPTH = 6  # levels of nested datasets, and of nested values
_MAX_CLASSES = 1000  # longer lists of class names are left out
_NUMBERS = bool | int | float | complex | np.generic
_LISTS = (list, tuple, range)
_ROWS = (torch.Tensor, np.ndarray, *_LISTS)


def fingerprint(dataset: Any) -> dict[str, Any]:
    """What distinguishes a dataset from others of the same length, as far as that takes milliseconds.

    Covers the tensors, arrays, tables, lists and mappings that are attributes of the dataset or of the datasets in it. Of
    files, it covers sizes and the last two parts of their paths below their common folder, so that data may move to
    another folder. If a dataset has an attribute `content_hash`, a string, that is used instead.

    Returns:
        `content`, a hash, None if there was nothing to hash; and `classes`, if the dataset has class names.
    """
    hasher = blake2b(digest_size=16)
    files: list[str] = []
    found = False
    for part in _parts(dataset):
        for item in _contents(part, files):
            found = True
            hasher.update(item)
    for path in _without_common_folder(files):
        hasher.update(path.encode(errors="replace") + b"\0")
    for path in spread(files, _FILES):
        hasher.update(str(os.path.getsize(path)).encode() if os.path.isfile(path) else b"-")
    known: dict[str, Any] = {"content": hasher.hexdigest() if found else None}
    classes = next((part.classes for part in _parts(dataset) if isinstance(getattr(part, "classes", None), list)), None)
    if classes and len(classes) <= _MAX_CLASSES:
        known["classes"] = [str(name) for name in classes]
    return known


def digest(samples: Sequence[Any]) -> str:
    """A hash of samples, the same in every process. Objects without data count by their type."""
    hasher = blake2b(str(len(samples)).encode(), digest_size=16)
    for sample in samples[:_SAMPLES]:
        hasher.update(b"".join(_bytes(sample, None, _DEPTH)))
    return hasher.hexdigest()


def inner_datasets(dataset: Any) -> list[Any]:
    """The datasets that a `Subset`, a `ConcatDataset` or a similar wrapper holds."""
    return [*getattr(dataset, "datasets", ()), *([dataset.dataset] if hasattr(dataset, "dataset") else ())]


def _parts(dataset: Any, depth: int = _DEPTH) -> Iterator[Any]:
    """A dataset and the datasets in it, including attributes of any name."""
    yield dataset
    if not depth:
        return
    inner = inner_datasets(dataset)
    named = [value for _, value in sorted(getattr(dataset, "__dict__", {}).items()) if isinstance(value, Dataset)]
    for part in [*inner, *(value for value in named if all(value is not part for part in inner))]:
        yield from _parts(part, depth - 1)


def _contents(dataset: Any, files: list[str]) -> Iterator[bytes]:
    """The data that a dataset holds, as bytes. Paths are added to `files` instead."""
    if isinstance(known := getattr(dataset, "content_hash", None), str):
        yield known.encode()
        return
    if isinstance(dataset, _LISTS):
        yield from _bytes(dataset, files, _DEPTH)
    for name, value in sorted(getattr(dataset, "__dict__", {}).items()):
        if isinstance(columns := _columns(value), Mapping):
            # rows by name, such as a tokenizer's output, or numbers, such as `class_to_idx`: neither caches nor settings
            inner = list(columns.values())
            are_rows = all(isinstance(key, str) and isinstance(columns[key], _ROWS) for key in columns)
            is_data = bool(inner) and (are_rows or all(isinstance(item, _NUMBERS) for item in inner))
        else:
            is_data = isinstance(value, torch.Tensor | np.ndarray) or (isinstance(value, _LISTS) and bool(value))
        if is_data:
            yield name.encode()
            yield from _bytes(columns, files, _DEPTH)
    # `datasets` keeps its rows in files
    for name in ("features", "dataset_size"):
        if type(dataset).__module__.startswith("datasets.") and (value := getattr(dataset, name, None)):
            yield str(value).encode()


def _without_common_folder(files: list[str]) -> list[str]:
    """The last two parts of each path; only the name if the file is directly in the common folder of all."""
    folders = [PurePath(path).parent.parts for path in files]
    shortest = min(map(len, folders), default=0)
    common = next((n for n in range(shortest) if len({parts[n] for parts in folders}) > 1), shortest)
    return ["/".join(PurePath(path).parts[max(common, len(f) - 1) :]) for path, f in zip(files, folders, strict=True)]


def _columns(value: Any) -> Any:
    """The columns of a pandas or polars table by name; any other value unchanged."""
    if hasattr(value, "columns") and callable(getattr(value, "to_numpy", None)):
        return {str(name): value[name].to_numpy() for name in value.columns}
    return value


def _bytes(value: Any, files: list[str] | None, depth: int) -> Iterator[bytes]:
    """The content of a value.

    Args:
        value: Any value.
        files: Takes the paths in the value; large values are then sampled. None: paths count by their last two parts, and
            all of the value counts.
        depth: Levels of nested values that are followed.
    """
    if isinstance(value, torch.Tensor):
        yield f"{tuple(value.shape)} {value.dtype}".encode()
        if value.layout is torch.strided and value.device.type != "meta" and value.numel():
            rows = value.detach().reshape(len(value) if value.ndim else 1, -1)
            rows = rows[torch.as_tensor(_rows(len(rows), rows.nbytes, files), device=rows.device)]
            yield rows.cpu().contiguous().view(torch.uint8).numpy().tobytes()
    elif isinstance(value, np.ndarray):
        yield f"{value.shape} {value.dtype}".encode()
        if value.size:
            array = value.reshape(len(value) if value.ndim else 1, -1)
            array = array[_rows(len(array), array.nbytes, files)]
            yield from (
                _bytes(array.tolist(), files, depth - 1) if value.dtype == object and depth else [array.tobytes()]
            )
    elif isinstance(value, bytes):
        yield value
    elif isinstance(value, PurePath) or (isinstance(value, str) and _is_path(value)):
        if files is not None:
            files.append(str(value))
        else:
            yield "/".join(PurePath(value).parts[-2:]).encode()
    elif isinstance(value, str):
        yield value.encode(errors="replace")
    elif isinstance(value, _NUMBERS | range) or value is None:
        yield f"{type(value).__name__} {value!r}".encode()
    elif isinstance(value, Mapping | list | tuple) and depth:
        yield str(len(value)).encode()
        inner = list(value.items()) if isinstance(value, Mapping) else value
        for item in inner if files is None or len(inner) <= _MAX_ITEMS else spread(inner, _SPREAD):
            yield from _bytes(item, files, depth - 1)
    elif callable(getattr(value, "tobytes", None)):  # an image
        yield value.tobytes()
    else:
        yield type(value).__name__.encode()
        if (files is None or is_dataclass(value)) and depth:
            yield from _bytes(getattr(value, "__dict__", {}), files, depth - 1)


def _rows(rows: int, size: int, files: list[str] | None) -> list[int]:
    """The rows of a tensor of `size` bytes that are hashed: a sample of them if it is large, and `files` is given."""
    if files is None or size <= _MAX_BYTES:
        return list(range(rows))
    return spread(range(rows), min(_SPREAD, max(2, _MAX_BYTES * rows // size)))


def _is_path(text: str) -> bool:
    return len(text) < 1024 and ("/" in text or "\\" in text) and PurePath(text).suffix != ""


def spread(items: Sequence[Any], most: int) -> list[Any]:
    """At most `most` of the items: the first, the last and others at equal distances."""
    if len(items) <= most:
        return list(items)
    return [items[place * (len(items) - 1) // (most - 1)] for place in range(most)]
