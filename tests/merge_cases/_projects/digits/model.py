"""The model."""

from torch import nn


class Classifier(nn.Module):
    """A perceptron."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        layers = [nn.Linear(64, width), nn.ReLU()]
        for _ in range(depth - 1):
            layers += [nn.Linear(width, width), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(width, 10)

    def forward(self, images):
        """Logits of a batch of images."""
        features = self.body(images.flatten(1))
        return self.head(features)


def count_parameters(model: nn.Module) -> int:
    """How many numbers are learned."""
    return sum(p.numel() for p in model.parameters())
