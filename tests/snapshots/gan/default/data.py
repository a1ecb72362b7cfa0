"""The data: scikit-learn's 1,797 handwritten digits of 8 by 8 pixels, included in the package."""

from typing import NamedTuple

from sklearn.datasets import load_digits
import torch
from torch.utils.data import Dataset, TensorDataset


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
