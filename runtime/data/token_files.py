"""Token files: text that was tokenized once, memory-mapped, so that a start takes no time and no memory at any size.

A set of token files is a folder: `tokens-HASH.bin` (little-endian uint8, uint16 or uint32, one document after the
other), `documents-HASH.bin` (int64: where each begins, and where the last ends) and `index.json`, which names both, with
sizes, hashes and what the tokens were made from. The index is written last, in one rename: an interrupted run leaves
nothing that looks complete, and what was there before stays until then.
"""

import hashlib
import json
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..errors import ConfigError, DataError
from ..storage.files import durable_write, json_bytes, sync_folder

Document = bytes | Sequence[int] | npt.NDArray[Any] | torch.Tensor

_FORMAT = 1
_FILES = ("tokens", "documents")
_TYPES = {"uint8": 1 << 8, "uint16": 1 << 16, "uint32": 1 << 32}  # vocabularies up to this size
_AT_ONCE = 1 << 20  # tokens checked and written at once
_MARKS, _MARK_BYTES = 64, 4096  # parts of a file that are compared whenever it is opened


class Tokens:
    """A set of token files, opened. Nothing is read but a few pages that are compared with the index.

    May be pickled and forked: each process maps the files by itself.

    Attributes:
        folder: Where they are.
        num_tokens: In all documents.
        num_documents: Those with at least one token.
        vocabulary: Tokens are in [0, vocabulary).
        content_hash: SHA-256 of both files, as written in the index.

    Raises:
        DataError: There are none, or the files are not those of the index.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        index = _read_index(self.folder)
        self.num_tokens: int = index["tokens"]
        self.num_documents: int = index["documents"]
        self.vocabulary: int = index["vocabulary"]
        self.content_hash: str = "".join(index["files"][name]["sha256"] for name in _FILES)
        self._type = np.dtype(index["type"]).newbyteorder("<")
        self._maps: dict[str, npt.NDArray[Any]] = {}
        self._entries: dict[str, dict[str, Any]] = index["files"]
        self._paths = {name: self.folder / self._entries[name]["name"] for name in _FILES}
        self._stamps = {name: self._compare(name) for name in _FILES}

    def __len__(self) -> int:
        return self.num_tokens

    @property
    def array(self) -> npt.NDArray[Any]:
        """All tokens, mapped. Shape (num_tokens,), uint8, uint16 or uint32."""
        return self._map("tokens", self._type)

    @property
    def starts(self) -> npt.NDArray[np.int64]:
        """The place of each document's first token, and that after the last token. Shape (num_documents + 1,)."""
        return self._map("documents", np.dtype("<i8"))

    def document(self, number: int) -> npt.NDArray[Any]:
        """The tokens of one document, counted from 0. Shape (tokens,)."""
        start, stop = self.starts[number : number + 2].tolist()
        return self.array[start:stop]

    def verify(self) -> None:
        """Read all of both files and compare their SHA-256.

        Raises:
            DataError: A byte differs.
        """
        found = ""
        for path in self._paths.values():
            with path.open("rb") as file:
                found += hashlib.file_digest(file, "sha256").hexdigest()
        if found != self.content_hash:
            raise DataError(f"`{self.folder}` is damaged: a byte differs from what was written. Tokenize once more")

    def check_unchanged(self) -> None:
        """Compare a file that was written since with the index again: reading one that was cut would end the process.

        Raises:
            DataError: It is not that of the index any more.
        """
        for name in self._maps:
            with suppress(FileNotFoundError):  # tokenized again; what is mapped stays as it was
                if self._stamps[name] != _stamp(self._paths[name]):
                    self._stamps[name] = self._compare(name)

    def _compare(self, name: str) -> tuple[int, int]:
        path, entry = self._paths[name], self._entries[name]
        try:
            stamp = _stamp(path)
            is_same = stamp[0] == entry["size"] and _marks(path) == entry["marks"]
        except FileNotFoundError:
            raise DataError(f"`{path}` is missing, which `index.json` beside it names: tokenize again") from None
        except OSError as error:
            raise DataError(f"`{path}` cannot be read ({error.strerror})") from None
        if not is_same:
            raise DataError(
                f"`{path}` is not the file that `index.json` beside it describes: it was cut short, or "
                f"written again. Delete `{self.folder}` and tokenize once more"
            )
        return stamp

    def _map(self, name: str, kind: np.dtype[Any]) -> npt.NDArray[Any]:
        if name not in self._maps:
            self._stamps[name] = self._compare(name)
            self._maps[name] = np.memmap(self._paths[name], kind, "r").view(np.ndarray)
        return self._maps[name]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if Tokens(self.folder).content_hash != self.content_hash:
            raise DataError(f"`{self.folder}` was tokenized again while a run reads it")


