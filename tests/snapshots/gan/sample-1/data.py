"""The images: MNIST, 70,000 handwritten digits of 28 by 28 pixels, downloaded by torchvision."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch.utils.data import Dataset, TensorDataset
from torchvision.datasets import MNIST


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
