"""What names of settings stand for."""

from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR

__all__ = [
    "make_optimizer",
    "make_schedule",
]


def make_optimizer(name, parameters, learning_rate):
    """The optimizer of that name."""
    match name:
        case "adamw":
            return AdamW(parameters, lr=learning_rate)
        case "sgd":
            return SGD(parameters, lr=learning_rate, momentum=0.9)
        case _:
            raise ValueError(f"No optimizer {name!r}")


def make_schedule(name, optimizer, steps):
    """The schedule of that name."""
    match name:
        case "cosine":
            return CosineAnnealingLR(optimizer, steps)
        case "constant":
            return ConstantLR(optimizer, factor=1.0)
        case _:
            raise ValueError(f"No schedule {name!r}")


def augment(
    images,
    labels,
    shifts=2,
    flip=False,
):
    """More images than there are."""
    several = [images.roll(shift, dims=-1) for shift in range(shifts)]
    if flip:
        several.append(images.flip(-1))
    return several, [labels] * len(several)
