"""Evaluate the generator of a run against held-out images, and draw generated images.

    python evaluate.py                                    the newest run, against the test split
    python evaluate.py --run-dir runs/NAME --split eval

`accelerate launch evaluate.py` uses several GPUs or machines, with the same scores up to rounding.
"""

from dataclasses import dataclass
import json
from pathlib import Path
from typing import Literal

from paccel.runtime import Loader, Run, exit_with_message, load_config, load_run, load_weights
from torch import nn

from data import Splits, make_latents, make_splits
from judge import train_judge
from model import make_models
from train import Config, draw, evaluate


@dataclass
class EvaluateConfig:
    """What to evaluate."""

    run_dir: Path | None = None  # run to evaluate; None = the newest under runs/
    # % if cookiecutter.data != "digits"
    data_dir: Path | None = None  # folder with the data; None = as in training
    # % endif
    split: Literal["train", "eval", "test"] = "test"  # real images to compare with
    weights: Literal["best", "final"] = "best"  # best: lowest Fréchet distance; final: at the end of training


def load_splits(config: Config) -> Splits:
    """Load the data of a run."""
    # % if cookiecutter.data == "digits"
    return make_splits()
    # % elif cookiecutter.data == "mnist"
    return make_splits(config.data_dir)
    # % else
    return make_splits(config.data_dir, config.image_size)
    # % endif


def load_batches(run: Run, config: Config, splits: Splits, split: str) -> Loader:
    """Make a loader over latents, the same for each split."""
    return run.loader(make_latents(config.num_generated, config.latent_size, splits.num_classes), config.eval_batch_size)


def load_model(config: Config, splits: Splits, weights: Path) -> nn.Module:
    """Build the generator of a run and load its weights from a file."""
    generator, _ = make_models(config, splits)
    load_weights(weights, generator)
    return generator


def main(chosen: EvaluateConfig) -> dict[str, float]:
    # % if cookiecutter.data != "digits"
    run_dir, config = load_run(Config, chosen.run_dir, data_dir=chosen.data_dir)
    # % else
    run_dir, config = load_run(Config, chosen.run_dir)
    # % endif
    with Run(config, record=False) as run:
        splits = load_splits(config)
        judge = train_judge(splits.train, splits.num_classes, run.device)
        reals = getattr(splits, chosen.split).tensors[0].to(run.device)
        loader = load_batches(run, config, splits, chosen.split)
        generator = load_model(config, splits, run_dir / "weights" / f"{chosen.weights}-generator.safetensors")
        scores, images = evaluate(run, run.prepare(generator), judge, loader, reals)
        draw(run, images, run_dir / "samples" / f"{chosen.weights}.png", splits.num_classes)
        run.accelerator.print(json.dumps({"run_dir": str(run_dir), "split": chosen.split, **scores}))
    return scores


if __name__ == "__main__":
    with exit_with_message():
        main(load_config(EvaluateConfig))
