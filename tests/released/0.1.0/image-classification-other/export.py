"""Export the weights of a run: safetensors, a torch.export program, ONNX. Each is checked against the model.

    python export.py                                      the best weights of the newest run, in its export/ folder
    python export.py --run-dir runs/NAME --formats onnx

Where it is used, torch.export.load(FILE).module() is the network; neither it nor ONNX needs this project's code.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
import shutil
from typing import Any, Literal

import onnx
from onnx.reference import ReferenceEvaluator
from paccel.runtime import Run, load_config, load_run
import torch
from torch import nn

from evaluate import load_batches, load_model, load_splits
from train import Config, compute_loss


@dataclass
class ExportConfig:
    """What to export."""

    run_dir: Path | None = None  # the run; None is the newest one under runs/
    weights: Literal["best", "final"] = "best"  # the best by the evaluation, or those at the end
    out_dir: Path | None = None  # where the files go; None is export/ in the run directory
    formats: tuple[Literal["safetensors", "torch", "onnx"], ...] = ("safetensors", "torch", "onnx")
    tolerance: float = 1e-4  # largest difference to the model's outputs, absolute, and relative to them


Inputs = tuple[tuple[Any, ...], dict[str, Any]]  # of the model, by position and by name


def example_inputs(run: Run, config: Config, model: nn.Module, samples: int) -> Inputs:
    """What `compute_loss` calls the model with, for a batch of the evaluation data."""
    small = replace(config, eval_batch_size=samples, num_workers=0)
    batch = next(run.batches(load_batches(run, small, load_splits(small), "eval")))
    seen: list[Inputs] = []
    hook = model.register_forward_pre_hook(lambda _, args, kwargs: seen.append((args, kwargs)), with_kwargs=True)
    with torch.no_grad():
        compute_loss(model, batch)
    hook.remove()
    return seen[0]


def tensors(outputs: Any) -> Iterator[torch.Tensor]:
    """The tensors of what a model returns, in order."""
    if isinstance(outputs, torch.Tensor):
        yield outputs
    elif outputs is not None:
        for part in outputs.values() if isinstance(outputs, dict) else outputs:
            yield from tensors(part)


def check(name: str, outputs: Any, expected: Any, tolerance: float) -> None:
    """Compare outputs with the model's.

    Raises:
        ValueError: They differ by more than the tolerance, or in shape.
    """
    for ours, theirs in zip(tensors(outputs), tensors(expected), strict=True):
        if ours.shape != theirs.shape:
            shapes = f"{tuple(ours.shape)}, not {tuple(theirs.shape)}"
            raise ValueError(f"`{name}` gives other outputs than the model: their shape is {shapes}")
        if not torch.allclose(ours, theirs, rtol=tolerance, atol=tolerance):
            worst = (ours - theirs).abs().max().item()
            raise ValueError(f"`{name}` gives other outputs than the model: they differ by up to {worst:.2g}")


def main(chosen: ExportConfig) -> Path:
    run_dir, config = load_run(Config, chosen.run_dir)
    out_dir = chosen.out_dir or run_dir / "export"
    out_dir.mkdir(parents=True, exist_ok=True)
    weights = run_dir / "weights" / f"{chosen.weights}.safetensors"
    with Run(replace(config, compile=False), record=False) as run:
        model = load_model(config, load_splits(config), weights).eval().to(run.device)
        (args, kwargs), (other_args, other_kwargs) = (example_inputs(run, config, model, n) for n in (4, 3))
    with torch.no_grad():
        expected = model(*other_args, **other_kwargs)
        if "safetensors" in chosen.formats:
            shutil.copyfile(weights, out_dir / "weights.safetensors")
        if "torch" in chosen.formats or "onnx" in chosen.formats:
            # Every size that the network leaves open stays open: batches of any size, for one.
            shapes = [dict.fromkeys(range(value.dim()), torch.export.Dim.AUTO) for value in (*args, *kwargs.values())]
            program = torch.export.export(model, args, kwargs, dynamic_shapes=tuple(shapes))
        if "torch" in chosen.formats:
            torch.export.save(program, out_dir / "model.pt2")
            outputs = torch.export.load(out_dir / "model.pt2").module()(*other_args, **other_kwargs)
            check("model.pt2", outputs, expected, chosen.tolerance)
        if "onnx" in chosen.formats:
            torch.onnx.export(program, f=out_dir / "model.onnx", external_data=False, verbose=False)
            evaluator = ReferenceEvaluator(onnx.load(out_dir / "model.onnx"))  # of onnx itself: slow, and exact
            others = [value.numpy(force=True) for value in (*other_args, *other_kwargs.values())]
            feed = dict(zip(evaluator.input_names, others, strict=True))
            outputs = [torch.from_numpy(output).to(run.device) for output in evaluator.run(None, feed)]
            check("model.onnx", outputs, expected, chosen.tolerance)
    for path in sorted(out_dir.iterdir()):
        print(f"{path}  {path.stat().st_size / 2**20:.1f} MiB")
    return out_dir


if __name__ == "__main__":
    main(load_config(ExportConfig))
