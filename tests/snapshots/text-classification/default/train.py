"""Train a text classifier. Edit the training loop in `main` as you like.

    python train.py                           on this machine: CPU, GPU or Apple silicon
    accelerate launch train.py                the same file on several GPUs or machines
    python train.py --resume auto             continue the newest unfinished run

Data comes from `data.py`, tokens from `tokens.py`, the model from `model.py`; `evaluate.py` tests the best weights of a
run.
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
    exit_with_message,
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
    """The settings of a training run."""

    # Data
    max_length: int = 128  # tokens per text; longer texts are truncated
    word_dropout: float = 0.3  # fraction of training words dropped at random, redrawn in each epoch
    global_batch_size: int = 32  # samples per step, over all processes and micro-batches
    eval_batch_size: int = 64  # samples per evaluation batch, over all processes
    num_workers: int = 0  # DataLoader workers per process
    limit_batches: int | None = None  # batches per epoch, for a quick try; None = all

    # Model
    vocabulary: int = 8192  # vocabulary size
    width: int = 64  # embedding size
    depth: int = 1  # number of transformer blocks
    heads: int = 2  # attention heads per block

    # Optimization
    epochs: int | None = 20  # epochs to train; None = until max_steps
    max_steps: int | None = None  # steps to train; None = until the epochs are done
    accumulate: int = 1  # gradient accumulation: micro-batches per step
    micro_batch_size: int | None = None  # samples per micro-batch and process, instead of accumulate
    learning_rate: float = 6e-3  # at its peak
    warmup_ratio: float = 0.07  # fraction of steps for linear warm-up
    weight_decay: float = 0.1  # AdamW weight decay
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


def compute_loss(model: nn.Module, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss summed over the batch, shape (), and the logits, shape (samples, classes)."""
    tokens, labels = batch
    logits = model(tokens)
    return F.cross_entropy(logits, labels, reduction="sum"), logits


def f1_score(counts: Counter[tuple[int, int]]) -> float:
    """Compute F1, the harmonic mean of precision and recall, from the counts of (label, prediction).

    With two classes: F1 of class 1, as in GLUE. With more: the macro average over the classes.
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
    """Return loss, accuracy and F1 over the loader, counting every sample once on any number of processes."""
    meter = Meter(run)
    pairs = []  # labels and predictions per batch, shape (2, samples)
    with run.evaluating(model) as model:  # eval mode, no gradients; restored afterwards
        for batch in run.batches(loader):
            loss, logits = compute_loss(model, batch)
            labels, predictions = batch[1], logits.argmax(-1)
            meter.add(loss=loss, accuracy=(predictions == labels).sum(), count=len(labels))
            if loader.batch_samples:  # skip padding batches (only with sharded models)
                pairs.append(torch.stack([labels, predictions]))
    mine = Counter((label, prediction) for pair in pairs for label, prediction in pair.T.tolist())
    counts: Counter[tuple[int, int]] = sum(gather_object([mine]), Counter())  # over all processes
    return {**meter.read(), "f1": f1_score(counts)}


def main(config: Config) -> None:
    """Train with the settings of `config`; on several GPUs, every process calls this."""
    with Run(config) as run:
        splits = make_splits()
        model = make_model(config, splits)
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
        schedule = schedules.cosine(optimizer, total_steps, warmup_steps)
        train_meter = Meter(run)

        # Everything listed here is checkpointed and restored on resume.
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

        def evaluate_and_log() -> None:
            scores = evaluate(run, model, eval_loader)
            run.log("eval", scores)
            checkpoints.keep_best(scores)

        checkpoints.restore()
        with run.rehearsal():  # evaluate one batch now, so that an error costs no epoch
            checkpoints.check_scores(evaluate(run, model, eval_loader))
        if checkpoints.evaluation_is_due:  # the run ended between a checkpoint and its evaluation
            evaluate_and_log()

        # One step = one optimizer update over global_batch_size samples, across all processes.
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
