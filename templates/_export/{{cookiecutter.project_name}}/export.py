# % include "export/head.py"
import torch
from torch import nn

from evaluate import load_batches, load_model, load_splits
from train import Config, compute_loss

Inputs = tuple[tuple[Any, ...], dict[str, Any]]  # the model's positional and keyword arguments


# % include "export/config.py"


def weights_file(run_dir: Path, weights: str) -> Path:
    return run_dir / "weights" / f"{weights}.safetensors"


def example_inputs(run: Run, config: Config, model: nn.Module, samples: int) -> Inputs:
    """Return what `compute_loss` passes to the model for one batch of evaluation data."""
    small = replace(config, eval_batch_size=samples, num_workers=0)
    batch = next(run.batches(load_batches(run, small, load_splits(small), "eval")))
    seen: list[Inputs] = []
    hook = model.register_forward_pre_hook(lambda _, args, kwargs: seen.append((args, kwargs)), with_kwargs=True)
    with torch.no_grad():
        compute_loss(model, batch)
    hook.remove()
    return seen[0]


# % include "export/check.py"


# % include "export/main.py"
