"""The data: scenes composed of scikit-learn's handwritten digits, with boxes; see `scenes.py`."""

from typing import Any, NamedTuple

import torch
from torch.utils.data import Dataset

from scenes import make_scene, split_digits

SIZES = {"train": 1500, "eval": 200, "test": 200}  # scenes in each split

Target = dict[str, torch.Tensor]  # boxes (objects, 4) float32: left, top, right, bottom in pixels; labels (objects,)
Batch = tuple[list[torch.Tensor], list[Target]]


class Splits(NamedTuple):
    """The data: `train` to train on, `eval` to choose the best weights, `test` for the final scores."""

    train: Dataset[Any]
    eval: Dataset[Any]
    test: Dataset[Any]
    classes: list[str]  # for labels 1, 2, …; 0 is the background


def collate(samples: list[tuple[torch.Tensor, Target]]) -> Batch:
    """Batch as lists, not tensors: images differ in size and in the number of objects."""
    return [image for image, _ in samples], [target for _, target in samples]


class Scenes(Dataset[tuple[torch.Tensor, Target]]):
    """Composed scenes, the same each time."""

    def __init__(self, digits: tuple[torch.Tensor, torch.Tensor], first_seed: int, size: int) -> None:
        self.scenes = [make_scene(*digits, seed=first_seed + index) for index in range(size)]

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, Target]:
        scene = self.scenes[index]
        return scene.image, {"boxes": scene.boxes, "labels": scene.digits + 1}


def make_splits() -> Splits:
    """Images (3, 64, 64) float32 with pixels in [0, 1], each with the boxes and labels of its digits."""
    digits = split_digits()
    train, eval, test = (
        Scenes(digits[name], number * 1_000_000, size) for number, (name, size) in enumerate(SIZES.items())
    )
    return Splits(train, eval, test, classes=[str(digit) for digit in range(10)])
