"""The network, from torchvision. Shapes: B images, H height, W width."""

from paccel.runtime import ConfigError
import torch
from torch import nn
from torchvision.models import get_model, get_model_weights, list_models, segmentation

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels: published weights expect them


class Segmenter(nn.Module):
    """A segmentation network of torchvision that takes pixels from 0 to 1, and returns nothing but its logits."""

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION).view(3, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) images to (B, num_classes, H, W) logits."""
        return self.network((images - self.mean) / self.deviation)["out"]


def make_model(name: str, num_classes: int, pretrained: bool = False) -> nn.Module:
    """Build a segmentation network of torchvision.

    Published weights are taken wherever they fit, so everywhere but in the layers that know the classes. Batch norms
    see the images that one process has at a time: cut otherwise, results differ a little.
    """
    known = list_models(segmentation)
    if name not in known:
        raise ConfigError(f"The model `{name}` cannot be built: torchvision's for segmentation are {', '.join(known)}")
    network = get_model(name, weights=None, weights_backbone=None, num_classes=num_classes)
    if pretrained:
        shapes = {key: value.shape for key, value in network.state_dict().items()}
        published = get_model_weights(name).DEFAULT.get_state_dict(progress=True)
        network.load_state_dict({k: v for k, v in published.items() if shapes.get(k) == v.shape}, strict=False)
    return Segmenter(network)
