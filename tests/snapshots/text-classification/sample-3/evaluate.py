"""Evaluate the best weights of a run on held-out data.

    python evaluate.py                                    the newest run, on the test split
    python evaluate.py --run-dir runs/NAME --split eval

`accelerate launch evaluate.py` does so on several GPUs or machines: the same scores, but for rounding.
"""

from dataclasses import dataclass
import json
from pathlib import Path
from typing import Literal

from paccel.runtime import Loader, Run, load_config, load_run, load_weights
from torch import nn

from data import Splits, make_splits
from model import make_model
from tokens import Tokens, make_tokenizer
from train import Config, evaluate


@dataclass
class EvaluateConfig:
    """What to evaluate."""

    run_dir: Path | None = None  # the run; None is the newest one under runs/
    split: Literal["train", "eval", "test"] = "test"  # the part of the data
    weights: Literal["best", "final"] = "best"  # the best by eval accuracy, or those at the end


def load_splits(config: Config) -> Splits:
    """The data of a run."""
    return make_splits()


def load_batches(run: Run, config: Config, splits: Splits, split: str) -> Loader:
    """The batches of one part of the data."""
    tokenizer = make_tokenizer(config.model, config.max_length)
    samples = Tokens(getattr(splits, split), tokenizer, config.max_length)
    return run.loader(samples, config.eval_batch_size, num_workers=config.num_workers, collate_fn=samples.collate)


def load_model(config: Config, splits: Splits, weights: Path) -> nn.Module:
    """The network of a run, with the weights of a file."""
    model = make_model(config.model, splits.num_classes, config.max_length)
    load_weights(weights, model)
    return model


def main(chosen: EvaluateConfig) -> dict[str, float]:
    run_dir, config = load_run(Config, chosen.run_dir)
    with Run(config, record=False) as run:
        splits = load_splits(config)
        loader = load_batches(run, config, splits, chosen.split)
        model = load_model(config, splits, run_dir / "weights" / f"{chosen.weights}.safetensors")
        scores = evaluate(run, run.prepare(model), loader)
        run.accelerator.print(json.dumps({"run_dir": str(run_dir), "split": chosen.split, **scores}))
    return scores


if __name__ == "__main__":
    main(load_config(EvaluateConfig))
