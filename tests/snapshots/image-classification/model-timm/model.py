"""The network, from timm. Shapes: B images, C channels, H height, W width."""

from paccel.runtime import ConfigError
import timm
from timm.optim import create_optimizer_v2, list_optimizers
import torch
from torch import nn


def make_model(name: str, channels: int, num_classes: int, pretrained: bool = False) -> nn.Module:
    """Build a timm model that takes images (B, C, H, W) and returns logits (B, num_classes)."""
    try:
        return timm.create_model(name, pretrained=pretrained, in_chans=channels, num_classes=num_classes)
    except (OSError, RuntimeError, ValueError) as error:  # there is none of that name, or no network
        raise ConfigError(
            f"The model `{name}` cannot be loaded: {error}; `timm.list_models()` has the names that there are"
        ) from None


def make_optimizer(model: nn.Module, name: str, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """Build an optimizer by its name in timm."""
    try:
        optimizer = create_optimizer_v2(model, name, lr=learning_rate, weight_decay=weight_decay)
    except (AssertionError, ImportError, ValueError) as error:  # there is none of that name, or not on this machine
        known = ", ".join(map(str, list_optimizers()))
        raise ConfigError(f"The optimizer `{name}` cannot be made: {error}; timm has {known}") from None
    if getattr(optimizer, "is_second_order", False):
        raise ConfigError(f"The optimizer `{name}` needs second derivatives, which the loop does not compute")
    return optimizer
