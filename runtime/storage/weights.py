"""Weights files: the tensors of one model, under their plain names."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import CheckpointError
from .encoding import encode
from .files import atomic_write
from .tensorfile import load_tensors, tensor_chunks

_COMPILED = re.compile(r"(^|\.)_orig_mod\.")


def write_weights(
    path: Path, weights: nn.Module | Mapping[str, Any], metadata: Mapping[str, str] | None = None
) -> None:
    """Write weights as one safetensors file. The same weights make the same bytes.

    Names are those of the model as written, without the prefixes of DataParallel and `torch.compile`. Tied weights are
    stored once; the header maps their other names to the stored one, as safetensors' own `save_model` does.

    Raises:
        CheckpointError: A value is not a tensor that the format supports, or two have the same name.
        OSError: The disk is full or not writable; an existing file is unchanged.
    """
    state = weights.state_dict() if isinstance(weights, nn.Module) else weights
    try:
        tree, tensors = encode(dict(zip(plain_names(state), state.values(), strict=True)))
    except CheckpointError as error:
        raise CheckpointError(f"`{path}` cannot be written: {error}") from error
    header = {"format": "pt", **(metadata or {})}
    for name, reference in tree.items():
        if not isinstance(reference, dict) or reference.get("$") != "tensor":
            raise CheckpointError(f"`{path}` cannot be written: `{name}` is not a tensor")
        if reference["name"] != name:
            header[name] = reference["name"]
    atomic_write(path, tensor_chunks(tensors, header))


def read_weights(path: Path, module: nn.Module) -> dict[str, str]:
    """Load weights into `module` in place, whether or not it is wrapped.

    Returns:
        The file's metadata.

    Raises:
        CheckpointError: The file cannot be read, or names or shapes differ; lists all of them, and loads nothing.
    """
    if not path.exists():
        others = ", ".join(f"`{other.name}`" for other in sorted(path.parent.glob("*.safetensors")))
        raise CheckpointError(f"There is no `{path}`" + (f"; its folder has {others}" if others else ""))
    tensors, metadata = load_tensors(path)
    tensors |= {n: tensors[kept] for n, kept in metadata.items() if n not in tensors and kept in tensors}
    given = dict(zip(plain_names(tensors), tensors.values(), strict=True))
    state = module.state_dict()
    own = dict(zip(plain_names(state), state, strict=True))
    problems = [f"missing: `{name}`" for name in own if name not in given]
    problems += [f"unexpected: `{name}`" for name in given if name not in own]
    for name in own.keys() & given.keys():
        here, there = tuple(state[own[name]].shape), tuple(given[name].shape)
        if here != there:
            problems.append(f"shape: `{name}` is {there} in the file and {here} in the model")
    if problems:
        raise CheckpointError(f"`{path}` does not fit the model:\n" + "\n".join(f"  {p}" for p in sorted(problems)))
    module.load_state_dict({own[name]: tensor for name, tensor in given.items()})
    return metadata


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
