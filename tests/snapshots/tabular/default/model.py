"""The model. Shapes: B rows, N numeric columns, C categorical columns, D width."""

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:  # train.py imports this file
    from data import Splits
    from train import Config


class Table(nn.Module):
    """An MLP on numbers and category embeddings, with one output, or one per class."""

    def __init__(self, num_numeric: int, category_sizes: list[int], outputs: int, width: int, dropout: float) -> None:
        super().__init__()
        sizes = [min(16, (size + 1) // 2) for size in category_sizes]
        self.embeddings = nn.ModuleList(nn.Embedding(n, size) for n, size in zip(category_sizes, sizes, strict=True))
        self.layers = nn.Sequential(
            nn.Linear(num_numeric + sum(sizes), width),
            nn.LayerNorm(width),  # unlike BatchNorm, the same for any number of processes and micro-batches
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(width, width),
            nn.LayerNorm(width),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(width, outputs),
        )

    def forward(self, numbers: torch.Tensor, categories: torch.Tensor) -> torch.Tensor:
        """Map numbers (B, N) float32 and categories (B, C) int64 to (B, outputs)."""
        embedded = [embed(categories[:, place]) for place, embed in enumerate(self.embeddings)]
        return self.layers(torch.cat([numbers, *embedded], dim=1))


def make_model(config: "Config", splits: "Splits") -> nn.Module:
    outputs = 1
    return Table(splits.num_numeric, splits.category_sizes, outputs, config.width, config.dropout)
