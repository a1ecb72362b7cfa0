"""The data: scenes composed of scikit-learn's handwritten digits, with masks; see `scenes.py`."""

from typing import Any, NamedTuple

import torch
from torch.utils.data import Dataset, TensorDataset

from scenes import make_scene, split_digits

IGNORE = 255  # mask value of unlabelled pixels, which count neither in the loss nor in the scores
SIZES = {"train": 1500, "eval": 200, "test": 200}  # scenes in each split


class Splits(NamedTuple):
    """The data: `train` to train on, `eval` to choose the best weights, `test` for the final scores."""

    train: Dataset[Any]
    eval: Dataset[Any]
    test: Dataset[Any]
    classes: list[str]  # by class index


def make_splits() -> Splits:
    """Images (3, 64, 64) float32 with pixels in [0, 1], masks (64, 64) int64: 0 is background, 1 is digit 0, …"""
    digits = split_digits()

    def compose(name: str, first_seed: int) -> TensorDataset:
        scenes = [make_scene(*digits[name], seed=first_seed + index) for index in range(SIZES[name])]
        return TensorDataset(torch.stack([s.image for s in scenes]), torch.stack([s.mask for s in scenes]))

    train, eval, test = (compose(name, number * 1_000_000) for number, name in enumerate(SIZES))
    return Splits(train, eval, test, classes=["background", *map(str, range(10))])
