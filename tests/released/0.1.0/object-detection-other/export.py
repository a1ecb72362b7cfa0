"""Export the weights of a run: safetensors, and ONNX, checked against the model.

    python export.py                                      the best weights of the newest run, in its export/ folder
    python export.py --run-dir runs/NAME --formats onnx

The ONNX model takes one image of any size, (3, H, W) with pixels from 0 to 1, and gives its boxes, labels and scores
without this project's code. torch.export takes no detector: how many boxes overlap is known only when it runs.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
import shutil
from typing import Any, Literal
import warnings

import onnx
from onnx.reference import ReferenceEvaluator
from paccel.runtime import Run, load_config, load_run
import torch

from evaluate import load_batches, load_model, load_splits
from train import Config

OUTPUTS = ["boxes", "labels", "scores"]  # (N, 4) in pixels of the image, (N,) and (N,), in the order of the scores


@dataclass
class ExportConfig:
    """What to export."""

    run_dir: Path | None = None  # the run; None is the newest one under runs/
    weights: Literal["best", "final"] = "best"  # the best by the evaluation, or those at the end
    out_dir: Path | None = None  # where the files go; None is export/ in the run directory
    formats: tuple[Literal["safetensors", "onnx"], ...] = ("safetensors", "onnx")
    tolerance: float = 1e-4  # largest difference to the model's outputs, absolute, and relative to them


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
    small = replace(config, compile=False, eval_batch_size=2, num_workers=0)
    with Run(small, record=False) as run:
        splits = load_splits(small)
        model = load_model(small, splits, weights).eval().to(run.device)
        (image, other), _ = next(run.batches(load_batches(run, small, splits, "eval")))
    with torch.no_grad():
        (expected,) = model([other])
        if "safetensors" in chosen.formats:
            shutil.copyfile(weights, out_dir / "weights.safetensors")
        if "onnx" in chosen.formats:
            file = out_dir / "model.onnx"
            axes = {"image": {1: "height", 2: "width"}, **{name: {0: "found"} for name in OUTPUTS}}
            names: dict[str, Any] = {"input_names": ["image"], "output_names": OUTPUTS, "dynamic_axes": axes}
            # By tracing, dynamo=False: the other way goes by torch.export. What tracing warns of, the check would find.
            warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
            torch.onnx.export(model, ([image],), file, dynamo=False, opset_version=16, **names)
            evaluator = ReferenceEvaluator(onnx.load(file))  # of onnx itself: slow, and exact
            found = evaluator.run(None, {"image": other.numpy(force=True)})
            outputs = [torch.from_numpy(output).to(run.device) for output in found]
            check("model.onnx", outputs, [expected[name] for name in OUTPUTS], chosen.tolerance)
    for path in sorted(out_dir.iterdir()):
        print(f"{path}  {path.stat().st_size / 2**20:.1f} MiB")
    return out_dir


if __name__ == "__main__":
    main(load_config(ExportConfig))
