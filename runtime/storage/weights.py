"""Weights files: the tensors of one model, under their plain names, as `transformers` and `safetensors` read them.

One file, or a folder of files of limited size with a `model.safetensors.index.json` that says which tensor is where.
The header of each file has the SHA-256 of the whole file under `paccel.sha256`, computed with zeros in its own place.
So a damaged file is detected before its weights are used.
"""

import hashlib
import json
import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from ..errors import CheckpointError, quoted
from .encoding import decode, encode
from .files import atomic_write, json_bytes
from .shards import check_has_memory
from .stored import SMALL
from .tensorfile import Buffer, load_tensors, tensor_chunks

_COMPILED = re.compile(r"(^|\.)_orig_mod\.")
_HASH, _STATE = "paccel.sha256", "paccel.state"
_ZEROS = "0" * 64
_CHUNK = 1 << 20  # bytes that are hashed at once

MAX_SHARD_SIZE = 5 * 10**9
"""Maximum bytes of a file of weights, as in `huggingface_hub`."""

_INDEX = "model.safetensors.index.json"
_SHARD_NAME = re.compile(r"model-\d+-\w+-of-\d+\.safetensors")


def write_weights(
    path: Path,
    weights: nn.Module | Mapping[str, Any],
    metadata: Mapping[str, str] | None = None,
    *,
    max_shard_size: int = MAX_SHARD_SIZE,
    writes: bool = True,
) -> None:
    """Write weights as a safetensors file, or above a size as a folder of files. The same weights make the same bytes.

    Names are those of the unwrapped model, without the prefixes of DataParallel and `torch.compile`. Tied weights are
    stored once; the header maps their other names to the stored one, as `safetensors.torch.save_model` does. The result
    of a module's `get_extra_state` is in the header as well, as `encode` writes it. Shards are gathered, one tensor at
    a time: collective if there are any.

    Args:
        path: The file. The folder has its name without `.safetensors`.
        weights: A model, or its `state_dict`.
        metadata: Text for the header.
        max_shard_size: Maximum bytes of a file, unless a single tensor is larger.
        writes: Whether this process writes; the others only help to gather.

    Raises:
        CheckpointError: A value cannot be stored, or two have the same name.
        OSError: The disk is full or not writable; existing weights are unchanged.
    """
    state = weights.state_dict() if isinstance(weights, nn.Module) else weights
    try:
        tree, tensors = encode(dict(zip(plain_names(state), state.values(), strict=True)))
    except CheckpointError as error:
        raise CheckpointError(f"`{path}` cannot be written: {error}") from error
    header, others = {"format": "pt", **(metadata or {})}, {}
    for name, reference in tree.items():
        if not isinstance(reference, dict) or reference.get("$") != "tensor":
            others[name] = reference
        elif reference["name"] != name:
            header[name] = reference["name"]
    if others:
        header[_STATE] = json.dumps(others, allow_nan=False)
    header[_HASH] = _ZEROS
    files = _split(tensors, max_shard_size)
    folder = path.with_suffix("")
    if len(files) == 1:
        _write(path, tensor_chunks(tensors, header), writes)
        if writes and folder.is_dir():
            remove_weights(folder)
        return
    # File names contain the step, so that the index, which is replaced last, never names files of different steps
    step = (metadata or {}).get("step", "0")
    names = [f"model-{number:05}-{step}-of-{len(files):05}.safetensors" for number in range(1, len(files) + 1)]
    for name, part in zip(names, files, strict=True):
        _write(folder / name, tensor_chunks(part, header), writes)
    if writes:
        places = {key: name for name, part in zip(names, files, strict=True) for key in part}
        total = sum(tensor.nbytes for tensor in tensors.values())
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
        atomic_write(folder / _INDEX, json_bytes(index))
        path.unlink(missing_ok=True)
        _remove_files(folder, names)


def remove_weights(path: Path) -> None:
    """Remove a file of weights, or the files that `write_weights` has written into a folder, the index first."""
    if path.is_dir():
        (path / _INDEX).unlink(missing_ok=True)
        _remove_files(path, ())
        with suppress(OSError):  # the folder has other files
            path.rmdir()
    else:
        path.unlink()


def _remove_files(folder: Path, but: Collection[str]) -> None:
    for file in folder.iterdir():
        if _SHARD_NAME.fullmatch(file.name) and file.name not in but:
            file.unlink()


def find_weights(path: Path) -> list[Path]:
    """The files of weights at a path: a file, a folder with one or with an index, or the index.

    Raises:
        CheckpointError: There are none.
    """
    if not path.exists() and (path.with_suffix("") / _INDEX).exists():
        path = path.with_suffix("")
    if path.is_dir():
        indexes, files = sorted(path.glob("*.safetensors.index.json")), sorted(path.glob("*.safetensors"))
        if len(indexes) != 1 and len(files) != 1:
            found = f"{len(indexes)} indexes and {len(files)} files"
            raise CheckpointError(f"`{path}` must hold the weights of one model: it has {found}")
        path = indexes[0] if len(indexes) == 1 else files[0]
    if path.suffix == ".json":
        try:
            names = sorted(set(json.loads(path.read_bytes())["weight_map"].values()))
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise CheckpointError(f"`{path}` cannot be read: {error}") from error
        if not names or any(Path(str(name)).name != name for name in names):
            raise CheckpointError(f"`{path}` names files that are not in its folder")
        return [path.parent / name for name in names]
    if not path.exists():
        others = quoted(other.name for other in sorted(path.parent.glob("*.safetensors")))
        raise CheckpointError(f"There is no `{path}`" + (f"; its folder has {others}" if others else ""))
    return [path]


