"""Token files: text that is tokenized once and then memory-mapped, so that a run starts immediately at any size.

A set of token files is a folder with `tokens-HASH.bin` (little-endian uint8, uint16 or uint32, one document after the
other), `documents-HASH.bin` (int64: the start of each document, and the end of the last) and `index.json`, which names
both, with sizes, hashes and what the tokens were made from. The index is written last, by one rename, so an interrupted
run leaves the previous files valid.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..errors import ConfigError, DataError
from ..storage.files import durable_write, json_bytes, sync_folder
from .fingerprint import spread
from .temporary import remove_leftovers, temporary

Document = bytes | Sequence[int] | npt.NDArray[Any] | torch.Tensor

_FORMAT = 1
_FILES = ("tokens", "documents")
_TYPES = {"uint8": 1 << 8, "uint16": 1 << 16, "uint32": 1 << 32}  # the largest vocabulary of each
_AT_ONCE = 1 << 20  # tokens written at once
_PROBES, _PROBE_BYTES = 64, 4096  # parts of a file that are hashed to notice changes


class Tokens:
    """A set of token files. Opening it reads only a few pages, which are compared with the index.

    May be pickled and forked: each process maps the files by itself.

    Attributes:
        folder: Where they are.
        num_tokens: Tokens in all documents.
        num_documents: Documents with at least one token.
        vocabulary: Tokens are in [0, vocabulary).
        content_hash: SHA-256 of both files, from the index.

    Raises:
        DataError: There are none, or they do not match the index.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        index = _read_index(self.folder)
        self.num_tokens: int = index["tokens"]
        self.num_documents: int = index["documents"]
        self.vocabulary: int = index["vocabulary"]
        self.content_hash: str = "".join(index["files"][name]["sha256"] for name in _FILES)
        self._type = np.dtype(index["type"]).newbyteorder("<")
        self._entries: dict[str, dict[str, Any]] = index["files"]
        self._paths = {name: self.folder / self._entries[name]["name"] for name in _FILES}
        self._maps: dict[str, npt.NDArray[Any]] = {}
        self._stamps = {name: self._compare(name) for name in _FILES}

    def __len__(self) -> int:
        return self.num_tokens

    @property
    def array(self) -> npt.NDArray[Any]:
        """All tokens, memory-mapped. Shape (num_tokens,), uint8, uint16 or uint32."""
        return self._map("tokens", self._type)

    @property
    def starts(self) -> npt.NDArray[np.int64]:
        """The position of each document's first token, and the number of tokens. Shape (num_documents + 1,)."""
        return self._map("documents", np.dtype("<i8"))

    def document(self, number: int) -> npt.NDArray[Any]:
        """The tokens of one document, counted from 0. Shape (tokens,)."""
        start, stop = self.starts[number : number + 2].tolist()
        return self.array[start:stop]

    def verify(self) -> None:
        """Read both files whole and compare their SHA-256 with the index.

        Raises:
            DataError: It differs.
        """
        found = ""
        for path in self._paths.values():
            with path.open("rb") as file:
                found += hashlib.file_digest(file, "sha256").hexdigest()
        if found != self.content_hash:
            raise DataError(f"`{self.folder}` is damaged: its SHA-256 differs from the index. Tokenize again")

    def check_unchanged(self) -> None:
        """Compare mapped files with the index if they were written since: reading a truncated one would kill the process.

        Raises:
            DataError: A file does not match the index any more.
        """
        for name in self._maps:
            with suppress(FileNotFoundError):  # tokenized again; the mapping still has the old content
                if self._stamps[name] != _stamp(self._paths[name]):
                    self._stamps[name] = self._compare(name)

    def _compare(self, name: str) -> tuple[int, int]:
        """Compare size and parts of a file with the index; returns its stamp."""
        path, entry = self._paths[name], self._entries[name]
        try:
            stamp = _stamp(path)
            is_same = stamp[0] == entry["size"] and _probe(path) == entry["marks"]
        except FileNotFoundError:
            raise DataError(f"`{path}` is missing, but `index.json` beside it names it: tokenize again") from None
        except OSError as error:
            raise DataError(f"`{path}` cannot be read ({error.strerror})") from None
        if not is_same:
            raise DataError(
                f"`{path}` does not match `index.json` beside it: it was truncated or rewritten. Delete `{self.folder}` "
                "and tokenize again"
            )
        return stamp

    def _map(self, name: str, kind: np.dtype[Any]) -> npt.NDArray[Any]:
        if name not in self._maps:
            self._stamps[name] = self._compare(name)
            self._maps[name] = np.memmap(self._paths[name], kind, "r").view(np.ndarray)
        return self._maps[name]

    def __reduce__(self) -> Any:
        return _opened_again, (self.folder, self.content_hash)


def _opened_again(folder: Path, content_hash: str) -> Tokens:
    tokens = Tokens(folder)
    if tokens.content_hash != content_hash:
        raise DataError(f"`{folder}` was tokenized again while a run reads it")
    return tokens


