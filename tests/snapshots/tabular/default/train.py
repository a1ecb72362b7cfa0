"""Predict one column of a table from the others. Edit the training loop in `main` as you like.

    python train.py                           on this machine: CPU, GPU or Apple silicon
    accelerate launch train.py                the same file on several GPUs or machines
    python train.py --resume auto             continue the newest unfinished run

Data comes from `data.py`, the model from `model.py`; `evaluate.py` tests the best weights of a run.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from paccel.runtime import (
    Checkpoints,
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

from data import Splits, make_splits
from model import make_model


@dataclass
class Config:
    """The settings of a training run."""

    # Data
    table: Path = Path("data/table.csv")  # CSV file
    target: str = "target"  # column to predict
    categorical: tuple[str, ...] = ("sex",)  # columns with categories; all others are numeric
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
    warmup_ratio: float = 0.07  # fraction of steps for linear warm-up
    weight_decay: float = 0.05  # AdamW weight decay
    max_grad_norm: float | None = 1.0  # gradient clipping: maximum norm; None = off
    seed: int = 0  # random seed for initial weights, data order and augmentation

    # Hardware
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"  # auto = bf16 or fp16 on a GPU, fp32 elsewhere
    compile: bool = False  # compile the model with torch.compile
    deterministic: bool = False  # use deterministic algorithms only; slower on a GPU

    # Record
    log_every: int | None = 20  # steps between log lines; None = off
    eval_every: int | None = None  # steps between evaluations; None = after each epoch
    save_every: int | None = None  # steps between checkpoints; None = after each epoch
    keep_last: int = 2  # number of checkpoints to keep, the newest ones
    resume: str = "never"  # auto = continue run_dir or the newest unfinished run; or the PATH of a run or checkpoint
    run_dir: Path | None = None  # output folder of the run; None = runs/<time>
    time_limit: float | None = None  # save and stop after this many seconds, with exit code 75; None = off
    trackers: tuple[str, ...] = ()  # experiment trackers, such as tensorboard or wandb


def compute_loss(model: nn.Module, batch: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return half the squared error summed over the batch, shape (), and the predictions, shape (rows,)."""
    numbers, categories, targets = batch
    predictions = model(numbers, categories).squeeze(-1)
    return 0.5 * F.mse_loss(predictions, targets, reduction="sum"), predictions


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


def main(config: Config) -> None:
    """Train with the settings of `config`; on several GPUs, every process calls this."""
    with Run(config) as run:
        with run.accelerator.main_process_first():  # one process writes the table
            splits = make_splits(config.table, config.target, config.categorical)
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
        schedule = schedules.cosine(optimizer, total_steps, warmup_steps)
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
            train_meter=train_meter,
        )

        def evaluate_and_log() -> None:
            scores = evaluate(run, model, eval_loader, splits)
            run.log("eval", scores)
            checkpoints.keep_best(scores)

        checkpoints.restore()
        with run.rehearsal():  # evaluate one batch now, so that an error costs no epoch
            checkpoints.check_scores(evaluate(run, model, eval_loader, splits))
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
