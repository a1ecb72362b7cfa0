"""The images: scikit-learn's handwritten digits, 1,797 of 8 by 8 pixels, shipped with the package."""

from typing import Any, NamedTuple

from paccel.runtime import DataError
from sklearn.datasets import load_digits
import torch
from torch.nn import functional as F
from torch.utils.data import Dataset, TensorDataset


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


def with_shifts(images: torch.Tensor, labels: torch.Tensor) -> TensorDataset:
    """Every image and its shifts by one pixel to each side: five times as much to learn from, and nothing random."""
    padded = F.pad(images, (1, 1, 1, 1), value=-1.0)
    corners = [(1, 1), (0, 1), (2, 1), (1, 0), (1, 2)]
    shifted = [padded[:, :, top : top + 8, left : left + 8] for top, left in corners]
    return labelled(torch.cat(shifted), labels.repeat(len(corners)))


def make_splits() -> Splits:
    """Images (1, 8, 8) float32 with pixels from -1 to 1, labels int64: 1,197 for train, 300 each for eval and test."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 8 - 1  # pixels are 0 to 16
    labels = torch.tensor(digits.target)
    fixed = torch.Generator().manual_seed(0)  # the split does not follow the run's seed: scores stay comparable
    train, eval, test = torch.randperm(len(labels), generator=fixed).split([1197, 300, 300])
    return Splits(
        with_shifts(images[train], labels[train]),
        labelled(images[eval], labels[eval]),
        labelled(images[test], labels[test]),
        channels=1,
        num_classes=10,
    )
