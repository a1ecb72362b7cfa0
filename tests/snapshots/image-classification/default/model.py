"""The model. Shapes: B images, C channels, H height, W width."""

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:  # train.py imports this file
    from data import Splits
    from train import Config


def stage(channels: int, width: int) -> nn.Sequential:
    """Two convolutions and a max pooling: (B, channels, H, W) -> (B, width, H/2, W/2)."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1, bias=False),
        nn.GroupNorm(8, width),  # unlike BatchNorm, the same for any number of processes and micro-batches
        nn.SiLU(),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.GroupNorm(8, width),
        nn.SiLU(),
        nn.MaxPool2d(2),
    )


class ConvNet(nn.Module):
    """Three convolutional stages, global average pooling and a linear layer."""

    def __init__(self, channels: int, num_classes: int, width: int) -> None:
        super().__init__()
        self.stages = nn.Sequential(stage(channels, width), stage(width, 2 * width), stage(2 * width, 4 * width))
        self.head = nn.Linear(4 * width, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images (B, C, H, W) to logits (B, num_classes); H and W are at least 8."""
        features = self.stages(images)
        return self.head(features.mean(dim=(2, 3)))


def make_model(config: "Config", splits: "Splits") -> nn.Module:
    return ConvNet(splits.channels, splits.num_classes, config.width)
