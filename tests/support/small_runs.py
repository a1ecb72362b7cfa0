"""The least that a run is made of: settings, and a dataset of numbers."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.data import TensorDataset


@dataclass
class Config:
    """The settings that a run reads."""

    run_dir: Path | None = None
    resume: str = "never"


def rows(size: int, first: int = 0) -> TensorDataset:
    """The numbers from `first` on, one per sample."""
    return TensorDataset(torch.arange(first, first + size))
