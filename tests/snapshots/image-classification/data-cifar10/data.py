"""The images: CIFAR-10, 60,000 photographs of 32 by 32 pixels in ten classes, downloaded by torchvision."""

from pathlib import Path
from typing import Any, NamedTuple

from paccel.runtime import DataError
import torch
from torch.utils.data import Dataset, Subset, TensorDataset
from torchvision.datasets import CIFAR10
from torchvision.transforms import v2


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


class Augmented(Dataset[Any]):
    """A dataset's images moved by up to 4 pixels and mirrored, at random."""

    def __init__(self, dataset: Dataset[Any], size: int) -> None:
        self.dataset, self.size = dataset, size
        self.augment = v2.Compose([v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip()])

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image, label = self.dataset[index]
        return self.augment(image), label


def make_splits(data_dir: Path) -> Splits:
    """Images (3, 32, 32) float32 with pixels from -1 to 1, labels int64; 1 in 12 training images is for eval."""

    def load(train: bool) -> TensorDataset:
        cifar = CIFAR10(data_dir, train=train, download=True)
        images = torch.from_numpy(cifar.data).permute(0, 3, 1, 2).contiguous() / 127.5 - 1
        return labelled(images, torch.tensor(cifar.targets))

    known = load(train=True)
    # The split does not follow the run's seed: scores stay comparable.
    order = torch.randperm(len(known), generator=torch.Generator().manual_seed(0)).tolist()
    held_out = len(known) // 12
    train = Augmented(Subset(known, order[held_out:]), len(known) - held_out)
    return Splits(train, Subset(known, order[:held_out]), load(train=False), channels=3, num_classes=10)
