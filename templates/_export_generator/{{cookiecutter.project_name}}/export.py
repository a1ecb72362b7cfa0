# % include "export/head.py"
import torch
from torch import nn

from evaluate import load_batches, load_model, load_splits
from train import Config

Inputs = tuple[tuple[Any, ...], dict[str, Any]]  # the model's positional and keyword arguments


# % include "export/config.py"


def weights_file(run_dir: Path, weights: str) -> Path:
    return run_dir / "weights" / f"{weights}-generator.safetensors"


def example_inputs(run: Run, config: Config, model: nn.Module, samples: int) -> Inputs:
    """Return a batch of latents and labels for the generator."""
    small = replace(config, eval_batch_size=samples)
    return tuple(next(run.batches(load_batches(run, small, load_splits(small), "eval")))), {}


# % include "export/check.py"


# % include "export/main.py"
