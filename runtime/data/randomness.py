"""Randomness as a function of where the run stands, so that no generator state has to be saved.

Order is a function of (seed, epoch), a sample's augmentation of (seed, epoch, index), a step's randomness of (seed,
step, micro-batch, rank), an evaluation's of (seed, step, batch, rank). Skipping to a step therefore costs the same for
step 10 and step 10 million.
"""

import random
from collections.abc import Callable
from hashlib import blake2b

import numpy as np
import torch

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def key(seed: int, name: str, *where: int) -> int:
    """A 64-bit key for the random numbers of a run that are used for `name`, the same on every machine."""
    text = ":".join([str(seed), name, *map(str, where)])
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def at(key: int, position: int) -> int:
    """The 64-bit seed at `position` under a key.

    Source: the output function of SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number
    generators", figure 17).
    """
    z = (key + position * _GOLDEN) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def seed_host(seed: int) -> None:
    """Seed the global generators of `random`, NumPy and PyTorch's CPU; no device is touched.

    `torch.manual_seed` also queues lazy calls for every kind of device, which takes 160 µs more.
    """
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)


def seeder(device: torch.device) -> Callable[[int], None]:
    """A function that seeds the host's global generators and the device's."""
    if device.type == "cpu":
        return seed_host
    if device.type == "cuda":
        seed_device = torch.cuda.default_generators[device.index or 0].manual_seed
    else:
        seed_device = getattr(torch, device.type).manual_seed

    def seed_everything(seed: int) -> None:
        seed_host(seed)
        seed_device(seed)

    return seed_everything


def permutation(seed: int, epoch: int, size: int) -> torch.Tensor:
    """The order of `size` samples in an epoch, counted from 1. Shape (size,), int64."""
    generator = torch.Generator().manual_seed(key(seed, "order", epoch))
    return torch.randperm(size, generator=generator)


class Canary:
    """Tells whether anything drew from the host's global generators since the last `set`.

    The generators are put into one known state, whose first outputs are known too. It costs one seeding per batch
    instead of one per sample, so data that draws nothing at random is not taxed.
    """

    def __init__(self) -> None:
        seed_host(0)
        self._torch, self._start = torch.default_generator.get_state(), random.getstate()
        self._python, self._numpy = random.getrandbits(64), np.random.random_sample()

    def set(self) -> None:
        torch.default_generator.set_state(self._torch)
        random.setstate(self._start)  # like PyTorch's, in less time than seeding takes
        np.random.seed(0)

    def is_untouched(self) -> bool:
        return (
            random.getrandbits(64) == self._python
            and np.random.random_sample() == self._numpy
            and torch.equal(torch.default_generator.get_state(), self._torch)
        )
