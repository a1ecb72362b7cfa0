# % if cookiecutter.model == "torchvision"
"""The model, from torchvision. Shapes: B images, H height, W width."""

from typing import TYPE_CHECKING

from paccel.runtime import ConfigError
import torch
from torch import nn
from torchvision.models import get_model, get_model_weights, list_models, segmentation

if TYPE_CHECKING:  # train.py imports this file
    from data import Splits
    from train import Config

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet normalization


class Segmenter(nn.Module):
    """A torchvision segmentation model that takes pixels in [0, 1] and returns only logits."""

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION).view(3, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images (B, 3, H, W) to logits (B, num_classes, H, W)."""
        return self.network((images - self.mean) / self.deviation)["out"]


def make_model(config: "Config", splits: "Splits", pretrained: bool = False) -> nn.Module:
    """Build a torchvision segmentation model.

    Pretrained weights are loaded wherever shapes match: everywhere but in the class layers. Batch norm uses the images
    of one micro-batch, so results depend slightly on the number of processes and micro-batches.
    """
    name, known = config.model, list_models(segmentation)
    if name not in known:
        raise ConfigError(f"The model `{name}` cannot be built: the segmentation models of torchvision are {', '.join(known)}")
    network = get_model(name, weights=None, weights_backbone=None, num_classes=len(splits.classes))
    if pretrained:
        shapes = {key: value.shape for key, value in network.state_dict().items()}
        published = get_model_weights(name).DEFAULT.get_state_dict(progress=True)
        network.load_state_dict({k: v for k, v in published.items() if shapes.get(k) == v.shape}, strict=False)
    return Segmenter(network)
# % else
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
# % endif
