"""Datasets and loaders of them, without a run."""

import json
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from paccel.runtime.data.indexed import IndexedLoader
from paccel.runtime.data.order import Cut


def number_of(sample: Mapping[str, Any]) -> int:
    """Decode a sample of a shard. It is here so that spawned workers can import it."""
    return int(json.loads(sample["json"])["n"] if "json" in sample else sample["n"])


class Squares(Dataset):
    """Index and square, without randomness."""

    def __init__(self, size: int = 43) -> None:
        self.size, self.fetched = size, 0

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[int, int]:
        self.fetched += 1
        return index, index * index


class Augmented(Squares):
    """Each sample draws from every global generator."""

    def __getitem__(self, index: int) -> tuple[int, float, float, float]:
        return index, torch.rand(()).item(), np.random.rand(), random.random()


def make(dataset: Dataset, batch_size: int = 8, **options: object) -> IndexedLoader:
    defaults = {
        "shuffle": True,
        "drop_last": False,
        "num_workers": 0,
        "collate_fn": None,
        "limit": None,
        "seed": 7,
        "rank": 0,
        "num_processes": 1,
        "device": torch.device("cpu"),
    }
    return IndexedLoader(dataset, Cut(batch_size, **(defaults | options)))


def indices_of_steps(loaders: list[IndexedLoader], epoch: int, accumulate: int, first_step: int = 0) -> list[list[int]]:
    """The samples that count in each step, over all processes, in the order of their distribution."""
    sources = [loader.training_parts(epoch, first_step, accumulate) for loader in loaders]
    steps = []
    for _ in range(first_step, loaders[0].steps_per_epoch):
        step = []
        for _ in range(accumulate):
            for source in sources:
                part = next(source)
                step += part.indices[: part.counted].tolist()
        steps.append(step)
    return steps


def batches(loader: IndexedLoader, epoch: int = 1) -> Iterator[list]:
    for batch, count in loader.training_batches(epoch, 0, 1):
        yield [*(field.tolist() for field in batch), count]
