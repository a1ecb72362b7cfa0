"""Streams of Hugging Face `datasets` and of torchdata: what their state holds, and how they are split."""

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch.utils.data import RandomSampler

_INNER = ("root", "source", "sampler", "dataset", "_ex_iterable", "ex_iterable")  # attributes with parts of a stream
_MAX_SEED = 2**64  # a seed that somebody chose is smaller; NumPy draws 128 bits otherwise


def has_whole_state(stream: Any) -> bool:
    """Whether `state_dict` suffices to continue with the very next sample.

    The shuffle buffer of `datasets` is not saved, so its samples would be lost. torchdata's loader saves a count along a
    sampler that draws another order. Read from the start, both have the same order again.
    """
    return hasattr(stream, "state_dict") and _left_out(stream) is None


def is_unseeded(stream: Any) -> bool:
    """Whether `datasets` shuffles with entropy of the system: in another order on each process and at each start."""
    generators = (getattr(part, "generator", None) for part in _parts(stream))
    return any(isinstance(g, np.random.Generator) and _entropy(g) >= _MAX_SEED for g in generators)


def num_shards(stream: Any) -> int:
    """How many parts `datasets` can split a stream into; 1 for other streams."""
    is_theirs = type(stream).__module__.startswith("datasets.")
    return int(getattr(stream, "num_shards", 1)) if is_theirs else 1


def is_split_by_node(stream: Any) -> bool:
    """Whether `split_dataset_by_node` of `datasets` was called on a stream."""
    return type(stream).__module__.startswith("datasets.") and bool(vars(stream).get("_distributed"))


def of_process(stream: Any, rank: int, num_processes: int) -> Any:
    """The shards of a stream of `datasets` for one process; its workers split them among themselves."""
    return import_module("datasets.distributed").split_dataset_by_node(stream, rank=rank, world_size=num_processes)


def notice(stream: Any) -> str | None:
    """What is inexact or slow when a run is resumed on this stream; None if nothing is."""
    name = f"`{type(stream).__name__}`"
    if is_unseeded(stream):
        return f"{name} is shuffled without a seed: a resumed run reads it in another order; pass a `seed` to `shuffle`"
    if any(isinstance(getattr(part, "generator", None), torch.Generator) for part in _parts(stream)):
        return (
            f"{name} draws its order from its own generator, which is not saved: a resumed run continues in another "
            "order; a `RandomSampler` without a generator draws it from the run's seed and the epoch"
        )
    if not hasattr(stream, "state_dict"):
        return (
            f"{name} has no `state_dict`: a resumed run reads it again up to its position, which takes as long as the "
            "first time, and is exact only if the stream yields the same samples in the same order"
        )
    if left_out := _left_out(stream):
        return (
            f"{name} has {left_out}, which its `state_dict` leaves out: a resumed run reads it again up to its position, "
            "which is exact and takes as long as the first time"
        )
    return None


def _parts(stream: Any) -> Iterator[Any]:
    """A stream and all its parts."""
    yield stream
    inner = [getattr(stream, name, None) for name in _INNER] + list(getattr(stream, "ex_iterables", ()))
    for part in inner:
        if part is not None and part is not stream:
            yield from _parts(part)


def _left_out(stream: Any) -> str | None:
    """The part of a stream that its `state_dict` does not restore, if there is one."""
    for part in _parts(stream):
        module = type(part).__module__
        if module.startswith("datasets.") and hasattr(part, "buffer_size"):
            return "a shuffle buffer"
        sampler = getattr(part, "sampler", None)
        if module.startswith("torchdata.stateful_dataloader") and isinstance(sampler, RandomSampler):
            return "a sampler that draws its order"
    return None


def _entropy(generator: np.random.Generator) -> int:
    seed = getattr(generator.bit_generator, "seed_seq", None)
    entropy = getattr(seed, "entropy", 0)
    return entropy if isinstance(entropy, int) else 0
