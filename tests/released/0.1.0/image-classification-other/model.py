"""The network, from torchvision. Shapes: B images, C channels, H height, W width."""

from paccel.runtime import ConfigError
from torch import nn
from torchvision.models import get_model


def make_model(name: str, channels: int, num_classes: int, pretrained: bool = False) -> nn.Module:
    """Build a torchvision model that takes images (B, C, H, W) and returns logits (B, num_classes).

    Published weights are those for ImageNet; the last layer, of another number of classes, begins at random. Where the
    images have another number of channels than three, a convolution in front brings them to three.
    """
    try:
        model = get_model(name, weights="DEFAULT" if pretrained else None)
    except (OSError, ValueError) as error:  # there is none of that name, or no network
        raise ConfigError(f"The model `{name}` cannot be loaded: {error}") from None
    heads = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not heads:
        raise ConfigError(f"`{name}` has no linear layer at its end: take another `--model`")
    model.set_submodule(heads[-1], nn.Linear(model.get_submodule(heads[-1]).in_features, num_classes))
    return model if channels == 3 else nn.Sequential(nn.Conv2d(channels, 3, 1), model)
