# % if cookiecutter.data == "digits"
"""The images: scikit-learn's handwritten digits, 1,797 of 8 by 8 pixels, shipped with the package."""
# % elif cookiecutter.data == "mnist"
"""The images: MNIST, 70,000 handwritten digits of 28 by 28 pixels, downloaded by torchvision."""
# % else
"""The images: a folder of your own, with one folder of images for each class in `train/` and in `test/`."""
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
    """What to train on, what to choose the best weights by, and what to test them on: images and their labels."""

    train: TensorDataset
    eval: TensorDataset
    test: TensorDataset
    channels: int
    image_size: int  # height and width, a multiple of 4
    num_classes: int


class WithNoise(Dataset[tuple[torch.Tensor, ...]]):
    """Each real image with the noise that its step needs: a latent for the generator, and a small disturbance.

    Drawn here and not in the loop, noise is a function of the seed, the epoch and the sample, whichever process
    fetches it: the result is the same on any number of them.
    """

    def __init__(self, real: TensorDataset, latent_size: int) -> None:
        self.real, self.latent_size = real, latent_size

    def __len__(self) -> int:
        return len(self.real)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        """An image (C, S, S), its label (), a latent (Z,) and a disturbance (C, S, S)."""
        image, label = self.real[index]
        return image, label, torch.randn(self.latent_size), torch.randn_like(image)


def make_latents(size: int, latent_size: int, num_classes: int) -> TensorDataset:
    """Latents (size, Z) and labels (size,), each class in turn: the same ones for each evaluation of each run."""
    fixed = torch.Generator().manual_seed(0)
    return TensorDataset(torch.randn(size, latent_size, generator=fixed), torch.arange(size) % num_classes)


# % if cookiecutter.data == "digits"
def make_splits() -> Splits:
    """Images (1, 8, 8) float32 with pixels from -1 to 1, labels int64: 1,197 for train, 300 each for eval and test."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 8 - 1  # pixels are 0 to 16
    labels = torch.tensor(digits.target)
    fixed = torch.Generator().manual_seed(0)  # the split does not follow the run's seed: scores stay comparable
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
    """Images (1, 28, 28) float32 with pixels from -1 to 1, labels int64; 1 in 12 training images is for eval."""

    def load(train: bool) -> tuple[torch.Tensor, torch.Tensor]:
        mnist = MNIST(data_dir, train=train, download=True)
        return mnist.data.unsqueeze(1) / 127.5 - 1, mnist.targets

    images, labels = load(train=True)
    fixed = torch.Generator().manual_seed(0)  # the split does not follow the run's seed: scores stay comparable
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
    """All images of a folder, (N, 3, image_size, image_size), their labels (N,), and the names of the classes.

    Raises:
        DataError: There are no images of at least two classes, or a file is no image; names it.
    """
    size = [transforms.Resize(image_size), transforms.CenterCrop(image_size), transforms.ToTensor()]
    transform = transforms.Compose([*size, transforms.Normalize([0.5] * 3, [0.5] * 3)])
    try:
        files = ImageFolder(folder, transform)
    except FileNotFoundError as error:
        raise DataError(f"No folder of images for each class in `{folder}`: {error}") from None
    if len(files.classes) < 2:
        raise DataError(f"`{folder}` has one class, {files.classes}: the judge needs two, a folder for each")
    images = []
    for path, _ in files.samples:
        try:
            images.append(transform(files.loader(path)))
        except (OSError, SyntaxError, ValueError) as error:
            raise DataError(f"`{path}` cannot be read as an image ({error}): mend it or take it away") from None
    return torch.stack(images), torch.tensor(files.targets), files.classes


def make_splits(data_dir: Path, image_size: int) -> Splits:
    """Images (3, image_size, image_size) float32 with pixels from -1 to 1, labels int64.

    Reads `data_dir/train/<class>/*` and `data_dir/test/<class>/*`, all into memory; 1 in 10 of train is for eval.
    """
    if image_size < 8 or image_size % 4:
        raise ConfigError(f"`image_size` must be a multiple of 4, and at least 8: {image_size}")
    images, labels, classes = load_folder(data_dir / "train", image_size)
    test_images, test_labels, test_classes = load_folder(data_dir / "test", image_size)
    if classes != test_classes:
        raise DataError(f"`{data_dir}` has other classes in train, {classes}, than in test, {test_classes}")
    if len(labels) < 4 or len(test_labels) < 2:
        raise DataError(
            f"`{data_dir}` has {len(labels)} images in train and {len(test_labels)} in test: four and two are the least"
        )
    fixed = torch.Generator().manual_seed(0)  # the split does not follow the run's seed: scores stay comparable
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
