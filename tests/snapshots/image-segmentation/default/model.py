"""The model. Shapes: B images, H height, W width."""

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:  # train.py imports this file
    from data import Splits
    from train import Config


def convolution(channels: int, width: int, stride: int = 1) -> nn.Sequential:
    """(B, channels, H, W) -> (B, width, H / stride, W / stride)."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False),
        nn.GroupNorm(8, width),  # unlike BatchNorm, the same for any number of processes and micro-batches
        nn.SiLU(),
    )


class Down(nn.Sequential):
    """Downsample: (B, channels, H, W) -> (B, width, H/2, W/2)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(convolution(channels, width, stride=2), convolution(width, width))


class Up(nn.Module):
    """Upsample and merge with the skip connection."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.enlarge = nn.ConvTranspose2d(channels, width, 2, stride=2)
        self.mix = convolution(2 * width, width)

    def forward(self, far: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
        """Map features (B, channels, H, W) and skip (B, width, 2H, 2W) to (B, width, 2H, 2W)."""
        return self.mix(torch.cat([self.enlarge(far), near], dim=1))


class SmallUNet(nn.Module):
    """A U-Net with three downsampling and three upsampling stages.

    Source: Ronneberger, Fischer, Brox 2015, "U-Net". Smaller here: only the logits have full resolution.
    """

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        self.down1, self.down2, self.down3 = Down(3, width), Down(width, 2 * width), Down(2 * width, 4 * width)
        self.up2, self.up1 = Up(4 * width, 2 * width), Up(2 * width, width)
        self.head = nn.ConvTranspose2d(width, num_classes, 2, stride=2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images (B, 3, H, W), pixels in [0, 1], to logits (B, num_classes, H, W); H and W are multiples of 8."""
        half = self.down1(2 * images - 1)
        quarter = self.down2(half)
        eighth = self.down3(quarter)
        return self.head(self.up1(self.up2(eighth, quarter), half))


def make_model(config: "Config", splits: "Splits") -> nn.Module:
    """Build the model; `config.width` is a multiple of 8."""
    return SmallUNet(len(splits.classes), config.width)
