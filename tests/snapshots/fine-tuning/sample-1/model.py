"""The network, from torchvision, with what its weights expect. Shapes: B images, C channels, H height, W width."""

from pathlib import Path
from typing import NamedTuple

from paccel.runtime import ConfigError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torchvision import models
from torchvision.transforms import InterpolationMode


class Preprocessing(NamedTuple):
    """How the images looked that the weights were made with, and so how they have to look."""

    size: int  # height and width, in pixels
    share: float  # of the shorter side of an image, that the middle which is looked at has
    interpolation: InterpolationMode
    mean: tuple[float, ...]  # of each channel, for pixels from 0 to 1
    std: tuple[float, ...]


def make_model(name: str, num_classes: int, weights: str | None = None) -> nn.Module:
    """Build a torchvision model that takes images (B, 3, H, W) and returns logits (B, num_classes).

    The weights are published ones ("DEFAULT", or a name), which are downloaded, or those of a .safetensors file; the
    last layer begins at random.
    """
    path = Path(weights) if weights is not None and weights.endswith(".safetensors") else None
    try:
        model = models.get_model(name, weights=None if path else weights)
        known = load_file(path) if path else {}
    except (KeyError, OSError, SafetensorError, ValueError) as error:  # there are none of that name, or no network
        raise ConfigError(f"`{name}` with the weights `{weights}` cannot be loaded: {error}") from None
    if getattr(model, "aux_logits", False):  # googlenet and inception_v3: published weights come without
        raise ConfigError(f"`{name}` returns logits of three heads while it is trained: take its published weights")
    heads = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not heads:
        raise ConfigError(f"`{name}` has no linear layer at its end: take another `--model`")
    features = model.get_submodule(heads[-1]).in_features
    if path:
        if (bias := f"{heads[-1]}.bias") not in known:
            raise ConfigError(f"`{path}` has no `{bias}`: its weights are of another model than `{name}`")
        model.set_submodule(heads[-1], nn.Linear(features, len(known[bias])))
        model.load_state_dict(known)
    model.set_submodule(heads[-1], nn.Linear(features, num_classes))
    return model


def preprocessing(name: str, size: int | None = None) -> Preprocessing:
    """What the model's published weights expect; `size` instead of their own."""
    if name not in models.list_models(models):
        raise ConfigError(
            f"The model `{name}` cannot be loaded: torchvision has no classifier of that name, only those in "
            "`torchvision.models.list_models(torchvision.models)`"
        )
    preset = models.get_model_weights(name)["DEFAULT"].transforms()
    mean, std = tuple(preset.mean), tuple(preset.std)
    share = preset.crop_size[0] / preset.resize_size[0]
    return Preprocessing(size or preset.crop_size[0], share, preset.interpolation, mean, std)


def parts(model: nn.Module) -> list[nn.Module]:
    """The parts of a model that have weights, from the input to the output; the last one is the head.

    Sequences of blocks are taken apart. Classifiers of timm and torchvision define their parts in the order of use.
    """
    found: list[nn.Module] = []
    for child in model.children():
        found += child.children() if isinstance(child, nn.Sequential | nn.ModuleList) else [child]
    return [part for part in found if any(True for _ in part.parameters())]
