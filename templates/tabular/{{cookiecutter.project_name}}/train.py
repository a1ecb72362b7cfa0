"""Predict one column of a table from the others. Edit the training loop in `main` as you like.

    python train.py                           on this machine: CPU, GPU or Apple silicon
    accelerate launch train.py                the same file on several GPUs or machines
    python train.py --resume auto             continue the newest unfinished run

Data comes from `data.py`, the model from `model.py`; `evaluate.py` tests the best weights of a run.
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
    exit_with_message,
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
    """The settings of a training run."""

    # Data
    table: Path = Path("data/table.csv")  # CSV file
    target: str = "target"  # column to predict
    # % if cookiecutter.data == "sample" and cookiecutter.task == "regression"
    categorical: tuple[str, ...] = ("sex",)  # columns with categories; all others are numeric
    # % else
    categorical: tuple[str, ...] = ()  # columns with categories; all others are numeric
    # % endif
    global_batch_size: int = 32  # samples per step, over all processes and micro-batches
    eval_batch_size: int = 512  # samples per evaluation batch, over all processes
    num_workers: int = 0  # DataLoader workers per process; the data is in memory
    limit_batches: int | None = None  # batches per epoch, for a quick try; None = all

    # Model
    width: int = 64  # size of the hidden layers
    dropout: float = 0.0  # dropout probability; each process draws its own mask

    # Optimization
    epochs: int | None = 20  # epochs to train; None = until max_steps
    max_steps: int | None = None  # steps to train; None = until the epochs are done
    accumulate: int = 1  # gradient accumulation: micro-batches per step
    micro_batch_size: int | None = None  # samples per micro-batch and process, instead of accumulate
    learning_rate: float = 1e-3  # at its peak
    # % include "train/config_schedule.py"
    weight_decay: float = 0.05  # AdamW weight decay
    max_grad_norm: float | None = 1.0  # gradient clipping: maximum norm; None = off
    seed: int = 0  # random seed for initial weights, data order and augmentation
    # % include "train/config_extras.py"

    # Hardware
    # % include "train/config_hardware.py"

    # Record
    log_every: int | None = 20  # steps between log lines; None = off
    eval_every: int | None = None  # steps between evaluations; None = after each epoch
    save_every: int | None = None  # steps between checkpoints; None = after each epoch
    # % include "train/config_record.py"


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
    """Return loss, mean absolute error in units of the target, and R², counting every row once."""
    meter = Meter(run)
    with run.evaluating(model) as model:  # eval mode, no gradients; restored afterwards
        for batch in run.batches(loader):
            loss, predictions = compute_loss(model, batch)
            targets = batch[-1]
            error = (predictions - targets).abs().sum()
            meter.add(loss=loss, error=error, target=targets.sum(), square=targets.square().sum(), count=len(targets))
    means = meter.read()  # one all-reduce over processes, one device sync
    variance = means["square"] - means["target"] ** 2
    r2 = 1 - 2 * means["loss"] / variance if variance else float("nan")
    return {"loss": means["loss"], "mean_absolute_error": means["error"] * splits.scale, "r2": r2}
# % else
def evaluate(run: Run, model: nn.Module, loader: Loader) -> dict[str, float]:
    """Return loss and accuracy over the loader, counting every row once on any number of processes."""
    meter = Meter(run)
    with run.evaluating(model) as model:  # eval mode, no gradients; restored afterwards
        for batch in run.batches(loader):
            loss, logits = compute_loss(model, batch)
            labels = batch[-1]
            meter.add(loss=loss, accuracy=(logits.argmax(-1) == labels).sum(), count=len(labels))
    return meter.read()  # one all-reduce over processes, one device sync
# % endif


def main(config: Config) -> None:
    """Train with the settings of `config`; on several GPUs, every process calls this."""
    with Run(config) as run{{ ", ExitStack() as stack" if cookiecutter.profile }}:
        # % if cookiecutter.data == "sample"
        with run.accelerator.main_process_first():  # one process writes the table
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

        model = make_model(config, splits)
        optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
        model, optimizer = run.prepare(model, optimizer)
        # % include "train/schedule.py"
        # % if cookiecutter.ema
        ema = EMA(model, decay=config.ema_decay)
        # % endif
        # % if cookiecutter.early_stopping
        early_stopping = EarlyStopping(config.patience)
        # % endif
        # % include "train/profiler.py"
        train_meter = Meter(run)

        # Everything listed here is checkpointed and restored on resume.
        checkpoints = Checkpoints(
            run,
            keep_last=config.keep_last,
            best="loss",
            mode="min",
            model=model,
            optimizer=optimizer,
            schedule=schedule,
            # % if cookiecutter.ema
            ema=ema,
            # % endif
            # % if cookiecutter.early_stopping
            early_stopping=early_stopping,
            # % endif
            train_meter=train_meter,
        )

        def evaluate_and_log() -> None:
            # % if cookiecutter.ema
            with ema.swapped_in():
                scores = evaluate(run, model, eval_loader{{ ", splits" if cookiecutter.task == "regression" }})
            # % else
            scores = evaluate(run, model, eval_loader{{ ", splits" if cookiecutter.task == "regression" }})
            # % endif
            run.log("eval", scores)
            checkpoints.keep_best(scores)
            # % if cookiecutter.early_stopping
            if early_stopping.should_stop(scores["loss"]):
                run.finish(f"no lower eval loss in {config.patience} evaluations")
            # % endif

        checkpoints.restore()
        with run.rehearsal():  # evaluate one batch now, so that an error costs no epoch
            checkpoints.check_scores(evaluate(run, model, eval_loader{{ ", splits" if cookiecutter.task == "regression" }}))
        if checkpoints.evaluation_is_due:  # the run ended between a checkpoint and its evaluation
            evaluate_and_log()

        # One step = one optimizer update over global_batch_size rows, across all processes.
        for epoch in run.epochs(config.epochs, config.max_steps):
            model.train()
            for step in run.steps(train_loader, config.accumulate, micro_batch_size=config.micro_batch_size):
                for batch in step:  # micro-batches; gradients are synchronized on the last one
                    loss, _ = compute_loss(model, batch)  # a sum, not a mean
                    run.backward(loss, count=step.num_samples)  # divided once, by the whole global batch
                    train_meter.add(loss=loss, count=step.micro_batch_samples)
                grad_norm = run.clip_grad_norm(model, config.max_grad_norm)
                learning_rate = schedule.get_last_lr()[0]  # of this step
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
                # % if cookiecutter.ema
                ema.update()
                # % endif
                # % if cookiecutter.profile
                profiler.step()
                # % endif

                if step.every(config.log_every):
                    run.log("train", train_meter.read(), learning_rate=learning_rate, grad_norm=grad_norm)
                evaluation_is_due = step.due(config.eval_every)
                if step.due(config.save_every):
                    checkpoints.save(then_evaluate=evaluation_is_due)
                if evaluation_is_due:
                    evaluate_and_log()
                if run.stopping():  # on a signal or the time limit; all processes agree on the step
                    checkpoints.save()
                    raise run.stopped()  # exit code 75: run again with `--resume auto`
        checkpoints.save_weights("final")


if __name__ == "__main__":
    with exit_with_message():
        main(load_config(Config))
