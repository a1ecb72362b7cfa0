"""Train a language model. Edit the training loop in `main` as you like.

    python train.py                           on this machine: CPU, GPU or Apple silicon
    accelerate launch train.py                the same file on several GPUs or machines
    python train.py --resume auto             continue the newest unfinished run

Data comes from `data.py`, the model from `model.py`; `evaluate.py` tests the best weights of a run, and `sample.py`
generates text with them.
"""

from dataclasses import dataclass
import math
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
from paccel.runtime.tokens import PADDING
import torch
from torch import nn
from torch.nn import functional as F

from data import make_splits
from model import count_flops, make_model


@dataclass
class Config:
    """The settings of a training run."""

    # Data
    tokens_dir: Path = Path("data/tokens")  # token files, written at the first start
    mask_documents: bool = False  # no attention between documents packed into one sequence
    context: int = 128  # context length, in tokens
    global_batch_size: int = 16  # effective batch size: sequences per step, over all processes and micro-batches
    eval_batch_size: int = 32  # sequences per evaluation batch, over all processes
    num_workers: int = 0  # DataLoader workers per process; the data is memory-mapped
    limit_batches: int | None = None  # batches per epoch, for a quick try; None = all

    # Model
    width: int = 128  # embedding size
    depth: int = 2  # number of transformer blocks
    heads: int = 4  # attention heads per block
    checkpoint_activations: bool = False  # activation checkpointing: recompute blocks to save memory

    # Optimization
    epochs: int | None = None  # epochs to train; None = until max_steps
    max_steps: int | None = 2500  # steps to train; None = until the epochs are done
    accumulate: int = 1  # gradient accumulation: micro-batches per step
    micro_batch_size: int | None = None  # samples per micro-batch and process, instead of accumulate
    learning_rate: float = 7e-3  # at its peak
    warmup_ratio: float = 0.07  # fraction of steps for linear warm-up
    weight_decay: float = 0.1  # AdamW weight decay, of matrices only
    max_grad_norm: float | None = 1.0  # gradient clipping: maximum norm; None = off
    seed: int = 0  # random seed for initial weights, data order and augmentation

    # Hardware
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"  # auto = bf16 or fp16 on a GPU, fp32 elsewhere
    compile: bool = False  # compile the model with torch.compile
    deterministic: bool = False  # use deterministic algorithms only; slower on a GPU
    peak_flops: float | None = None  # peak FLOP/s of one device, for `time/mfu`; None = look it up

    # Record
    log_every: int | None = 20  # steps between log lines; None = off
    eval_every: int | None = 500  # steps between evaluations; None = after each epoch
    save_every: int | None = 500  # steps between checkpoints; None = after each epoch
    keep_last: int = 2  # number of checkpoints to keep, the newest ones
    resume: str = "never"  # auto = continue run_dir or the newest unfinished run; or the PATH of a run or checkpoint
    run_dir: Path | None = None  # output folder of the run; None = runs/<time>
    time_limit: float | None = None  # save and stop after this many seconds, with exit code 75; None = off
    trackers: tuple[str, ...] = ()  # experiment trackers, such as tensorboard or wandb


def count_tokens(batch: list[torch.Tensor]) -> torch.Tensor:
    """Count the predicted tokens of a batch. Shape (), int64."""
    return (batch[1] != PADDING).sum()


def compute_loss(model: nn.Module, batch: list[torch.Tensor]) -> torch.Tensor:
    """Return the loss in nats, summed over the predicted tokens. Shape ()."""
    inputs, targets, *documents = batch
    logits = model(inputs, *documents)
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=PADDING, reduction="sum")


def evaluate(run: Run, model: nn.Module, loader: Loader) -> dict[str, float]:
    """Return loss and bits per byte over the loader, counting every byte once on any number of processes."""
    meter = Meter(run)
    with run.evaluating(model) as model:  # eval mode, no gradients; restored afterwards
        for batch in run.batches(loader):
            meter.add(loss=compute_loss(model, batch), count=count_tokens(batch))
    loss = meter.read()["loss"]  # one all-reduce over processes, one device sync
    return {"loss": loss, "bits_per_byte": loss / math.log(2)}


def make_optimizer(model: nn.Module, config: Config) -> torch.optim.Optimizer:
    """Make AdamW with weight decay on matrices but not on norms."""
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95))


def main(config: Config) -> None:
    """Train with the settings of `config`; on several GPUs, every process calls this."""
    with Run(config) as run:
        with run.accelerator.local_main_process_first():  # one process per machine tokenizes, if it has to be done
            splits = make_splits(config.context, config.tokens_dir, config.mask_documents)
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
        flops_per_row = count_flops(model, config.context)
        model, optimizer = run.prepare(model, make_optimizer(model, config))
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
            scores = evaluate(run, model, eval_loader)
            run.log("eval", scores)
            checkpoints.keep_best(scores)

        checkpoints.restore()
        with run.rehearsal():  # evaluate one batch now, so that an error costs no epoch
            checkpoints.check_scores(evaluate(run, model, eval_loader))
        if checkpoints.evaluation_is_due:  # the run ended between a checkpoint and its evaluation
            evaluate_and_log()

        # One step = one optimizer update over global_batch_size sequences, across all processes.
        for epoch in run.epochs(config.epochs, config.max_steps):
            model.train()
            for step in run.steps(
                train_loader,
                config.accumulate,
                micro_batch_size=config.micro_batch_size,
                flops_per_sample=flops_per_row,  # for model FLOPs utilization, `time/mfu`
                peak_flops=config.peak_flops,
            ):
                num_tokens = step.total(count_tokens)  # over all micro-batches and processes
                for batch in step:  # micro-batches; gradients are synchronized on the last one
                    loss = compute_loss(model, batch)  # a sum, not a mean
                    run.backward(loss, count=num_tokens)  # divided once, by the tokens of the whole step
                    train_meter.add(loss=loss, count=count_tokens(batch))
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
