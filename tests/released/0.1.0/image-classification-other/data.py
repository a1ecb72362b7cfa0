"""The images: a folder of your own, with one folder of images for each class in `train/` and in `test/`."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.data import Dataset, Subset
from torchvision import transforms
from torchvision.datasets import ImageFolder


class Splits(NamedTuple):
    """What to train on, what to choose the best weights by, and what to test them on at the end."""

    train: Dataset[Any]
    eval: Dataset[Any]
    test: Dataset[Any]
    channels: int
    num_classes: int


def make_splits(data_dir: Path, image_size: int) -> Splits:
    """Images (3, image_size, image_size) float32 with pixels from -1 to 1, labels int64.

    Reads `data_dir/train/<class>/*` and `data_dir/test/<class>/*`; 1 in 10 training images is for eval.
    """
    to_tensor = [transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)]
    augmented = transforms.Compose(
        [transforms.RandomResizedCrop(image_size, scale=(0.6, 1.0)), transforms.RandomHorizontalFlip(), *to_tensor]
    )
    plain = transforms.Compose([transforms.Resize(image_size), transforms.CenterCrop(image_size), *to_tensor])

    train, unaugmented, test = (
        ImageFolder(data_dir / "train", augmented),
        ImageFolder(data_dir / "train", plain),
        ImageFolder(data_dir / "test", plain),
    )
    if train.classes != test.classes:
        raise ValueError(f"`{data_dir}` has other classes in train, {train.classes}, than in test, {test.classes}")
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0)).tolist()
    held_out = max(1, len(train) // 10)
    return Splits(
        Subset(train, order[held_out:]),
        Subset(unaugmented, order[:held_out]),
        test,
        channels=3,
        num_classes=len(train.classes),
    )
