"""Evaluate the best weights of a run on held-out data, and draw some predictions.

    python evaluate.py                                    the newest run, on the test split
    python evaluate.py --run-dir runs/NAME --split eval

`accelerate launch evaluate.py` uses several GPUs or machines, with the same scores up to rounding.
"""

from dataclasses import dataclass
import json
from pathlib import Path
from typing import Literal

from matplotlib.figure import Figure
from paccel.runtime import Loader, Run, exit_with_message, load_config, load_run, load_weights
import torch
from torch import nn

from data import IGNORE, Splits, make_splits
from model import make_model
from train import Config, evaluate


@dataclass
class EvaluateConfig:
    """What to evaluate."""

    run_dir: Path | None = None  # run to evaluate; None = the newest under runs/
    # % if cookiecutter.data == "folder"
    data_dir: Path | None = None  # folder with the data; None = as in training
    # % endif
    split: Literal["train", "eval", "test"] = "test"  # split to evaluate on
    weights: Literal["best", "final"] = "best"  # best: highest eval mean IoU; final: at the end of training
    pictures: int = 6  # predictions to draw, into a PNG in the run directory; 0 = none


def load_splits(config: Config) -> Splits:
    """Load the data of a run."""
    # % if cookiecutter.data == "scenes"
    return make_splits()
    # % else
    return make_splits(config.data_dir, config.image_size)
    # % endif


def load_batches(run: Run, config: Config, splits: Splits, split: str) -> Loader:
    """Make a loader over one split."""
    return run.loader(getattr(splits, split), config.eval_batch_size, num_workers=config.num_workers)


def load_model(config: Config, splits: Splits, weights: Path) -> nn.Module:
    """Build the model of a run and load its weights from a file."""
    model = make_model(config, splits)
    load_weights(weights, model)
    return model


def draw(images: torch.Tensor, masks: torch.Tensor, predictions: torch.Tensor, classes: list[str], path: Path) -> None:
    """Write a PNG with one column per image: image, truth and prediction, all (N, [3,] H, W)."""
    figure = Figure(figsize=(1.5 * len(images) + 1.5, 4.8), layout="constrained")
    axes = figure.subplots(3, len(images), squeeze=False)
    for row, name in zip(axes, ("image", "truth", "prediction"), strict=True):
        row[0].set_ylabel(name)
        for ax in row:
            ax.set(xticks=[], yticks=[])
    colors = {"cmap": "nipy_spectral", "vmin": 0, "vmax": len(classes) - 1, "interpolation": "nearest"}
    for column, image, mask, prediction in zip(axes.T, images, masks, predictions, strict=True):
        column[0].imshow(image.movedim(0, -1).numpy())
        column[1].imshow(mask.where(mask != IGNORE, torch.nan).numpy(), **colors)  # unlabelled pixels stay white
        shown = column[2].imshow(prediction.numpy(), **colors)
    bar = figure.colorbar(shown, ax=axes, ticks=range(len(classes)))
    bar.set_ticklabels(classes)
    figure.savefig(path)


def main(chosen: EvaluateConfig) -> dict[str, float]:
    # % if cookiecutter.data == "folder"
    run_dir, config = load_run(Config, chosen.run_dir, data_dir=chosen.data_dir)
    # % else
    run_dir, config = load_run(Config, chosen.run_dir)
    # % endif
    with Run(config, record=False) as run:
        splits = load_splits(config)
        loader = load_batches(run, config, splits, chosen.split)
        model = run.prepare(load_model(config, splits, run_dir / "weights" / f"{chosen.weights}.safetensors"))
        scores, iou = evaluate(run, model, loader, len(splits.classes))
        by_class = {name: None if value.isnan() else value.item() for name, value in zip(splits.classes, iou, strict=True)}
        run.accelerator.print(json.dumps({"run_dir": str(run_dir), "split": chosen.split, **scores, "iou": by_class}))
        data = getattr(splits, chosen.split)
        shown = range(min(chosen.pictures, len(data)))
        if shown and run.accelerator.is_main_process:
            images, masks = (torch.stack(tensors) for tensors in zip(*(data[index] for index in shown), strict=True))
            with run.evaluating(model) as network:
                predictions = network(images.to(run.device)).argmax(1).cpu()
            draw(images, masks, predictions, splits.classes, run_dir / f"predictions-{chosen.split}.png")
    return scores


if __name__ == "__main__":
    with exit_with_message():
        main(load_config(EvaluateConfig))
