"""Train a text classifier. The loop at the end is yours: edit it.

    python train.py                           on this machine, whatever it has
    accelerate launch train.py                on several GPUs or machines, the same file
    python train.py --resume auto             go on with the newest run that did not finish

The texts come from `data.py`, their tokens from `tokens.py`, the network from `model.py`; `evaluate.py` tests a run's
best weights.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from accelerate.utils import gather_object
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
from tokens import Tokens, collate


@dataclass
class Config:
    """Every setting of a run: `python train.py --help` lists them, `--config FILE.toml` reads them."""

    # Data
    dataset: str = "nyu-mll/glue"  # a name on the hub, or a folder
    subset: str | None = "mrpc"  # the dataset's configuration; None where it has but one
    text_columns: tuple[str, ...] = ("sentence1", "sentence2")  # one, or two whose texts belong together
    label_column: str = "label"  # holds numbers from 0
    max_length: int = 128  # tokens of a text that are read; the rest is cut off
    word_dropout: float = 0.3  # share of the words of a training text that are left out, others in each epoch
    global_batch_size: int = 32  # samples per step, over all processes and micro-batches
    eval_batch_size: int = 64  # samples per evaluation batch, over all processes
    num_workers: int = 0  # processes that load data, for each process that trains
    limit_batches: int | None = None  # batches of each epoch to use, for a quick try; None is all

    # Model
    vocabulary: int = 8192  # different tokens
    width: int = 64  # numbers that stand for a token between the blocks
    depth: int = 1  # blocks
    heads: int = 2  # of attention in each block

    # Optimization
    epochs: int | None = 20  # passes over the training data; None is until max_steps
    max_steps: int | None = None  # steps after which the run ends; None is off
    accumulate: int = 1  # micro-batches that each process cuts its share of a step into, to save memory
    learning_rate: float = 6e-3  # at its peak
    warmup_ratio: float = 0.07  # first share of all steps, over which the learning rate rises
    weight_decay: float = 0.1  # AdamW's, for each step and learning rate
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
    trackers: tuple[str, ...] = ("wandb",)  # where else metrics go


def compute_loss(model: nn.Module, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss summed over the batch, shape (), and the logits, shape (samples, classes)."""
    tokens, labels = batch
    logits = model(tokens)
    return F.cross_entropy(logits, labels, reduction="sum"), logits


def f1_score(counts: Counter[tuple[int, int]]) -> float:
    """Harmonic mean of precision and recall, from the number of samples of each (label, prediction).

    With two classes it is that of class 1, as GLUE has it; with more, the mean over the classes.
    """
    classes: set[int] = {label for pair in counts for label in pair}
    scores = {}
    for c in sorted(classes):
        hits = counts[c, c]
        labelled = sum(n for (label, _), n in counts.items() if label == c)
        predicted = sum(n for (_, prediction), n in counts.items() if prediction == c)
        scores[c] = 2 * hits / (labelled + predicted)
    return scores.get(1, 0.0) if classes <= {0, 1} else sum(scores.values()) / len(scores)


def evaluate(run: Run, model: nn.Module, loader: Loader) -> dict[str, float]:
    """Return loss, accuracy and F1 over every sample of the loader, each counted once on any number of processes."""
    meter = Meter(run)
    pairs = []  # labels and predictions of each batch, shape (2, samples)
    with run.evaluating(model) as model:  # no gradients; the training mode comes back afterwards
        for batch in run.batches(loader):
            loss, logits = compute_loss(model, batch)
            labels, predictions = batch[1], logits.argmax(-1)
            meter.add(loss=loss, accuracy=(predictions == labels).sum(), count=len(labels))
            if loader.batch_samples:  # 0 in a filler, by which a process takes part where a model is sharded
                pairs.append(torch.stack([labels, predictions]))
    mine = Counter((label, prediction) for pair in pairs for label, prediction in pair.T.tolist())
    counts: Counter[tuple[int, int]] = sum(gather_object([mine]), Counter())  # of all processes
    return {**meter.read(), "f1": f1_score(counts)}


def main(config: Config) -> None:
    """Train as `config` says, on whatever this process was launched on."""
    with Run(config) as run:
        with run.accelerator.local_main_process_first():  # one download on each machine
            splits = make_splits(config.dataset, config.subset, config.text_columns, config.label_column)
        model = make_model(
            config.vocabulary, config.max_length, splits.num_classes, config.width, config.depth, config.heads
        )
        train = Tokens(splits.train, config.vocabulary, config.max_length, config.word_dropout)
        eval = Tokens(splits.eval, config.vocabulary, config.max_length)
        train_loader = run.loader(
            train,
            config.global_batch_size,
            shuffle=True,
            num_workers=config.num_workers,
            collate_fn=collate,
            limit_batches=config.limit_batches,
        )
        eval_loader = run.loader(
            eval,
            config.eval_batch_size,
            num_workers=config.num_workers,
            collate_fn=collate,
            limit_batches=config.limit_batches,
        )
        total_steps = train_loader.total_steps(config.epochs, config.max_steps)
        warmup_steps = round(config.warmup_ratio * total_steps)

        optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
        model, optimizer = run.prepare(model, optimizer)
        schedule = schedules.constant(optimizer, warmup_steps)
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
