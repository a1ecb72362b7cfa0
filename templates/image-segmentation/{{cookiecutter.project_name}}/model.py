# % if cookiecutter.model == "torchvision"
"""The network, from torchvision. Shapes: B images, H height, W width."""

from paccel.runtime import ConfigError
import torch
from torch import nn
from torchvision.models import get_model, get_model_weights, list_models, segmentation

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels: published weights expect them


class Segmenter(nn.Module):
    """A segmentation network of torchvision that takes pixels from 0 to 1, and returns nothing but its logits."""

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION).view(3, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) images to (B, num_classes, H, W) logits."""
        return self.network((images - self.mean) / self.deviation)["out"]


def make_model(name: str, num_classes: int, pretrained: bool = False) -> nn.Module:
    """Build a segmentation network of torchvision.

    Published weights are taken wherever they fit, so everywhere but in the layers that know the classes. Batch norms
    see the images that one process has at a time: cut otherwise, results differ a little.
    """
    known = list_models(segmentation)
    if name not in known:
        raise ConfigError(f"The model `{name}` cannot be built: torchvision's for segmentation are {', '.join(known)}")
    network = get_model(name, weights=None, weights_backbone=None, num_classes=num_classes)
    if pretrained:
        shapes = {key: value.shape for key, value in network.state_dict().items()}
        published = get_model_weights(name).DEFAULT.get_state_dict(progress=True)
        network.load_state_dict({k: v for k, v in published.items() if shapes.get(k) == v.shape}, strict=False)
    return Segmenter(network)
# % else
"""The network. Shapes: B images, H height, W width."""

import torch
from torch import nn


def convolution(channels: int, width: int, stride: int = 1) -> nn.Sequential:
    """(B, channels, H, W) -> (B, width, H / stride, W / stride)."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False),
        nn.GroupNorm(8, width),  # unlike BatchNorm, the same for any number of processes and micro-batches
        nn.SiLU(),
    )


class Down(nn.Sequential):
    """See half as sharp and twice as far: (B, channels, H, W) -> (B, width, H/2, W/2)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(convolution(channels, width, stride=2), convolution(width, width))


class Up(nn.Module):
    """Bring what was seen from afar to where it belongs, beside what was seen there in detail."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.enlarge = nn.ConvTranspose2d(channels, width, 2, stride=2)
        self.mix = convolution(2 * width, width)

    def forward(self, far: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
        """(B, channels, H, W) and (B, width, 2H, 2W) -> (B, width, 2H, 2W)."""
        return self.mix(torch.cat([self.enlarge(far), near], dim=1))


class SmallUNet(nn.Module):
    """Three stages down, three up again, and what each saw on the way down is there on the way up.

    Source: Ronneberger, Fischer, Brox 2015, "U-Net", smaller: nothing is computed at the images' full size but logits.
    """

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        self.down1, self.down2, self.down3 = Down(3, width), Down(width, 2 * width), Down(2 * width, 4 * width)
        self.up2, self.up1 = Up(4 * width, 2 * width), Up(2 * width, width)
        self.head = nn.ConvTranspose2d(width, num_classes, 2, stride=2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) images with pixels from 0 to 1 to (B, num_classes, H, W) logits; H and W are multiples of 8."""
        half = self.down1(2 * images - 1)
        quarter = self.down2(half)
        eighth = self.down3(quarter)
        return self.head(self.up1(self.up2(eighth, quarter), half))


def make_model(num_classes: int, width: int) -> nn.Module:
    """Build the network; `width` is the number of channels in the first stage, a multiple of 8."""
    return SmallUNet(num_classes, width)
# % endif
