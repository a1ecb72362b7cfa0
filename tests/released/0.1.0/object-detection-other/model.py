"""The detector, from torchvision, with a head for other classes."""

from paccel.runtime import ConfigError
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.models import detection, get_model, get_model_weights, list_models


def make_model(name: str, num_classes: int, image_size: int, pretrained: bool = False) -> nn.Module:
    """Build a detector of torchvision for `num_classes` kinds of objects, the background not counted.

    In training mode it takes a list of images (3, H, W) and a list of targets, and returns losses by name; in
    evaluation mode it takes the images, and returns boxes, labels and scores for each. Label 0 is the background.
    Published weights are taken wherever they fit, so everywhere but in the layers that know the classes.
    """
    known = [each for each in list_models(detection) if each.startswith(("fasterrcnn", "fcos", "retinanet"))]
    if name not in known:  # others want masks or key points too, or have a size of their own
        raise ConfigError(f"The model `{name}` cannot be built: those that find boxes are {', '.join(known)}")
    sizes = {"min_size": image_size, "max_size": 2 * image_size}
    model = get_model(name, weights=None, weights_backbone=None, num_classes=num_classes + 1, **sizes)
    if pretrained:
        shapes = {key: value.shape for key, value in model.state_dict().items()}
        published = get_model_weights(name).DEFAULT.get_state_dict(progress=True)
        model.load_state_dict({k: v for k, v in published.items() if shapes.get(k) == v.shape}, strict=False)
    return model


def keep_statistics(model: nn.Module) -> None:
    """Have batch norms use the statistics that they have: then any number of processes gives the same result."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
