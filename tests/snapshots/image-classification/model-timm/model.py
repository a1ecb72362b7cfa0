"""The network, from timm. Shapes: B images, C channels, H height, W width."""

from paccel.runtime import ConfigError
import timm
from torch import nn


def make_model(name: str, channels: int, num_classes: int, pretrained: bool = False) -> nn.Module:
    """Build a timm model that takes images (B, C, H, W) and returns logits (B, num_classes)."""
    try:
        return timm.create_model(name, pretrained=pretrained, in_chans=channels, num_classes=num_classes)
    except (OSError, RuntimeError) as error:  # there is none of that name, or no network
        raise ConfigError(f"The model `{name}` cannot be loaded: {error}") from None
