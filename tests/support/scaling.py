"""accelerate's loss scaler on the CPU, as with fp16 on a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from paccel.runtime import run


@contextmanager
def loss_scaler(**options: Any) -> Iterator[None]:
    """A context in which each new run has such a scaler."""
    original = run.Accelerator

    def with_scaler(**settings: Any) -> Any:
        accelerator = original(**settings)
        accelerator.scaler = torch.amp.GradScaler("cpu", **options)
        return accelerator

    run.Accelerator = with_scaler
    try:
        yield
    finally:
        run.Accelerator = original
