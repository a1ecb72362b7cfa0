"""Synthetic scenes: scikit-learn's handwritten digits, enlarged, coloured and scattered over a noisy canvas."""

from typing import NamedTuple

from sklearn.datasets import load_digits
import torch
from torch.nn import functional as F

CANVAS = 64  # height and width of a scene, in pixels
MOST = 5  # maximum number of digits in a scene; at least one
SMALLEST, LARGEST = 14, 26  # height and width of a digit with its margins, in pixels
INK = 0.35  # threshold from which a pixel belongs to a digit; 1 is the maximum


class Scene(NamedTuple):
    """One image with its boxes, labels and mask."""

    image: torch.Tensor  # (3, CANVAS, CANVAS) float32, pixels in [0, 1]
    boxes: torch.Tensor  # (digits, 4) float32: left, top, right and bottom in pixels, right and bottom exclusive
    digits: torch.Tensor  # (digits,) int64, 0 to 9
    mask: torch.Tensor  # (CANVAS, CANVAS) int64: 0 = background, else digit + 1


def split_digits() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Split the digits: images (N, 1, 8, 8) in [0, 1] and labels (N,); no digit is in two splits."""
    digits = load_digits()
    images, labels = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16, torch.tensor(digits.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    parts = order.split([1197, 300, 300])
    return {name: (images[part], labels[part]) for name, part in zip(("train", "eval", "test"), parts, strict=True)}


def make_scene(images: torch.Tensor, labels: torch.Tensor, seed: int) -> Scene:
    """Place one to MOST digits without overlap; the same scene for the same `seed`."""
    generator = torch.Generator().manual_seed(seed)

    def below(limit: int) -> int:
        return int(torch.randint(limit, (), generator=generator))

    ground = 0.4 * torch.rand(3, 1, 1, generator=generator) * torch.linspace(0.3, 1, CANVAS)  # darker to the left
    canvas = ground + 0.2 * torch.rand(3, CANVAS, CANVAS, generator=generator)
    mask = torch.zeros(CANVAS, CANVAS, dtype=torch.int64)
    taken = torch.zeros(CANVAS, CANVAS, dtype=torch.bool)
    boxes: list[list[int]] = []
    digits: list[torch.Tensor] = []
    wanted = 1 + below(MOST)
    for _ in range(4 * wanted):  # places may be taken
        chosen, size = below(len(labels)), SMALLEST + below(LARGEST - SMALLEST + 1)
        left, top = below(CANVAS - size + 1), below(CANVAS - size + 1)
        rows, columns = slice(top, top + size), slice(left, left + size)
        if len(digits) == wanted or taken[rows, columns].any():
            continue
        taken[rows, columns] = True
        strokes = F.interpolate(images[chosen : chosen + 1], (size, size), mode="bilinear")[0, 0]
        color = 0.6 + 0.4 * torch.rand(3, 1, 1, generator=generator)
        canvas[:, rows, columns] = canvas[:, rows, columns].lerp(color.expand(3, size, size), strokes)
        ink = strokes > INK
        mask[rows, columns] = torch.where(ink, labels[chosen] + 1, mask[rows, columns])
        across, down = ink.any(0).nonzero(), ink.any(1).nonzero()
        near = [left + int(across.min()), top + int(down.min())]
        boxes.append([*near, left + int(across.max()) + 1, top + int(down.max()) + 1])
        digits.append(labels[chosen])
    return Scene(canvas, torch.tensor(boxes, dtype=torch.float32), torch.stack(digits), mask)
