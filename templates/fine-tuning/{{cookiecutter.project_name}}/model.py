# % if cookiecutter.model == "timm"
"""The network, from timm, with what its weights expect. Shapes: B images, C channels, H height, W width."""
# % else
"""The network, from torchvision, with what its weights expect. Shapes: B images, C channels, H height, W width."""
# % endif

# % if cookiecutter.model == "torchvision"
from pathlib import Path
# % endif
from typing import NamedTuple

# % if cookiecutter.model == "torchvision"
from paccel.runtime import ConfigError
from safetensors import SafetensorError
from safetensors.torch import load_file
# % else
from paccel.runtime import ConfigError
import timm
from timm.data import resolve_model_data_config
# % endif
from torch import nn
# % if cookiecutter.model == "torchvision"
from torchvision import models
# % endif
from torchvision.transforms import InterpolationMode


class Preprocessing(NamedTuple):
    """How the images looked that the weights were made with, and so how they have to look."""

    size: int  # height and width, in pixels
    # % if cookiecutter.data == "folder"
    share: float  # of the shorter side of an image, that the middle which is looked at has
    # % endif
    interpolation: InterpolationMode
    mean: tuple[float, ...]  # of each channel, for pixels from 0 to 1
    std: tuple[float, ...]


# % if cookiecutter.model == "timm"
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
    # % if cookiecutter.data == "folder"
    return Preprocessing(size or config["input_size"][1], config["crop_pct"], interpolation, mean, std)
    # % else
    return Preprocessing(size or config["input_size"][1], interpolation, mean, std)
    # % endif
# % else
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
    # % include "images/classifier.py"
    preset = models.get_model_weights(name)["DEFAULT"].transforms()
    mean, std = tuple(preset.mean), tuple(preset.std)
    # % if cookiecutter.data == "folder"
    share = preset.crop_size[0] / preset.resize_size[0]
    return Preprocessing(size or preset.crop_size[0], share, preset.interpolation, mean, std)
    # % else
    return Preprocessing(size or preset.crop_size[0], preset.interpolation, mean, std)
    # % endif
# % endif


def parts(model: nn.Module) -> list[nn.Module]:
    """The parts of a model that have weights, from the input to the output; the last one is the head.

    Sequences of blocks are taken apart. Classifiers of timm and torchvision define their parts in the order of use.
    """
    found: list[nn.Module] = []
    for child in model.children():
        found += child.children() if isinstance(child, nn.Sequential | nn.ModuleList) else [child]
    return [part for part in found if any(True for _ in part.parameters())]
