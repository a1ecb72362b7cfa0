"""The network, from timm, with what its weights expect. Shapes: B images, C channels, H height, W width."""

from typing import NamedTuple

from paccel.runtime import ConfigError
import timm
from timm.data import resolve_model_data_config
from torch import nn
from torchvision.transforms import InterpolationMode


class Preprocessing(NamedTuple):
    """How the images looked that the weights were made with, and so how they have to look."""

    size: int  # height and width, in pixels
    interpolation: InterpolationMode
    mean: tuple[float, ...]  # of each channel, for pixels from 0 to 1
    std: tuple[float, ...]


def make_model(name: str, num_classes: int | None = None, pretrained: bool = False) -> nn.Module:
    """Build a timm model that takes images (B, 3, H, W) and returns logits (B, num_classes).

    The last layer is that of the weights only where those have as many classes, as None has; else it begins at random.
    """
    try:
        return timm.create_model(name, pretrained=pretrained, num_classes=num_classes)
    except (OSError, RuntimeError, ValueError) as error:  # there is none of that name, or no network
        raise ConfigError(
            f"The model `{name}` cannot be loaded: {error}; `timm.list_pretrained()` has the names that there are"
        ) from None


def preprocessing(name: str, size: int | None = None) -> Preprocessing:
    """What the model's pretrained configuration says; `size` instead of its own."""
    config = resolve_model_data_config(make_model(name))
    interpolation = InterpolationMode(config["interpolation"])
    mean, std = tuple(config["mean"]), tuple(config["std"])
    return Preprocessing(size or config["input_size"][1], interpolation, mean, std)


def parts(model: nn.Module) -> list[nn.Module]:
    """The parts of a model that have weights, from the input to the output; the last one is the head.

    Sequences of blocks are taken apart. Classifiers of timm and torchvision define their parts in the order of use.
    """
    found: list[nn.Module] = []
    for child in model.children():
        found += child.children() if isinstance(child, nn.Sequential | nn.ModuleList) else [child]
    return [part for part in found if any(True for _ in part.parameters())]
