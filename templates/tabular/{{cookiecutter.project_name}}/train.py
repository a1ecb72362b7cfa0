"""Predict a column of a table from the others. The loop at the end is yours: edit it.

    python train.py                           on this machine, whatever it has
    accelerate launch train.py                on several GPUs or machines, the same file
    python train.py --resume auto             go on with the newest run that did not finish

The table comes from `data.py`, the network from `model.py`; `evaluate.py` tests a run's best weights.
"""

# % if cookiecutter.profile
from contextlib import ExitStack
# % endif
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from paccel.runtime import (
    # % if cookiecutter.ema
    EMA,
    # % endif
    Checkpoints,
    # % if cookiecutter.early_stopping
    EarlyStopping,
    # % endif
    Loader,
    Meter,
    Run,
    load_config,
    schedules,
)
import torch
from torch import nn
from torch.nn import functional as F

from data import {{ 'Splits, ' if cookiecutter.task == 'regression' }}make_splits
from model import make_model


@dataclass
class Config:
    """Every setting of a run: `python train.py --help` lists them, `--config FILE.toml` reads them."""

    # Data
    table: Path = Path("data/table.csv")  # the CSV file
    target: str = "target"  # the column to predict
    # % if cookiecutter.data == "sample" and cookiecutter.task == "regression"
    categorical: tuple[str, ...] = ("sex",)  # columns whose cells are categories; all others hold numbers
    # % else
    categorical: tuple[str, ...] = ()  # columns whose cells are categories; all others hold numbers
    # % endif
    global_batch_size: int = 32  # samples per step, over all processes and micro-batches
    eval_batch_size: int = 512  # samples per evaluation batch, over all processes
    num_workers: int = 0  # processes that load data, for each process that trains; the table lies in memory
    limit_batches: int | None = None  # batches of each epoch to use, for a quick try; None is all

    # Model
    width: int = 64  # of the hidden layers
    dropout: float = 0.0  # share of hidden values left out in training; above 0, processes draw their own

    # Optimization
    epochs: int | None = 20  # passes over the training data; None is until max_steps
    max_steps: int | None = None  # steps after which the run ends; None is off
    accumulate: int = 1  # micro-batches that each process cuts its share of a step into, to save memory
    learning_rate: float = 1e-3  # at its peak
    # % include "train/config_schedule.py"
    weight_decay: float = 0.05  # AdamW's, for each step and learning rate
    max_grad_norm: float | None = 1.0  # gradients are scaled down to this norm; None is off
    # % include "train/config_extras.py"
    seed: int = 0  # of the weights, the order of the data and everything random

    # % include "train/config_hardware_and_record.py"


def compute_loss(model: nn.Module, batch: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    # % if cookiecutter.task == "regression"
    """Return half the squared error summed over the batch, shape (), and the predictions, shape (rows,)."""
    numbers, categories, targets = batch
    predictions = model(numbers, categories).squeeze(-1)
    return 0.5 * F.mse_loss(predictions, targets, reduction="sum"), predictions
    # % else
    """Return the loss summed over the batch, shape (), and the logits, shape (rows, classes)."""
    numbers, categories, labels = batch
    logits = model(numbers, categories)
    return F.cross_entropy(logits, labels, reduction="sum"), logits
    # % endif


# % if cookiecutter.task == "regression"
def evaluate(run: Run, model: nn.Module, loader: Loader, splits: Splits) -> dict[str, float]:
    """Return loss, mean absolute error in the target's unit, and R², over every row, on any number of processes."""
    meter = Meter(run)
    with run.evaluating(model) as model:  # no gradients; the training mode comes back afterwards
        for batch in run.batches(loader):
            loss, predictions = compute_loss(model, batch)
            targets = batch[-1]
            error = (predictions - targets).abs().sum()
            meter.add(loss=loss, error=error, target=targets.sum(), square=targets.square().sum(), count=len(targets))
    means = meter.read()  # one exchange between processes, one wait for the device
    variance = means["square"] - means["target"] ** 2
    r2 = 1 - 2 * means["loss"] / variance if variance else float("nan")
    return {"loss": means["loss"], "mean_absolute_error": means["error"] * splits.scale, "r2": r2}
# % else
def evaluate(run: Run, model: nn.Module, loader: Loader) -> dict[str, float]:
    """Return loss and accuracy over every row of the loader, each counted once on any number of processes."""
    meter = Meter(run)
    with run.evaluating(model) as model:  # no gradients; the training mode comes back afterwards
        for batch in run.batches(loader):
            loss, logits = compute_loss(model, batch)
            labels = batch[-1]
            meter.add(loss=loss, accuracy=(logits.argmax(-1) == labels).sum(), count=len(labels))
    return meter.read()  # one exchange between processes, one wait for the device
# % endif


def main(config: Config) -> None:
    """Train as `config` says, on whatever this process was launched on."""
    with Run(config) as run{{ ", ExitStack() as stack" if cookiecutter.profile }}:
        # % if cookiecutter.data == "sample"
        with run.accelerator.main_process_first():  # the table is written once
            splits = make_splits(config.table, config.target, config.categorical)
        # % else
        splits = make_splits(config.table, config.target, config.categorical)
        # % endif
        train_loader = run.loader(
            splits.train,
            config.global_batch_size,
            shuffle=True,
            num_workers=config.num_workers,
            limit_batches=config.limit_batches,
        )
        eval_loader = run.loader(
            splits.eval,
            config.eval_batch_size,
            num_workers=config.num_workers,
            limit_batches=config.limit_batches,
        )
        total_steps = train_loader.total_steps(config.epochs, config.max_steps)
        warmup_steps = round(config.warmup_ratio * total_steps)

        outputs = {{ "1" if cookiecutter.task == "regression" else "len(splits.classes)" }}
        model = make_model(splits.num_numeric, splits.category_sizes, outputs, config.width, config.dropout)
        optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
        model, optimizer = run.prepare(model, optimizer)
        # % include "train/schedule.py"
        # % include "train/extras.py"
        train_meter = Meter(run)

        # All that has state: what is named here is saved, and comes back when a run is resumed.
        checkpoints = Checkpoints(
            run,
            keep_last=config.keep_last,
            best="loss",
            mode="min",
            model=model,
            optimizer=optimizer,
            schedule=schedule,
            # % include "train/extras_state.py"
            train_meter=train_meter,
        )
        checkpoints.restore()

        # A step is one update of the weights, from `global_batch_size` rows on however many processes.
        for epoch in run.epochs(config.epochs, config.max_steps):
            model.train()
            for step in run.steps(train_loader, accumulate=config.accumulate):
                for batch in step:  # micro-batches; gradients are exchanged on the last one
                    loss, _ = compute_loss(model, batch)  # a sum, not a mean
                    run.backward(loss, count=step.num_samples)  # divided once, by the whole global batch
                    train_meter.add(loss=loss, count=step.micro_batch_samples)
                grad_norm = run.clip_grad_norm(model, config.max_grad_norm)
                learning_rate = schedule.get_last_lr()[0]  # of this step
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
                # % include "train/extras_step.py"

                if step.every(config.log_every):
                    run.log("train", train_meter.read(), learning_rate=learning_rate, grad_norm=grad_norm)
                # % if cookiecutter.task == "regression"
                # % set evaluation = "evaluate(run, model, eval_loader, splits)"
                # % endif
                # % include "train/loop_tail.py"
        checkpoints.save_weights("final")


if __name__ == "__main__":
    main(load_config(Config))
