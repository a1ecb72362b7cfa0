"""The images: scikit-learn's handwritten digits, 1,797 of 8 by 8 pixels, shipped with the package."""

from typing import NamedTuple

from sklearn.datasets import load_digits
import torch
from torch.utils.data import Dataset, TensorDataset


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
