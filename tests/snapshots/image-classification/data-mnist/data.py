"""The images: MNIST, 70,000 handwritten digits of 28 by 28 pixels, downloaded by torchvision."""

from pathlib import Path
from typing import Any, NamedTuple

from paccel.runtime import DataError
import torch
from torch.utils.data import Dataset, TensorDataset, random_split
from torchvision.datasets import MNIST


class Splits(NamedTuple):
    """What to train on, what to choose the best weights by, and what to test them on at the end."""

    train: Dataset[Any]
    eval: Dataset[Any]
    test: Dataset[Any]
    channels: int
    num_classes: int


def labelled(images: torch.Tensor, labels: torch.Tensor, num_classes: int = 10) -> TensorDataset:
    """Images with their labels.

    Raises:
        DataError: A label is none of 0 to num_classes - 1, or all are the same.
    """
    wrong = ((labels < 0) | (labels >= num_classes)).nonzero().flatten()
    if len(wrong):
        first = int(wrong[0])
        raise DataError(
            f"{len(wrong)} labels are not from 0 to {num_classes - 1}: sample {first} has {int(labels[first])}"
        )
    if len(labels.unique()) < 2:
        raise DataError(f"All {len(labels)} samples have the same label: there is nothing to tell apart")
    return TensorDataset(images, labels)


def make_splits(data_dir: Path) -> Splits:
    """Images (1, 28, 28) float32 with pixels from -1 to 1, labels int64; 1 in 12 training images is for eval."""

    def load(train: bool) -> TensorDataset:
        mnist = MNIST(data_dir, train=train, download=True)
        return labelled(mnist.data.unsqueeze(1) / 127.5 - 1, mnist.targets)

    fixed = torch.Generator().manual_seed(0)  # the split does not follow the run's seed: scores stay comparable
    train, eval = random_split(load(train=True), [11 / 12, 1 / 12], fixed)
    return Splits(train, eval, load(train=False), channels=1, num_classes=10)
