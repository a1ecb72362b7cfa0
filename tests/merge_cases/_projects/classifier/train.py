"""Train an image classifier. The loop at the end is yours: edit it.

    python train.py                           on this machine, whatever it has
    accelerate launch train.py                on several GPUs or machines, the same file
    python train.py --resume auto             go on with the newest run that did not finish

The images come from `data.py`, the network from `model.py`; `evaluate.py` tests a run's best weights.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from paccel.runtime import (
    Checkpoints,
    Loader,
    Meter,
    Run,
    load_config,
    schedules,
)
import torch
from torch import nn
from torch.nn import functional as F

from data import make_splits
from model import make_model


@dataclass
class Config:
    """Every setting of a run: `python train.py --help` lists them, `--config FILE.toml` reads them."""

    # Data
    global_batch_size: int = 64  # samples per step, over all processes and micro-batches
    eval_batch_size: int = 512  # samples per evaluation batch, over all processes
    num_workers: int = 0  # processes that load data, for each process that trains
    limit_batches: int | None = None  # batches of each epoch to use, for a quick try; None is all

    # Model
    width: int = 32  # channels of the first stage; each further stage doubles them

    # Optimization
    epochs: int | None = 8  # passes over the training data; None is until max_steps
    max_steps: int | None = None  # steps after which the run ends; None is off
    accumulate: int = 1  # micro-batches that each process cuts its share of a step into, to save memory
    learning_rate: float = 1e-3  # at its peak
    warmup_ratio: float = 0.07  # first share of all steps, over which the learning rate rises
    weight_decay: float = 0.05  # AdamW's, for each step and learning rate
    max_grad_norm: float | None = 1.0  # gradients are scaled down to this norm; None is off
    seed: int = 0  # of the weights, the order of the data and everything random

    # Hardware
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"  # auto: bf16 or fp16 on a GPU, fp32 elsewhere
    compile: bool = False  # the model, with torch.compile
    deterministic: bool = False  # only algorithms that give the same bits each time, slower on a GPU

    # Record
    log_every: int | None = 20  # steps between lines of training metrics; None is off
    eval_every: int | None = None  # steps between evaluations; None is at the end of each epoch
    save_every: int | None = None  # steps between checkpoints; None is at the end of each epoch
    keep_last: int = 2  # newest checkpoints to keep
    resume: str = "never"  # auto: go on with run_dir or the newest unfinished run; or the PATH of a run or checkpoint
    run_dir: Path | None = None  # everything that the run writes; None is runs/<time>
    time_limit: float | None = None  # seconds after which the run saves and stops with exit code 75; None is off
    trackers: tuple[str, ...] = ()  # where else metrics go, such as tensorboard or wandb


def compute_loss(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss summed over the batch, shape (), and the logits, shape (samples, classes)."""
    images, labels = batch
    logits = model(images)
    return F.cross_entropy(logits, labels, reduction="sum"), logits


def evaluate(run: Run, model: nn.Module, loader: Loader) -> dict[str, float]:
    """Return loss and accuracy over every sample of the loader, each counted once on any number of processes."""
    meter = Meter(run)
    with run.evaluating(model) as model:  # no gradients; the training mode comes back afterwards
        for batch in run.batches(loader):
            loss, logits = compute_loss(model, batch)
            labels = batch[1]
            meter.add(loss=loss, accuracy=(logits.argmax(-1) == labels).sum(), count=len(labels))
    return meter.read()  # one exchange between processes, one wait for the device


def main(config: Config) -> None:
    """Train as `config` says, on whatever this process was launched on."""
    with Run(config) as run:
        splits = make_splits()
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

        model = make_model(splits.channels, splits.num_classes, config.width)
        optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
        model, optimizer = run.prepare(model, optimizer)
        schedule = schedules.cosine(optimizer, total_steps, warmup_steps)
        train_meter = Meter(run)

        # All that has state: what is named here is saved, and comes back when a run is resumed.
        checkpoints = Checkpoints(
            run,
            keep_last=config.keep_last,
            best="accuracy",
            mode="max",
            model=model,
            optimizer=optimizer,
            schedule=schedule,
            train_meter=train_meter,
        )
        checkpoints.restore()

        # A step is one update of the weights, from `global_batch_size` samples on however many processes.
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

                if step.every(config.log_every):
                    run.log("train", train_meter.read(), learning_rate=learning_rate, grad_norm=grad_norm)
                if step.due(config.eval_every):
                    scores = evaluate(run, model, eval_loader)
                    run.log("eval", scores)
                    checkpoints.keep_best(scores)
                if step.due(config.save_every):
                    checkpoints.save()
                if run.stopping():  # a signal or the time limit: all processes agree on the step
                    checkpoints.save()
                    raise run.stopped()  # exit code 75: run again with `--resume auto`
        checkpoints.save_weights("final")


if __name__ == "__main__":
    main(load_config(Config))
