"""Export the weights of a run to safetensors and ONNX, checked against the model.

    python export.py                                      the best weights of the newest run, into its export/ folder
    python export.py --run-dir runs/NAME --formats onnx

The ONNX model takes one image of any size, (3, H, W) with pixels in [0, 1], and returns boxes, labels and scores. It
does not need this project's code. torch.export cannot export detectors: non-maximum suppression depends on the data.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
import shutil
from typing import Any, Literal
import warnings

import onnx
from onnx.reference import ReferenceEvaluator
from paccel.runtime import Run, exit_with_message, load_config, load_run
import torch

from evaluate import load_batches, load_model, load_splits
from train import Config

OUTPUTS = ["boxes", "labels", "scores"]  # (N, 4) in pixels of the image, (N,) and (N,), sorted by score


@dataclass
class ExportConfig:
    """What to export."""

    run_dir: Path | None = None  # run to export; None = the newest under runs/
    weights: Literal["best", "final"] = "best"  # best: of all evaluations; final: at the end of training
    out_dir: Path | None = None  # output folder; None = export/ in the run directory
    formats: tuple[Literal["safetensors", "onnx"], ...] = ("safetensors", "onnx")
    tolerance: float = 1e-4  # largest allowed difference from the model's outputs, absolute and relative


# % include "export/check.py"


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
            # dynamo=False exports by tracing, without torch.export. The check below finds what tracing warns about.
            warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
            torch.onnx.export(model, ([image],), file, dynamo=False, opset_version=16, **names)
            evaluator = ReferenceEvaluator(onnx.load(file))  # ONNX's own: slow but exact
            found = evaluator.run(None, {"image": other.numpy(force=True)})
            outputs = [torch.from_numpy(output).to(run.device) for output in found]
            check("model.onnx", outputs, [expected[name] for name in OUTPUTS], chosen.tolerance)
    for path in sorted(out_dir.iterdir()):
        print(f"{path}  {path.stat().st_size / 2**20:.1f} MiB")
    return out_dir


if __name__ == "__main__":
    with exit_with_message():
        main(load_config(ExportConfig))
