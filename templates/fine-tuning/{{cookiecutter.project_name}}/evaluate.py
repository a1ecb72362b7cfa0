"""Evaluate the best weights of a run on held-out data.

    python evaluate.py                                    the newest run, on the test split
    python evaluate.py --run-dir runs/NAME --split eval

`accelerate launch evaluate.py` uses several GPUs or machines, with the same scores up to rounding.
"""

from dataclasses import dataclass
import json
from pathlib import Path
from typing import Literal

from paccel.runtime import Loader, Run, exit_with_message, load_config, load_run, load_weights
from torch import nn

from data import Splits, make_splits
from model import make_model, preprocessing
from train import Config, evaluate


@dataclass
class EvaluateConfig:
    """What to evaluate."""

    run_dir: Path | None = None  # run to evaluate; None = the newest under runs/
    data_dir: Path | None = None  # folder with the data; None = as in training
    split: Literal["train", "eval", "test"] = "test"  # split to evaluate on
    weights: Literal["best", "final"] = "best"  # best: lowest eval loss; final: at the end of training


def load_splits(config: Config) -> Splits:
    """Load the data of a run."""
    return make_splits(config.data_dir, preprocessing(config.model, config.image_size))


def load_batches(run: Run, config: Config, splits: Splits, split: str) -> Loader:
    """Make a loader over one split."""
    return run.loader(getattr(splits, split), config.eval_batch_size, num_workers=config.num_workers)


def load_model(config: Config, splits: Splits, weights: Path) -> nn.Module:
    """Build the model of a run and load its weights from a file."""
    model = make_model(config.model, len(splits.classes))
    load_weights(weights, model)
    return model


def main(chosen: EvaluateConfig) -> dict[str, float]:
    run_dir, config = load_run(Config, chosen.run_dir, data_dir=chosen.data_dir)
    with Run(config, record=False) as run:
        splits = load_splits(config)
        loader = load_batches(run, config, splits, chosen.split)
        model = load_model(config, splits, run_dir / "weights" / f"{chosen.weights}.safetensors")
        scores = evaluate(run, run.prepare(model), loader)
        run.accelerator.print(json.dumps({"run_dir": str(run_dir), "split": chosen.split, **scores}))
    return scores


if __name__ == "__main__":
    with exit_with_message():
        main(load_config(EvaluateConfig))
