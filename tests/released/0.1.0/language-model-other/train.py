"""Train a language model: the next token of a text. The loop at the end is yours: edit it.

    python train.py                           on this machine, whatever it has
    accelerate launch train.py                on several GPUs or machines, the same file
    python train.py --resume auto             go on with the newest run that did not finish

The text comes from `data.py`, the network from `model.py`; `evaluate.py` tests a run's best weights, `sample.py` lets
them write.
"""

from contextlib import ExitStack
from dataclasses import dataclass
import math
from pathlib import Path
from typing import Literal

from paccel.runtime import (
    EMA,
    Checkpoints,
    EarlyStopping,
    Loader,
    Meter,
    Run,
    load_config,
    schedules,
)
import torch
from torch import nn
from torch.nn import functional as F

from data import PADDING, make_splits
from model import count_flops, make_model


@dataclass
class Config:
    """Every setting of a run: `python train.py --help` lists them, `--config FILE.toml` reads them."""

    # Data
    dataset: str = "Salesforce/wikitext"  # a name on the hub, or a folder
    subset: str | None = "wikitext-2-raw-v1"  # the dataset's configuration; None where it has but one
    column: str = "text"  # of the dataset, holds the text
    context: int = 256  # tokens that the model sees at once
    global_batch_size: int = 8  # rows of `context` tokens per step, over all processes and micro-batches
    eval_batch_size: int = 32  # rows per evaluation batch, over all processes
    num_workers: int = 0  # processes that load data, for each process that trains; the rows lie in memory
    limit_batches: int | None = None  # batches of each epoch to use, for a quick try; None is all

    # Model
    model: str = "HuggingFaceTB/SmolLM2-135M"  # a name on the hub, or a folder; its tokenizer is used as well
    pretrained: bool = True  # start from its weights, which are downloaded; else from random ones
    checkpoint_activations: bool = False  # compute blocks again in the backward pass, to save memory

    # Optimization
    epochs: int | None = 1  # passes over the training data; None is until max_steps
    max_steps: int | None = None  # steps after which the run ends; None is off
    accumulate: int = 1  # micro-batches that each process cuts its share of a step into, to save memory
    learning_rate: float = 5e-5  # at its peak
    warmup_ratio: float = 0.07  # first share of all steps, over which the learning rate rises
    weight_decay: float = 0.1  # AdamW's, of matrices, for each step and learning rate
    max_grad_norm: float | None = 1.0  # gradients are scaled down to this norm; None is off
    ema_decay: float = 0.99  # of the weights' moving average, for each step
    patience: int = 5  # evaluations without a lower loss before the run ends
    seed: int = 0  # of the weights, the order of the data and everything random

    # Hardware
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"  # auto: bf16 or fp16 on a GPU, fp32 elsewhere
    compile: bool = False  # the model, with torch.compile
    peak_flops: float | None = None  # of one device each second, for `time/mfu`; None is what is known of it
    deterministic: bool = False  # only algorithms that give the same bits each time, slower on a GPU

    # Record
    log_every: int | None = 20  # steps between lines of training metrics; None is off
    eval_every: int | None = None  # steps between evaluations; None is at the end of each epoch
    save_every: int | None = None  # steps between checkpoints; None is at the end of each epoch
    keep_last: int = 2  # newest checkpoints to keep
    resume: str = "never"  # auto: go on with run_dir or the newest unfinished run; or the PATH of a run or checkpoint
    run_dir: Path | None = None  # everything that the run writes; None is runs/<time>
    time_limit: float | None = None  # seconds after which the run saves and stops with exit code 75; None is off
    trackers: tuple[str, ...] = ("mlflow",)  # where else metrics go
    profile_from: int = 11  # step of this start of the run, counted from 1, that is the first to be profiled
    profile_steps: int = 5  # steps to profile; their trace is in the run directory


def count_tokens(batch: list[torch.Tensor]) -> torch.Tensor:
    """Tokens of a batch that are predicted. Shape (), int64."""
    return (batch[0][:, 1:] != PADDING).sum()


