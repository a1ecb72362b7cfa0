# % if cookiecutter.model == "timm"
"""The model, from timm, with its preprocessing. Shapes: B images, C channels, H height, W width."""
# % else
"""The model, from torchvision, with its preprocessing. Shapes: B images, C channels, H height, W width."""
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
    """The image preprocessing that the pretrained weights expect."""

    size: int  # height and width, in pixels
    # % if cookiecutter.data == "folder"
    share: float  # fraction of the shorter side that the center crop keeps
    # % endif
    interpolation: InterpolationMode
    mean: tuple[float, ...]  # per channel, for pixels in [0, 1]
    std: tuple[float, ...]


# % if cookiecutter.model == "timm"
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
    # % if cookiecutter.data == "folder"
    return Preprocessing(size or config["input_size"][1], config["crop_pct"], interpolation, mean, std)
    # % else
    return Preprocessing(size or config["input_size"][1], interpolation, mean, std)
    # % endif
# % else
def make_model(name: str, num_classes: int, weights: str | None = None) -> nn.Module:
    """Build a torchvision model that takes images (B, 3, H, W) and returns logits (B, num_classes).

    `weights` names pretrained weights to download ("DEFAULT" or another name), or a .safetensors file. The last layer
    is replaced and starts at random.
    """
    path = Path(weights) if weights is not None and weights.endswith(".safetensors") else None
    try:
        model = models.get_model(name, weights=None if path else weights)
        known = load_file(path) if path else {}
    except (KeyError, OSError, SafetensorError, ValueError) as error:  # unknown name, or no internet
        raise ConfigError(f"`{name}` with the weights `{weights}` cannot be loaded: {error}") from None
    if getattr(model, "aux_logits", False):  # googlenet and inception_v3 without pretrained weights
        raise ConfigError(f"`{name}` returns auxiliary logits in training mode: use its pretrained weights")
    heads = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not heads:
        raise ConfigError(f"`{name}` has no final linear layer: choose another `--model`")
    features = model.get_submodule(heads[-1]).in_features
    if path:
        if (bias := f"{heads[-1]}.bias") not in known:
            raise ConfigError(f"`{path}` has no `{bias}`: its weights belong to a different model than `{name}`")
        model.set_submodule(heads[-1], nn.Linear(features, len(known[bias])))
        model.load_state_dict(known)
    model.set_submodule(heads[-1], nn.Linear(features, num_classes))
    return model


def preprocessing(name: str, size: int | None = None) -> Preprocessing:
    """Read the preprocessing of the model's pretrained weights; `size` overrides their image size."""
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
    """List the layers of a model that have weights, from input to output; the last is the head.

    Sequences of blocks are split into blocks. timm and torchvision define the layers of classifiers in order of use.
    """
    found: list[nn.Module] = []
    for child in model.children():
        found += child.children() if isinstance(child, nn.Sequential | nn.ModuleList) else [child]
    return [part for part in found if any(True for _ in part.parameters())]
