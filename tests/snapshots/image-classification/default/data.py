"""The data: scikit-learn's 1,797 handwritten digits of 8 by 8 pixels, included in the package."""

from typing import Any, NamedTuple

from paccel.runtime import DataError
from sklearn.datasets import load_digits
import torch
from torch.nn import functional as F
from torch.utils.data import Dataset, TensorDataset


class Splits(NamedTuple):
    """The data: `train` to train on, `eval` to choose the best weights, `test` for the final scores."""

    train: Dataset[Any]
    eval: Dataset[Any]
    test: Dataset[Any]
    channels: int
    num_classes: int


def labelled(images: torch.Tensor, labels: torch.Tensor, num_classes: int = 10) -> TensorDataset:
    """Make a dataset of images and labels, after checking the labels.

    Raises:
        DataError: A label is not in 0 to num_classes - 1, or all labels are the same.
    """
    wrong = ((labels < 0) | (labels >= num_classes)).nonzero().flatten()
    if len(wrong):
        first = int(wrong[0])
        raise DataError(
            f"{len(wrong)} labels are not in 0 to {num_classes - 1}: sample {first} has {int(labels[first])}"
        )
    if len(labels.unique()) < 2:
        raise DataError(f"All {len(labels)} samples have the same label; at least two classes are needed")
    return TensorDataset(images, labels)


def with_shifts(images: torch.Tensor, labels: torch.Tensor) -> TensorDataset:
    """Augment with shifts by one pixel in each direction: five times as many images, without randomness."""
    padded = F.pad(images, (1, 1, 1, 1), value=-1.0)
    corners = [(1, 1), (0, 1), (2, 1), (1, 0), (1, 2)]
    shifted = [padded[:, :, top : top + 8, left : left + 8] for top, left in corners]
    return labelled(torch.cat(shifted), labels.repeat(len(corners)))


def make_splits() -> Splits:
    """Images (1, 8, 8) float32 with pixels in [-1, 1], labels int64: 1,197 for train, 300 each for eval and test."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 8 - 1  # raw pixels are in 0 to 16
    labels = torch.tensor(digits.target)
    fixed = torch.Generator().manual_seed(0)  # not the run's seed, so the split stays the same
    train, eval, test = torch.randperm(len(labels), generator=fixed).split([1197, 300, 300])
    return Splits(
        with_shifts(images[train], labels[train]),
        labelled(images[eval], labels[eval]),
        labelled(images[test], labels[test]),
        channels=1,
        num_classes=10,
    )