def compute_loss(model: nn.Module, batch: list[torch.Tensor]) -> torch.Tensor:
    """Return the loss in nats, summed over the tokens that are predicted. Shape ()."""
    rows = batch[0]
    read, predicted = rows[:, :-1].clamp(min=0), rows[:, 1:].long()
    logits = model(read.long()).logits
    return F.cross_entropy(logits.flatten(0, 1), predicted.flatten(), ignore_index=PADDING, reduction="sum")


def evaluate(run: Run, model: nn.Module, loader: Loader) -> dict[str, float]:
    """Return the loss per token and the perplexity over every token of the loader, on any number of processes."""
    meter = Meter(run)
    with run.evaluating(model) as model:  # no gradients; the training mode comes back afterwards
        for batch in run.batches(loader):
            meter.add(loss=compute_loss(model, batch), count=count_tokens(batch))
    loss = meter.read()["loss"]  # one exchange between processes, one wait for the device
    return {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}


def make_optimizer(model: nn.Module, config: Config) -> torch.optim.Optimizer:
    """AdamW, which draws matrices to zero and leaves the scales of the norms alone."""
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95))


def main(config: Config) -> None:
    """Train as `config` says, on whatever this process was launched on."""
    with Run(config) as run, ExitStack() as stack:
        with run.accelerator.local_main_process_first():  # one download and one tokenization on each machine
            splits = make_splits(config.dataset, config.subset, config.column, config.model, config.context)
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

        with run.accelerator.local_main_process_first():
            model = make_model(
                config.model,
                splits.vocabulary,
                config.context,
                pretrained=config.pretrained,
                checkpoint_activations=config.checkpoint_activations,
            )
        flops_per_row = count_flops(model, config.context)
        model, optimizer = run.prepare(model, make_optimizer(model, config))
        schedule = schedules.constant(optimizer, warmup_steps)
        ema = EMA(model, decay=config.ema_decay)
        early_stopping = EarlyStopping(config.patience)
        # Of each process; look at a trace with https://ui.perfetto.dev. It ends with the run, however that ends.
        profiler = stack.enter_context(
            torch.profiler.profile(
                schedule=torch.profiler.schedule(
                    wait=max(config.profile_from - 2, 0), warmup=1, active=config.profile_steps, repeat=1
                ),
                on_trace_ready=torch.profiler.tensorboard_trace_handler(str(run.run_dir / "profile")),
                record_shapes=True,
            )
        )
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
            ema=ema,
            early_stopping=early_stopping,
            train_meter=train_meter,
        )
        checkpoints.restore()

        # A step is one update of the weights, from `global_batch_size` rows on however many processes.
        for epoch in run.epochs(config.epochs, config.max_steps):
            model.train()
            for step in run.steps(
                train_loader,
                accumulate=config.accumulate,
                flops_per_sample=flops_per_row,  # for the share of the peak that is used: `time/mfu`
                peak_flops=config.peak_flops,
            ):
                num_tokens = step.total(count_tokens)  # of all micro-batches on all processes
                for batch in step:  # micro-batches; gradients are exchanged on the last one
                    loss = compute_loss(model, batch)  # a sum, not a mean
                    run.backward(loss, count=num_tokens)  # divided once, by the tokens of the whole step
                    train_meter.add(loss=loss, count=count_tokens(batch))
                grad_norm = run.clip_grad_norm(model, config.max_grad_norm)
                learning_rate = schedule.get_last_lr()[0]  # of this step
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
                ema.update()
                profiler.step()

                if step.every(config.log_every):
                    run.log("train", train_meter.read(), learning_rate=learning_rate, grad_norm=grad_norm)
                if step.due(config.eval_every):
                    with ema.swapped_in():
                        scores = evaluate(run, model, eval_loader)
                    run.log("eval", scores)
                    checkpoints.keep_best(scores)
                    if early_stopping.should_stop(scores["loss"]):
                        run.finish(f"no lower eval loss in {config.patience} evaluations")
                if step.due(config.save_every):
                    checkpoints.save()
                if run.stopping():  # a signal or the time limit: all processes agree on the step
                    checkpoints.save()
                    raise run.stopped()  # exit code 75: run again with `--resume auto`
        checkpoints.save_weights("final")


if __name__ == "__main__":
    main(load_config(Config))