def _split(tensors: Mapping[str, Any], max_bytes: int) -> list[dict[str, Any]]:
    """The tensors in order, in groups of limited size."""
    groups: list[dict[str, Any]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if groups[-1] and size + tensor.nbytes > max_bytes:
            groups.append({})
            size = 0
        groups[-1][name] = tensor
        size += tensor.nbytes
    return groups


def _write(path: Path, chunks: Iterator[Buffer], writes: bool) -> None:
    """Write a file and its hash. Even if that fails, iterate over all chunks: gathering them is collective."""
    try:
        if writes:
            first = next(chunks)
            place = bytes(first).index(f'"{_HASH}":"{_ZEROS}"'.encode()) + len(f'"{_HASH}":"')
            atomic_write(path, chain([first], chunks), lambda digest: (place, digest.encode()))
    finally:
        deque(chunks, maxlen=0)


def read_weights(path: Path, module: nn.Module, *, strict: bool = True) -> tuple[dict[str, str], list[str]]:
    """Load weights into `module` in place, wrapped or not.

    Args:
        path: The file, or a folder: see `find_weights`.
        module: The model, or a part of one.
        strict: Whether a difference in names or shapes is an error. Otherwise only what fits is loaded.

    Returns:
        metadata: Of the file.
        differences: A line for each weight that does not fit; none with `strict`.

    Raises:
        CheckpointError: The file cannot be read or was damaged, or names or shapes differ; lists all of them. Nothing
            is loaded.
    """
    check_has_memory(module)
    state = module.state_dict()
    is_sharded = any(hasattr(value, "to_local") for value in state.values())
    weights, metadata = _read_files(path, at_once=0 if is_sharded else SMALL)
    saved = dict(zip(plain_names(weights), weights.values(), strict=True))
    own = dict(zip(plain_names(state), state, strict=True))
    problems = {name: f"missing: `{name}`" for name in own if name not in saved}
    problems |= {name: f"unexpected: `{name}`" for name in saved if name not in own}
    for name in own.keys() & saved.keys():
        here, there = _shape(state[own[name]]), _shape(saved[name])
        if here is not None and here != there:
            problems[name] = f"shape: `{name}` is {there} in the file and {here} in the model"
    differences = sorted(problems.values())
    if problems and strict:
        raise CheckpointError(f"`{path}` does not fit the model:\n" + "\n".join(f"  {line}" for line in differences))
    fitting = {own[name]: value for name, value in saved.items() if name not in problems}
    if not fitting and own:
        raise CheckpointError(
            f"`{path}` has no weight of the model:\n" + "\n".join(f"  {line}" for line in differences)
        )
    module.load_state_dict(fitting, strict=strict)
    return metadata, differences


def _read_files(path: Path, at_once: int) -> tuple[dict[str, Any], dict[str, str]]:
    """The weights and the metadata in the files at a path. The metadata has a hash only if each file has one.

    Tensors of more than `at_once` bytes stay in their files until they are needed.

    Raises:
        CheckpointError: A file cannot be read, or does not have its hash.
    """
    tensors: dict[str, Any] = {}
    metadata: dict[str, str] = {}
    hashes: list[str | None] = []
    for file in find_weights(path):
        found, header = load_tensors(file, lazily=True, at_once=at_once)
        written = header.get(_HASH)
        if written is not None and _hash_of(file, written) != written:
            raise CheckpointError(f"`{file}` was damaged or changed after it was written: its SHA-256 does not match")
        hashes.append(written)
        tensors |= found
        metadata |= header
    if None in hashes:
        metadata.pop(_HASH, None)
    tensors |= {tied: tensors[name] for tied, name in metadata.items() if tied not in tensors and name in tensors}
    extra = _extra_states(path, metadata, tensors)
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(tuple(f"{n}." for n in extra))}
    return tensors | extra, metadata


def has_hash(metadata: Mapping[str, str]) -> bool:
    """Whether the file with this metadata has a hash to check it by, as only files of paccel have."""
    return _HASH in metadata


def _extra_states(path: Path, metadata: Mapping[str, str], tensors: Mapping[str, Any]) -> dict[str, Any]:
    try:
        trees = json.loads(metadata.get(_STATE, "{}"))
        return {name: decode(tree, dict(tensors)) for name, tree in trees.items()}
    except (ValueError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"`{path}` cannot be read: its `{_STATE}`: {error}") from error


def _shape(value: Any) -> tuple[int, ...] | None:
    """The shape of a tensor; None for a lazy parameter without a shape yet, and for anything but a tensor."""
    shape = None if is_lazy(value) else getattr(value, "shape", None)
    return None if shape is None else tuple(shape)


def _hash_of(path: Path, written: str) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        length = file.read(8)
        header = file.read(int.from_bytes(length, "little"))
        entry = f'"{_HASH}":"{{}}"'
        digest.update(length + header.replace(entry.format(written).encode(), entry.format(_ZEROS).encode(), 1))
        while piece := file.read(_CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def plain_names(names: Iterable[str]) -> list[str]:
    """Names of weights, in order, without the prefixes of `torch.compile` and DataParallel.

    Raises:
        CheckpointError: Two names are then the same.
    """
    plain = [_COMPILED.sub(r"\1", name) for name in names]
    if all(name.startswith("module.") for name in plain):
        plain = [name.removeprefix("module.") for name in plain]
    if len(set(plain)) < len(plain):
        twice = sorted({name for name in plain if plain.count(name) > 1})
        raise CheckpointError(f"Two weights have the same name: {quoted(twice)}")
    return plain
