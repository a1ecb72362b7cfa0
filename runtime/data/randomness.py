"""Random numbers as a function of the position in the run, so that no generator state has to be saved.

The order of samples is a function of (seed, epoch), augmentation of (seed, epoch, index), a training step's draws of
(seed, step, micro-batch, rank), an evaluation's of (seed, step, batch, rank). So resuming at step 10 million costs no more
than at step 10.
"""

import random
from collections.abc import Callable
from hashlib import blake2b

import numpy as np
import torch

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def key(seed: int, name: str, *where: int) -> int:
    """A 64-bit key for one use of random numbers in a run, the same on every machine."""
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

    `torch.manual_seed` takes 160 µs more: it also queues lazy calls for every type of device.
    """
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)


def seeder(device: torch.device) -> Callable[[int], None]:
    """A function that seeds the global generators of the host and of a device."""
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
    """Detects draws from the host's global generators since the last `set`.

    `set` puts the generators into a state whose next outputs are known. Checking costs one seeding per batch instead of
    one per sample, so data that draws nothing stays fast.
    """

    def __init__(self) -> None:
        seed_host(0)
        self._torch, self._start = torch.default_generator.get_state(), random.getstate()
        self._python, self._numpy = random.getrandbits(64), np.random.random_sample()

    def set(self) -> None:
        torch.default_generator.set_state(self._torch)  # faster than seeding
        random.setstate(self._start)
        np.random.seed(0)

    def is_untouched(self) -> bool:
        return (
            random.getrandbits(64) == self._python
            and np.random.random_sample() == self._numpy
            and torch.equal(torch.default_generator.get_state(), self._torch)
        )
