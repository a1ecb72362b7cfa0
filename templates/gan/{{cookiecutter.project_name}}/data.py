# % if cookiecutter.data == "digits"
"""The data: scikit-learn's 1,797 handwritten digits of 8 by 8 pixels, included in the package."""
# % elif cookiecutter.data == "mnist"
"""The data: MNIST, 70,000 handwritten digits of 28 by 28 pixels, downloaded by torchvision."""
# % else
"""The data: your own images, in one folder per class below `train/` and `test/`."""
# % endif

# % if cookiecutter.data != "digits"
from pathlib import Path
# % endif
from typing import NamedTuple

# % if cookiecutter.data == "folder"
from paccel.runtime import ConfigError, DataError
# % elif cookiecutter.data == "digits"
from sklearn.datasets import load_digits
# % endif
import torch
from torch.utils.data import Dataset, TensorDataset
# % if cookiecutter.data == "mnist"
from torchvision.datasets import MNIST
# % elif cookiecutter.data == "folder"
from torchvision import transforms
from torchvision.datasets import ImageFolder
# % endif


class Splits(NamedTuple):
    """Images and labels: `train` to train on, `eval` to choose the best weights, `test` for the final scores."""

    train: TensorDataset
    eval: TensorDataset
    test: TensorDataset
    channels: int
    image_size: int  # height and width, a multiple of 4
    num_classes: int


class WithNoise(Dataset[tuple[torch.Tensor, ...]]):
    """Real images with the noise of a training step: a latent for the generator, and a small disturbance.

    Drawn here and not in the loop, the noise is a function of seed, epoch and sample, so the result is the same on any
    number of processes.
    """

    def __init__(self, real: TensorDataset, latent_size: int) -> None:
        self.real, self.latent_size = real, latent_size

    def __len__(self) -> int:
        return len(self.real)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        """Return an image (C, S, S), its label (), a latent (Z,) and a disturbance (C, S, S)."""
        image, label = self.real[index]
        return image, label, torch.randn(self.latent_size), torch.randn_like(image)


def make_latents(size: int, latent_size: int, num_classes: int) -> TensorDataset:
    """Make latents (size, Z) and labels (size,), cycling through the classes; the same for every evaluation."""
    fixed = torch.Generator().manual_seed(0)
    return TensorDataset(torch.randn(size, latent_size, generator=fixed), torch.arange(size) % num_classes)


# % if cookiecutter.data == "digits"
def make_splits() -> Splits:
    """Images (1, 8, 8) float32 with pixels in [-1, 1], labels int64: 1,197 for train, 300 each for eval and test."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 8 - 1  # raw pixels are in 0 to 16
    labels = torch.tensor(digits.target)
    fixed = torch.Generator().manual_seed(0)  # not the run's seed, so the split stays the same
    train, eval, test = torch.randperm(len(labels), generator=fixed).split([1197, 300, 300])
    return Splits(
        TensorDataset(images[train], labels[train]),
        TensorDataset(images[eval], labels[eval]),
        TensorDataset(images[test], labels[test]),
        channels=1,
        image_size=8,
        num_classes=10,
    )
# % elif cookiecutter.data == "mnist"
def make_splits(data_dir: Path) -> Splits:
    """Images (1, 28, 28) float32 with pixels in [-1, 1], labels int64; 1 in 12 training images is for eval."""

    def load(train: bool) -> tuple[torch.Tensor, torch.Tensor]:
        mnist = MNIST(data_dir, train=train, download=True)
        return mnist.data.unsqueeze(1) / 127.5 - 1, mnist.targets

    images, labels = load(train=True)
    fixed = torch.Generator().manual_seed(0)  # not the run's seed, so the split stays the same
    eval, train = torch.randperm(len(labels), generator=fixed).tensor_split([len(labels) // 12])
    return Splits(
        TensorDataset(images[train], labels[train]),
        TensorDataset(images[eval], labels[eval]),
        TensorDataset(*load(train=False)),
        channels=1,
        image_size=28,
        num_classes=10,
    )
# % else
def load_folder(folder: Path, image_size: int) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Load all images of a folder, (N, 3, image_size, image_size), their labels (N,), and the class names.

    Raises:
        DataError: The folder has fewer than two classes, or a file is not an image.
    """
    size = [transforms.Resize(image_size), transforms.CenterCrop(image_size), transforms.ToTensor()]
    transform = transforms.Compose([*size, transforms.Normalize([0.5] * 3, [0.5] * 3)])
    try:
        files = ImageFolder(folder, transform)
    except FileNotFoundError as error:
        raise DataError(f"`{folder}` needs one subfolder of images per class: {error}") from None
    if len(files.classes) < 2:
        raise DataError(f"`{folder}` has one class, {files.classes}, but the judge needs at least two")
    images = []
    for path, _ in files.samples:
        try:
            images.append(transform(files.loader(path)))
        except (OSError, SyntaxError, ValueError) as error:
            raise DataError(f"`{path}` cannot be read as an image ({error}): replace or remove it") from None
    return torch.stack(images), torch.tensor(files.targets), files.classes


def make_splits(data_dir: Path, image_size: int) -> Splits:
    """Images (3, image_size, image_size) float32 with pixels in [-1, 1], labels int64.

    Reads `data_dir/train/<class>/*` and `data_dir/test/<class>/*` into memory. 1 in 10 training images is for eval.
    """
    if image_size < 8 or image_size % 4:
        raise ConfigError(f"`image_size` must be a multiple of 4 and at least 8, not {image_size}")
    images, labels, classes = load_folder(data_dir / "train", image_size)
    test_images, test_labels, test_classes = load_folder(data_dir / "test", image_size)
    if classes != test_classes:
        raise DataError(f"`{data_dir}` has different classes in train, {classes}, and test, {test_classes}")
    if len(labels) < 4 or len(test_labels) < 2:
        raise DataError(
            f"`{data_dir}` has {len(labels)} images in train and {len(test_labels)} in test: it needs at least 4 and 2"
        )
    fixed = torch.Generator().manual_seed(0)  # not the run's seed, so the split stays the same
    eval, train = torch.randperm(len(labels), generator=fixed).tensor_split([max(2, len(labels) // 10)])
    return Splits(
        TensorDataset(images[train], labels[train]),
        TensorDataset(images[eval], labels[eval]),
        TensorDataset(test_images, test_labels),
        channels=3,
        image_size=image_size,
        num_classes=len(classes),
    )
# % endif