def write_tokens(
    folder: str | Path, documents: Iterable[Document], vocabulary: int, source: Mapping[str, Any] | None = None
) -> Tokens:
    """Write a set of token files, replacing the previous one. Holds a few documents in memory.

    Args:
        folder: Where to write.
        documents: The tokens of each document, including its end-of-text token: integers, or bytes. Empty documents are
            skipped.
        vocabulary: Size of the vocabulary, which decides how many bytes a token takes.
        source: What the tokens are made from, as JSON values: `tokenized` compares it.

    Raises:
        DataError: A token is not in the vocabulary, or there are no tokens; the previous files are kept.
        ConfigError: The vocabulary is empty or too large.
        OSError: The disk is full or read-only; names the file.
    """
    folder = Path(folder)
    kind = next((name for name, size in _TYPES.items() if 1 <= vocabulary <= size), None)
    if kind is None:
        raise ConfigError(f"A vocabulary must have 1 to {1 << 32} tokens, not {vocabulary}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"The folder `{folder}` for token files cannot be created ({error.strerror})") from None
    remove_leftovers(folder)
    aside = {name: temporary(folder / name) for name in (*_FILES, "index")}
    try:
        lengths: list[int] = []
        chunks = _chunks(documents, vocabulary, np.dtype(kind).newbyteorder("<"), lengths)
        written = {"tokens": durable_write(aside["tokens"], chunks)}
        if not lengths:
            raise DataError(f"There are no tokens to write to `{folder}`: there is no document, or all are empty")
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype("<i8")
        written["documents"] = durable_write(aside["documents"], [starts.tobytes()])
        for name, entry in written.items():
            entry |= {"name": f"{name}-{entry['sha256'][:16]}.bin", "marks": _probe(aside[name])}
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
    """The token files in a folder; writes them first if there are none, or if they were made from another source.

    Several processes may call it at the same time, also on several machines: each writes aside, and the last one wins.

    Args:
        folder: Where they are, or are written.
        documents: Returns the documents; called only to write them.
        vocabulary: Size of the vocabulary.
        source: What the tokens are made from: names, settings, `files_of(…)`. If it differs from that in the index, the
            text is tokenized again.

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
    """A hash of the names, sizes and modification times of files, by which `tokenized` notices changes.

    Args:
        paths: The files; their order matters.
        root: Names are relative to this folder, so that it may be moved.
    """
    digest = hashlib.sha256()
    for path in paths:
        known = os.stat(path)
        digest.update(f"{os.path.relpath(path, root)}\0{known.st_size}\0{known.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _chunks(
    documents: Iterable[Document], vocabulary: int, kind: np.dtype[Any], lengths: list[int]
) -> Iterator[memoryview]:
    """The bytes of all documents, in large chunks. Appends the length of each document to `lengths`."""
    waiting: list[npt.NDArray[Any]] = []
    size = 0
    for number, document in enumerate(documents):
        tokens = np.frombuffer(document, np.uint8) if isinstance(document, bytes) else np.asarray(document)
        if tokens.ndim != 1 or (len(tokens) and tokens.dtype.kind not in "iu"):
            raise DataError(
                f"Document {number} must be bytes or a one-dimensional row of integers, not {tokens.dtype} of shape "
                f"{tokens.shape}"
            )
        if not len(tokens):
            continue
        least, most = tokens.min(), tokens.max()
        if least < 0 or most >= vocabulary:
            raise DataError(
                f"Document {number} has the token {least if least < 0 else most}, but the vocabulary has {vocabulary} "
                f"(0 to {vocabulary - 1}): use the tokenizer of the model"
            )
        waiting.append(tokens.astype(kind))
        lengths.append(len(tokens))
        size += len(tokens)
        if size >= _AT_ONCE:
            yield np.concatenate(waiting).data.cast("B")
            waiting, size = [], 0
    if waiting:
        yield np.concatenate(waiting).data.cast("B")


def _names(folder: Path) -> set[str]:
    """The files that the index in a folder names."""
    try:
        return {entry["name"] for entry in _read_index(folder)["files"].values()}
    except DataError:
        return set()


def _read_index(folder: Path) -> dict[str, Any]:
    path = folder / "index.json"
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is not a regular file")  # opening a pipe would wait for its other end
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
            f"`{path}` is not an index of token files ({error}): delete the folder and tokenize again"
        ) from None
    raise DataError(
        f"`{path}` has the format {found!r}, but this paccel reads {_FORMAT}: upgrade paccel, or tokenize again"
    )


def _stamp(path: Path) -> tuple[int, int]:
    """Size and time of a file: they differ after it was written."""
    known = os.stat(path)
    return known.st_size, known.st_mtime_ns


def _probe(path: Path) -> str:
    """A hash of some parts of a file, including its first and last bytes: takes milliseconds at any size."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        last = max(0, file.seek(0, os.SEEK_END) - _PROBE_BYTES)
        for place in spread(range(last + 1), _PROBES):
            file.seek(place)
            digest.update(file.read(_PROBE_BYTES))
    return digest.hexdigest()
