"""The two models. Shapes: B images, C channels, S height and width, Z latent size."""

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:  # train.py imports this file
    from data import Splits
    from train import Config


class Generator(nn.Module):
    """Generate an image from a latent vector and a class: a linear layer, then two upsampling stages."""

    def __init__(self, latent_size: int, num_classes: int, channels: int, image_size: int, width: int) -> None:
        super().__init__()
        self.classes = nn.Embedding(num_classes, latent_size)
        self.start = nn.Linear(2 * latent_size, 4 * width * (image_size // 4) ** 2)
        self.grid = (4 * width, image_size // 4, image_size // 4)
        self.stages = nn.Sequential(
            nn.GroupNorm(8, 4 * width),  # unlike BatchNorm, the same for any number of processes and micro-batches
            nn.SiLU(),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(4 * width, 2 * width, 3, padding=1),
            nn.GroupNorm(8, 2 * width),
            nn.SiLU(),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(2 * width, width, 3, padding=1),
            nn.GroupNorm(8, width),
            nn.SiLU(),
            nn.Conv2d(width, channels, 3, padding=1),
            nn.Tanh(),
        )

    def forward(self, latents: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Map latents (B, Z) and labels (B,) to images (B, C, S, S) with pixels in [-1, 1]."""
        start = self.start(torch.cat([latents, self.classes(labels)], dim=1))
        return self.stages(start.unflatten(1, self.grid))


class Discriminator(nn.Module):
    """Rate how real an image looks for its class: convolutions, then a projection on the class.

    No norm layers, so the output depends on the pixel values alone. Source of the projection: Miyato and Koyama 2018,
    "cGANs with projection discriminator".
    """

    def __init__(self, num_classes: int, channels: int, image_size: int, width: int) -> None:
        super().__init__()
        self.stages = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(4 * width * (image_size // 4) ** 2, 4 * width),
            nn.LeakyReLU(0.2),
        )
        self.classes = nn.Embedding(num_classes, 4 * width)
        self.head = nn.Linear(4 * width, 1)

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Map images (B, C, S, S) and labels (B,) to logits (B,), positive for real."""
        features = self.stages(images)
        matches = (features * self.classes(labels)).mean(dim=1)
        return self.head(features).squeeze(1) + matches


def make_models(config: "Config", splits: "Splits") -> tuple[Generator, Discriminator]:
    sizes = splits.num_classes, splits.channels, splits.image_size, config.width
    return Generator(config.latent_size, *sizes), Discriminator(*sizes)
