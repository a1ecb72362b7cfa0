# % if cookiecutter.model == "timm"
"""The model, from timm. Shapes: B images, C channels, H height, W width."""

from typing import TYPE_CHECKING

from paccel.runtime import ConfigError
import timm
from timm.optim import create_optimizer_v2, list_optimizers
import torch
from torch import nn

if TYPE_CHECKING:  # train.py imports this file
    from data import Splits
    from train import Config


def make_model(config: "Config", splits: "Splits", pretrained: bool = False) -> nn.Module:
    """Build a timm model that takes images (B, C, H, W) and returns logits (B, num_classes)."""
    try:
        return timm.create_model(
            config.model, pretrained=pretrained, in_chans=splits.channels, num_classes=splits.num_classes
        )
    except (OSError, RuntimeError, ValueError) as error:  # unknown name, or no internet
        raise ConfigError(
            f"The model `{config.model}` cannot be loaded: {error}; `timm.list_models()` lists the known names"
        ) from None


def make_optimizer(model: nn.Module, name: str, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """Build an optimizer by its name in timm."""
    try:
        optimizer = create_optimizer_v2(model, name, lr=learning_rate, weight_decay=weight_decay)
    except (AssertionError, ImportError, ValueError) as error:  # unknown name, or not available on this machine
        known = ", ".join(map(str, list_optimizers()))
        raise ConfigError(f"The optimizer `{name}` cannot be made: {error}; timm knows {known}") from None
    if getattr(optimizer, "is_second_order", False):
        raise ConfigError(f"The optimizer `{name}` needs second derivatives, which the training loop does not compute")
    return optimizer
# % elif cookiecutter.model == "torchvision"
"""The model, from torchvision. Shapes: B images, C channels, H height, W width."""

from typing import TYPE_CHECKING

from paccel.runtime import ConfigError
from torch import nn
from torchvision import models

if TYPE_CHECKING:  # train.py imports this file
    from data import Splits
    from train import Config


def make_model(config: "Config", splits: "Splits", pretrained: bool = False) -> nn.Module:
    """Build a torchvision model that takes images (B, C, H, W) and returns logits (B, num_classes).

    Pretrained weights are those for ImageNet. The last layer is replaced and starts at random. If the images do not
    have three channels, a 1x1 convolution maps them to three.
    """
    name = config.model
    # % include "images/classifier.py"
    try:
        model = models.get_model(name, weights="DEFAULT" if pretrained else None)
    except OSError as error:  # no internet
        raise ConfigError(f"The weights of `{name}` cannot be loaded: {error}") from None
    if getattr(model, "aux_logits", False):  # googlenet and inception_v3 without pretrained weights
        raise ConfigError(f"`{name}` returns auxiliary logits in training mode: use `--pretrained`")
    heads = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not heads:
        raise ConfigError(f"`{name}` has no final linear layer: choose another `--model`")
    model.set_submodule(heads[-1], nn.Linear(model.get_submodule(heads[-1]).in_features, splits.num_classes))
    return model if splits.channels == 3 else nn.Sequential(nn.Conv2d(splits.channels, 3, 1), model)
# % else
"""The model. Shapes: B images, C channels, H height, W width."""

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:  # train.py imports this file
    from data import Splits
    from train import Config


# % if cookiecutter.model == "cnn"
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
# % else
class Block(nn.Module):
    """Residual block of two convolutions: (B, channels, H, W) -> (B, width, H/stride, W/stride)."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.GroupNorm(8, channels),  # unlike BatchNorm, the same for any number of processes and micro-batches
            nn.SiLU(),
            nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False),
            nn.GroupNorm(8, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
        )
        same = stride == 1 and channels == width
        self.shortcut = nn.Identity() if same else nn.Conv2d(channels, width, 1, stride=stride, bias=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.shortcut(features) + self.branch(features)


class ResNet(nn.Module):
    """A pre-activation ResNet with three stages of two blocks.

    Source: He et al. 2016, "Identity mappings in deep residual networks", with GroupNorm instead of BatchNorm.
    """

    def __init__(self, channels: int, num_classes: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.stages = nn.Sequential(
            Block(width, width, stride=1),
            Block(width, width, stride=1),
            Block(width, 2 * width, stride=2),
            Block(2 * width, 2 * width, stride=1),
            Block(2 * width, 4 * width, stride=2),
            Block(4 * width, 4 * width, stride=1),
        )
        self.norm = nn.Sequential(nn.GroupNorm(8, 4 * width), nn.SiLU())
        self.head = nn.Linear(4 * width, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images (B, C, H, W) to logits (B, num_classes)."""
        features = self.norm(self.stages(self.stem(images)))
        return self.head(features.mean(dim=(2, 3)))


def make_model(config: "Config", splits: "Splits") -> nn.Module:
    return ResNet(splits.channels, splits.num_classes, config.width)
# % endif
# % endif
