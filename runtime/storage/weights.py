"""Weights files: the tensors of one model, under their plain names.

The header has the SHA-256 of the whole file under `paccel.sha256`, taken with zeros in its own place. So what damages a
file is found before its weights are used.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from ..errors import CheckpointError
from .encoding import decode, encode
from .files import atomic_write
from .tensorfile import load_tensors, tensor_chunks

_COMPILED = re.compile(r"(^|\.)_orig_mod\.")
_HASH, _STATE = "paccel.sha256", "paccel.state"
_ZEROS = "0" * 64
_PIECE = 1 << 20  # bytes that are hashed at once


def write_weights(
    path: Path, weights: nn.Module | Mapping[str, Any], metadata: Mapping[str, str] | None = None
) -> None:
    """Write weights as one safetensors file. The same weights make the same bytes.

    Names are those of the model as written, without the prefixes of DataParallel and `torch.compile`. Tied weights are
    stored once; the header maps their other names to the stored one, as safetensors' own `save_model` does. What a
    module returns from `get_extra_state` is in the header, too, as `encode` writes it. All values are read twice: once
    for the hash, which comes first in the file.

    Raises:
        CheckpointError: A value cannot be stored, or two have the same name.
        OSError: The disk is full or not writable; an existing file is unchanged.
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
    digest = hashlib.sha256()
    for chunk in tensor_chunks(tensors, header):
        digest.update(chunk)
    atomic_write(path, tensor_chunks(tensors, header | {_HASH: digest.hexdigest()}))


def read_weights(path: Path, module: nn.Module, *, strict: bool = True) -> tuple[dict[str, str], list[str]]:
    """Load weights into `module` in place, whether or not it is wrapped.

    Args:
        path: The file.
        module: The model, or a part of one.
        strict: Whether a difference in names or shapes is an error. Otherwise only what fits is loaded.

    Returns:
        metadata: The file's.
        differences: A line for each weight that does not fit; none with `strict`.

    Raises:
        CheckpointError: The file cannot be read or was damaged, or names or shapes differ; lists all of them, and loads
            nothing.
    """
    if not path.exists():
        others = ", ".join(f"`{other.name}`" for other in sorted(path.parent.glob("*.safetensors")))
        raise CheckpointError(f"There is no `{path}`" + (f"; its folder has {others}" if others else ""))
    tensors, metadata = load_tensors(path)
    if _HASH in metadata and _hash_of(path, metadata[_HASH]) != metadata[_HASH]:
        raise CheckpointError(f"`{path}` was damaged or changed after it was written: its SHA-256 is another one")
    tensors |= {n: tensors[kept] for n, kept in metadata.items() if n not in tensors and kept in tensors}
    extra = _extra_states(path, metadata, tensors)
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(tuple(f"{n}." for n in extra))}
    found = tensors | extra
    given = dict(zip(plain_names(found), found.values(), strict=True))
    state = module.state_dict()
    own = dict(zip(plain_names(state), state, strict=True))
    problems = {name: f"missing: `{name}`" for name in own if name not in given}
    problems |= {name: f"unexpected: `{name}`" for name in given if name not in own}
    for name in own.keys() & given.keys():
        here, there = _shape(state[own[name]]), _shape(given[name])
        if here is not None and here != there:
            problems[name] = f"shape: `{name}` is {there} in the file and {here} in the model"
    differences = sorted(problems.values())
    if problems and strict:
        raise CheckpointError(f"`{path}` does not fit the model:\n" + "\n".join(f"  {line}" for line in differences))
    fitting = {own[name]: value for name, value in given.items() if name not in problems}
    if not fitting and own:
        raise CheckpointError(
            f"`{path}` has no weight of the model:\n" + "\n".join(f"  {line}" for line in differences)
        )
    module.load_state_dict(fitting, strict=strict)
    return metadata, differences


def has_hash(metadata: Mapping[str, str]) -> bool:
    """Whether the file of this metadata could be checked for damage, as those of others cannot."""
    return _HASH in metadata


def _extra_states(path: Path, metadata: Mapping[str, str], tensors: Mapping[str, Any]) -> dict[str, Any]:
    try:
        trees = json.loads(metadata.get(_STATE, "{}"))
        return {name: decode(tree, dict(tensors)) for name, tree in trees.items()}
    except (ValueError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"`{path}` cannot be read: its `{_STATE}`: {error}") from error


def _shape(value: Any) -> tuple[int, ...] | None:
    """The shape of a tensor; None of a lazy parameter that has none yet, and of what is no tensor."""
    shape = None if is_lazy(value) else getattr(value, "shape", None)
    return None if shape is None else tuple(shape)


def _hash_of(path: Path, written: str) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        length = file.read(8)
        header = file.read(int.from_bytes(length, "little"))
        entry = f'"{_HASH}":"{{}}"'
        digest.update(length + header.replace(entry.format(written).encode(), entry.format(_ZEROS).encode(), 1))
        while piece := file.read(_PIECE):
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
        raise CheckpointError(f"Two weights have the same name: {', '.join(f'`{name}`' for name in twice)}")
    return plain
