# % if cookiecutter.data == "digits"
"""The data: scikit-learn's 1,797 handwritten digits of 8 by 8 pixels, included in the package."""
# % elif cookiecutter.data == "mnist"
"""The data: MNIST, 70,000 handwritten digits of 28 by 28 pixels, downloaded by torchvision."""
# % elif cookiecutter.data == "cifar10"
"""The data: CIFAR-10, 60,000 photographs of 32 by 32 pixels in ten classes, downloaded by torchvision."""
# % else
"""The data: your own images, in one folder per class below `train/` and `test/`."""
# % endif

# % if cookiecutter.data == "folder"
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
# % endif
# % if cookiecutter.data != "digits"
from pathlib import Path
# % endif
from typing import Any, NamedTuple

from paccel.runtime import DataError
# % if cookiecutter.data == "folder"
from PIL import Image
# % endif
# % if cookiecutter.data == "digits"
from sklearn.datasets import load_digits
# % endif
import torch
# % if cookiecutter.data == "digits"
from torch.nn import functional as F
from torch.utils.data import Dataset, TensorDataset
# % elif cookiecutter.data == "mnist"
from torch.utils.data import Dataset, TensorDataset, random_split
from torchvision.datasets import MNIST
# % elif cookiecutter.data == "cifar10"
from torch.utils.data import Dataset, Subset, TensorDataset
from torchvision.datasets import CIFAR10
from torchvision.transforms import v2
# % else
from torch.utils.data import Dataset, Subset
from torchvision import transforms
from torchvision.datasets import ImageFolder
# % endif


# % if cookiecutter.data == "folder"
SPLITS = ("train", "test")  # subfolders of `data_dir`


# % endif
class Splits(NamedTuple):
    """The data: `train` to train on, `eval` to choose the best weights, `test` for the final scores."""

    train: Dataset[Any]
    eval: Dataset[Any]
    test: Dataset[Any]
    channels: int
    num_classes: int


# % if cookiecutter.data != "folder"
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


# % endif
# % if cookiecutter.data == "digits"
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
# % elif cookiecutter.data == "mnist"
def make_splits(data_dir: Path) -> Splits:
    """Images (1, 28, 28) float32 with pixels in [-1, 1], labels int64; 1 in 12 training images is for eval."""

    def load(train: bool) -> TensorDataset:
        mnist = MNIST(data_dir, train=train, download=True)
        return labelled(mnist.data.unsqueeze(1) / 127.5 - 1, mnist.targets)

    fixed = torch.Generator().manual_seed(0)  # not the run's seed, so the split stays the same
    train, eval = random_split(load(train=True), [11 / 12, 1 / 12], fixed)
    return Splits(train, eval, load(train=False), channels=1, num_classes=10)
# % elif cookiecutter.data == "cifar10"
class Augmented(Dataset[Any]):
    """A dataset with random crops, padded by 4 pixels, and random horizontal flips."""

    def __init__(self, dataset: Dataset[Any], size: int) -> None:
        self.dataset, self.size = dataset, size
        self.augment = v2.Compose([v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip()])

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image, label = self.dataset[index]
        return self.augment(image), label


def make_splits(data_dir: Path) -> Splits:
    """Images (3, 32, 32) float32 with pixels in [-1, 1], labels int64; 1 in 12 training images is for eval."""

    def load(train: bool) -> TensorDataset:
        cifar = CIFAR10(data_dir, train=train, download=True)
        images = torch.from_numpy(cifar.data).permute(0, 3, 1, 2).contiguous() / 127.5 - 1
        return labelled(images, torch.tensor(cifar.targets))

    known = load(train=True)
    # A fixed seed, not the run's, keeps the split the same and scores comparable.
    order = torch.randperm(len(known), generator=torch.Generator().manual_seed(0)).tolist()
    held_out = len(known) // 12
    train = Augmented(Subset(known, order[held_out:]), len(known) - held_out)
    return Splits(train, Subset(known, order[:held_out]), load(train=False), channels=3, num_classes=10)
# % else
# % include "images/folder.py"


def make_splits(data_dir: Path, image_size: int) -> Splits:
    """Images (3, image_size, image_size) float32 with pixels in [-1, 1], labels int64.

    Reads `data_dir/train/<class>/*` and `data_dir/test/<class>/*`. 1 in 10 training images of each class, at least one,
    is for eval.
    """
    to_tensor = [transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)]
    augmented = transforms.Compose(
        [transforms.RandomResizedCrop(image_size, scale=(0.6, 1.0)), transforms.RandomHorizontalFlip(), *to_tensor]
    )
    plain = transforms.Compose([transforms.Resize(image_size), transforms.CenterCrop(image_size), *to_tensor])

    train, unaugmented, test = (
        read_folder(data_dir / "train", augmented),
        read_folder(data_dir / "train", plain),
        read_folder(data_dir / "test", plain),
    )
    if train.classes != test.classes:
        raise DataError(f"`{data_dir}` has different classes in train, {train.classes}, and test, {test.classes}")
    kept, held_out = hold_out(train)
    return Splits(
        Subset(train, kept),
        Subset(unaugmented, held_out),
        test,
        channels=3,
        num_classes=len(train.classes),
    )
# % endif
