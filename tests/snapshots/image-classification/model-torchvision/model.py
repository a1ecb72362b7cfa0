"""The network, from torchvision. Shapes: B images, C channels, H height, W width."""

from paccel.runtime import ConfigError
from torch import nn
from torchvision import models


def make_model(name: str, channels: int, num_classes: int, pretrained: bool = False) -> nn.Module:
    """Build a torchvision model that takes images (B, C, H, W) and returns logits (B, num_classes).

    Published weights are those for ImageNet; the last layer, of another number of classes, begins at random. Where the
    images have another number of channels than three, a convolution in front brings them to three.
    """
    if name not in models.list_models(models):
        raise ConfigError(
            f"The model `{name}` cannot be loaded: torchvision has no classifier of that name, only those in "
            "`torchvision.models.list_models(torchvision.models)`"
        )
    try:
        model = models.get_model(name, weights="DEFAULT" if pretrained else None)
    except OSError as error:  # no network
        raise ConfigError(f"The weights of `{name}` cannot be loaded: {error}") from None
    if getattr(model, "aux_logits", False):  # googlenet and inception_v3: published weights come without
        raise ConfigError(f"`{name}` returns logits of three heads while it is trained: take it `--pretrained`")
    heads = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not heads:
        raise ConfigError(f"`{name}` has no linear layer at its end: take another `--model`")
    model.set_submodule(heads[-1], nn.Linear(model.get_submodule(heads[-1]).in_features, num_classes))
    return model if channels == 3 else nn.Sequential(nn.Conv2d(channels, 3, 1), model)