def write_tokens(
    folder: str | Path, documents: Iterable[Document], vocabulary: int, source: Mapping[str, Any] | None = None
) -> Tokens:
    """Write a set of token files, in place of what is there. Takes the memory of a few documents.

    Args:
        folder: Where to.
        documents: The tokens of each, its end-of-text token included: whole numbers, or bytes. Empty ones are left out.
        vocabulary: Size of the vocabulary; it decides how many bytes a token takes.
        source: What the tokens are made from, as JSON has words for it: `tokenized` compares it.

    Raises:
        DataError: A token is beyond the vocabulary, or there is none at all; what was there before still stands.
        OSError: The disk is full or cannot be written; names the file.
    """
    folder = Path(folder)
    kind = next((name for name, size in _TYPES.items() if 1 <= vocabulary <= size), None)
    if kind is None:
        raise ConfigError(f"A vocabulary must have 1 to {1 << 32} tokens, not {vocabulary}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"The folder `{folder}` cannot be made for token files ({error.strerror})") from None
    _remove_what_died(folder)
    aside = {name: _aside(folder, name) for name in (*_FILES, "index")}
    try:
        lengths: list[int] = []
        chunks = _chunks(documents, vocabulary, np.dtype(kind).newbyteorder("<"), lengths)
        written = {"tokens": durable_write(aside["tokens"], chunks)}
        if not lengths:
            raise DataError(f"There are no tokens to write to `{folder}`: all documents are empty, or there is none")
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype("<i8")
        written["documents"] = durable_write(aside["documents"], [starts.tobytes()])
        for name, entry in written.items():
            entry |= {"name": f"{name}-{entry['sha256'][:16]}.bin", "marks": _marks(aside[name])}
        index = {
            "format": _FORMAT,
            "type": kind,
            "tokens": int(starts[-1]),
            "documents": len(lengths),
            "vocabulary": vocabulary,
            "files": written,
            "source": source,
        }
        durable_write(aside["index"], [json_bytes(index)])
        before = _names(folder)
        for name, entry in written.items():
            os.replace(aside[name], folder / entry["name"])
        os.replace(aside["index"], folder / "index.json")
        sync_folder(folder)
        for name in before - _names(folder):
            (folder / name).unlink(missing_ok=True)
    finally:
        for path in aside.values():
            path.unlink(missing_ok=True)
    return Tokens(folder)


def tokenized(
    folder: str | Path,
    documents: Callable[[], Iterable[Document]],
    vocabulary: int,
    source: Mapping[str, Any],
) -> Tokens:
    """The token files in a folder, written first where there are none, or where they were made from another source.

    Processes may call it at the same time, on several machines too: each writes aside, and the last one wins.

    Args:
        folder: Where they are, or go to.
        documents: Returns the documents; only called to write.
        vocabulary: Size of the vocabulary.
        source: What the tokens are made from: names, settings, `files_of(…)`. Where it differs from what is in the
            index, the input has changed.

    Raises:
        DataError: As `write_tokens` and `Tokens`.
    """
    folder = Path(folder)
    if (folder / "index.json").exists():
        index = _read_index(folder)
        if index["source"] == json.loads(json_bytes(source)) and index["vocabulary"] == vocabulary:
            return Tokens(folder)
    return write_tokens(folder, documents(), vocabulary, source)


def files_of(paths: Iterable[str | Path], root: str | Path = "/") -> str:
    """A hash of the names, sizes and times of files, by which `tokenized` notices that one has changed.

    Args:
        paths: The files; their order counts.
        root: Folder above which names do not count, so that all of it may be moved.
    """
    digest = hashlib.sha256()
    for path in paths:
        known = os.stat(path)
        digest.update(f"{os.path.relpath(path, root)}\0{known.st_size}\0{known.st_mtime_ns}\n".encode())
    return digest.hexdigest()


# Writing


def _chunks(
    documents: Iterable[Document], vocabulary: int, kind: np.dtype[Any], lengths: list[int]
) -> Iterator[memoryview]:
    """The bytes of all documents, many at once; their lengths are added to `lengths`."""
    waiting: list[npt.NDArray[Any]] = []
    size = 0
    for number, document in enumerate(documents):
        tokens = np.frombuffer(document, np.uint8) if isinstance(document, bytes) else np.asarray(document)
        if tokens.ndim != 1 or (len(tokens) and tokens.dtype.kind not in "iu"):
            raise DataError(
                f"Document {number} must be a row of whole numbers or bytes, not {tokens.dtype} of shape {tokens.shape}"
            )
        if not len(tokens):
            continue
        least, most = tokens.min(), tokens.max()
        if least < 0 or most >= vocabulary:
            raise DataError(
                f"Document {number} has the token {least if least < 0 else most}, and the vocabulary has {vocabulary} "
                f"(0 to {vocabulary - 1}): tokenize with the tokenizer of the model"
            )
        waiting.append(tokens.astype(kind))
        lengths.append(len(tokens))
        size += len(tokens)
        if size >= _AT_ONCE:
            yield np.concatenate(waiting).data.cast("B")
            waiting, size = [], 0
    if waiting:
        yield np.concatenate(waiting).data.cast("B")


def _aside(folder: Path, name: str) -> Path:
    return folder / f"{name}.{platform.node()}-{os.getpid()}.tmp"


def _remove_what_died(folder: Path) -> None:
    """Remove what processes of this machine have left that were killed while they wrote."""
    for path in folder.glob(f"*.{platform.node()}-*.tmp"):
        number = path.stem.rpartition("-")[2]
        if number.isdecimal() and not _is_alive(int(number)):
            path.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    if process == os.getpid():
        return False  # of an earlier process of this number
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _names(folder: Path) -> set[str]:
    """The files that the index in a folder names."""
    try:
        return {entry["name"] for entry in _read_index(folder)["files"].values()}
    except DataError:
        return set()


# Reading


def _read_index(folder: Path) -> dict[str, Any]:
    path = folder / "index.json"
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is no file")  # to open a pipe would wait for its other end
        index: dict[str, Any] = json.loads(path.read_bytes())
        found = index["format"]
        if found == _FORMAT and index["type"] in _TYPES and all(index["files"][name]["name"] for name in _FILES):
            return index
    except FileNotFoundError:
        raise DataError(f"`{folder}` has no token files: there is no `index.json`; tokenize the text first") from None
    except OSError as error:
        raise DataError(f"`{path}` cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"`{path}` is no index of token files ({error}): delete the folder and tokenize again"
        ) from None
    raise DataError(
        f"`{path}` has the format {found!r}, and this paccel reads {_FORMAT}: upgrade paccel, or tokenize again"
    )


def _stamp(path: Path) -> tuple[int, int]:
    known = os.stat(path)
    return known.st_size, known.st_mtime_ns


def _marks(path: Path) -> str:
    """A hash of some parts of a file, the first and the last among them: milliseconds at any size."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        last = max(0, file.seek(0, os.SEEK_END) - _MARK_BYTES)
        for place in sorted({last * number // (_MARKS - 1) for number in range(_MARKS)}):
            file.seek(place)
            digest.update(file.read(_MARK_BYTES))
    return digest.hexdigest()
