"""The order of an epoch's samples, computed as it is read, so that large datasets need no list of all indices.

Up to `LARGEST_LIST` samples, a shuffled order is `torch.randperm`, as in paccel 0.1: 8 MB, and every order is equally
likely. Beyond that, a keyed bijection maps each position to an index when it is read, so a billion samples take no memory
and no time at the start.
"""

import math
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from .randomness import at, key, permutation

ORDER_VERSION = 2  # 1, of paccel 0.1, is `torch.randperm` at any size
LARGEST_LIST = 1 << 20  # samples
_ROUNDS = 6  # with a good round function, 4 make a pseudorandom permutation (Luby and Rackoff 1988)
_BLOCK = 1 << 12  # positions computed at once: 60 ns each instead of 4 µs, and in a core's cache

Numbers = npt.NDArray[np.uint64]


class EpochOrder(Protocol):
    """The indices of an epoch's samples, in order."""

    def __getitem__(self, positions: slice, /) -> torch.Tensor:
        """The indices at positions `start` to `stop`. Shape (positions,), int64."""


class Ascending:
    """The order of the dataset itself."""

    def __getitem__(self, positions: slice) -> torch.Tensor:
        return torch.arange(positions.start, positions.stop)


class Shuffled:
    """A permutation of `size` indices, a function of a key, of which only the part that is read is computed.

    A Feistel network on pairs (left, right), of which there are `lefts * rights`, a few more than `size`. Each round adds
    a hash of one half to the other, which is reversible, so different positions get different values. A value beyond
    `size` is mapped again until it is an index ("cycle walking", needed for one position in `sqrt(size)`).

    Source: Black and Rogaway 2002, "Ciphers with arbitrary finite domains", sections 4 and 5; the hash is the output
    function of SplitMix64 (Steele, Lea, Flood 2014).

    Args:
        order_key: 64 bits.
        size: Number of indices, at least 1.
    """

    def __init__(self, order_key: int, size: int) -> None:
        self.size = size
        self._rights = math.isqrt(size - 1) + 1
        self._lefts = -(-size // self._rights)
        self._keys = [np.uint64(at(order_key, number)) for number in range(_ROUNDS)]
        self._block = 0, torch.empty(0, dtype=torch.int64)  # the last computed one: its first position, its indices

    def __getitem__(self, positions: slice) -> torch.Tensor:
        start, stop = positions.start, min(positions.stop, self.size)
        first, known = self._block
        if not first <= start <= stop <= first + len(known):
            end = max(stop, min(start + _BLOCK, self.size))
            blocks = [self.indices(np.arange(a, min(a + _BLOCK, end))) for a in range(start, end, _BLOCK)]
            first, known = start, torch.from_numpy(np.concatenate([np.empty(0, np.int64), *blocks]))
            self._block = first, known
        return known[start - first : stop - first]

    def indices(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The indices at any positions in [0, size), in the same shape, int64."""
        found = self._permuted(positions.astype(np.uint64))
        while (beyond := found >= self.size).any():
            found[beyond] = self._permuted(found[beyond])
        return found.astype(np.int64)

    def _permuted(self, values: Numbers) -> Numbers:
        lefts, rights = np.uint64(self._lefts), np.uint64(self._rights)
        left, right = np.divmod(values, rights)
        for number, round_key in enumerate(self._keys):
            if number % 2:
                right = (right + _hash(left, round_key)) % rights
            else:
                left = (left + _hash(right, round_key)) % lefts
        return left * rights + right


def newest_order() -> int:
    return ORDER_VERSION


def _hash(values: Numbers, round_key: np.uint64) -> Numbers:
    """32 random bits for each value."""
    z = values * np.uint64(0x9E3779B97F4A7C15) + round_key
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z ^ (z >> np.uint64(31))) >> np.uint64(32)


def shuffled(seed: int, epoch: int, size: int, version: int = ORDER_VERSION) -> EpochOrder:
    """The order of `size` samples in an epoch, counted from 1: a function of the seed and the epoch.

    Args:
        seed: Seed of the run.
        epoch: Counted from 1.
        size: Samples of the dataset.
        version: `ORDER_VERSION`, or that of the run that is resumed.
    """
    if version == 1 or size <= LARGEST_LIST:
        return permutation(seed, epoch, size)
    return Shuffled(key(seed, "order", epoch), size)
