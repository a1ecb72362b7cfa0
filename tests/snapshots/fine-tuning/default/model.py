"""The model, from timm, with its preprocessing. Shapes: B images, C channels, H height, W width."""

from typing import NamedTuple

from paccel.runtime import ConfigError
import timm
from timm.data import resolve_model_data_config
from torch import nn
from torchvision.transforms import InterpolationMode


class Preprocessing(NamedTuple):
    """The image preprocessing that the pretrained weights expect."""

    size: int  # height and width, in pixels
    interpolation: InterpolationMode
    mean: tuple[float, ...]  # per channel, for pixels in [0, 1]
    std: tuple[float, ...]


def make_model(name: str, num_classes: int | None = None, pretrained: bool = False) -> nn.Module:
    """Build a timm model that takes images (B, 3, H, W) and returns logits (B, num_classes).

    With `num_classes=None` the pretrained head is kept; with a different number of classes it is replaced at random.
    """
    try:
        return timm.create_model(name, pretrained=pretrained, num_classes=num_classes)
    except (OSError, RuntimeError, ValueError) as error:  # unknown name, or no internet
        raise ConfigError(
            f"The model `{name}` cannot be loaded: {error}; `timm.list_pretrained()` lists the known names"
        ) from None


def preprocessing(name: str, size: int | None = None) -> Preprocessing:
    """Read the preprocessing of the model's pretrained configuration; `size` overrides its image size."""
    config = resolve_model_data_config(make_model(name))
    interpolation = InterpolationMode(config["interpolation"])
    mean, std = tuple(config["mean"]), tuple(config["std"])
    return Preprocessing(size or config["input_size"][1], interpolation, mean, std)


def parts(model: nn.Module) -> list[nn.Module]:
    """List the layers of a model that have weights, from input to output; the last is the head.

    Sequences of blocks are split into blocks. timm and torchvision define the layers of classifiers in order of use.
    """
    found: list[nn.Module] = []
    for child in model.children():
        found += child.children() if isinstance(child, nn.Sequential | nn.ModuleList) else [child]
    return [part for part in found if any(True for _ in part.parameters())]
