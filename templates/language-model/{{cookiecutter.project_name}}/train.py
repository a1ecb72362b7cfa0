"""Train a language model: the next token of a text. The loop at the end is yours: edit it.

    python train.py                           on this machine, whatever it has
    accelerate launch train.py                on several GPUs or machines, the same file
    python train.py --resume auto             go on with the newest run that did not finish

The text comes from `data.py`, the network from `model.py`; `evaluate.py` tests a run's best weights, `sample.py` lets
them write.
"""

# % if cookiecutter.profile
from contextlib import ExitStack
# % endif
from dataclasses import dataclass
import math
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

from data import PADDING, make_splits
from model import count_flops, make_model

# % if cookiecutter.data != "huggingface"
# % set eval_every = 500
# % endif

@dataclass
class Config:
    """Every setting of a run: `python train.py --help` lists them, `--config FILE.toml` reads them."""

    # Data
    # % if cookiecutter.data == "folder"
    data_dir: Path = Path("data")  # holds the folders train, eval and test
    # % elif cookiecutter.data == "huggingface"
    dataset: str = "Salesforce/wikitext"  # a name on the hub, or a folder
    subset: str | None = "wikitext-2-raw-v1"  # the dataset's configuration; None where it has but one
    column: str = "text"  # of the dataset, holds the text
    # % endif
    context: int = {{ 256 if cookiecutter.data == "huggingface" else 128 }}  # tokens that the model sees at once
    global_batch_size: int = {{ 8 if cookiecutter.data == "huggingface" else 16 }}  # rows of `context` tokens per step, over all processes and micro-batches
    eval_batch_size: int = 32  # rows per evaluation batch, over all processes
    num_workers: int = 0  # processes that load data, for each process that trains; the rows lie in memory
    limit_batches: int | None = None  # batches of each epoch to use, for a quick try; None is all

    # Model
    # % if cookiecutter.data == "huggingface"
    model: str = "HuggingFaceTB/SmolLM2-135M"  # a name on the hub, or a folder; its tokenizer is used as well
    pretrained: bool = True  # start from its weights, which are downloaded; else from random ones
    # % else
    width: int = 128  # numbers that stand for a token between the blocks
    depth: int = 2  # blocks
    heads: int = 4  # of attention in each block
    # % endif
    checkpoint_activations: bool = False  # compute blocks again in the backward pass, to save memory

    # Optimization
    # % if cookiecutter.data == "huggingface"
    epochs: int | None = 1  # passes over the training data; None is until max_steps
    max_steps: int | None = None  # steps after which the run ends; None is off
    # % else
    epochs: int | None = None  # passes over the training data; None is until max_steps
    max_steps: int | None = 2500  # steps after which the run ends; None is off
    # % endif
    accumulate: int = 1  # micro-batches that each process cuts its share of a step into, to save memory
    learning_rate: float = {{ "5e-5" if cookiecutter.data == "huggingface" else "7e-3" }}  # at its peak
    # % include "train/config_schedule.py"
    weight_decay: float = 0.1  # AdamW's, of matrices, for each step and learning rate
    max_grad_norm: float | None = 1.0  # gradients are scaled down to this norm; None is off
    # % include "train/config_extras.py"
    seed: int = 0  # of the weights, the order of the data and everything random

    # % set counts_flops = true
    # % include "train/config_hardware_and_record.py"


def count_tokens(batch: list[torch.Tensor]) -> torch.Tensor:
    """Tokens of a batch that are predicted. Shape (), int64."""
    return (batch[0][:, 1:] != PADDING).sum()


def compute_loss(model: nn.Module, batch: list[torch.Tensor]) -> torch.Tensor:
    """Return the loss in nats, summed over the tokens that are predicted. Shape ()."""
    rows = batch[0]
    read, predicted = rows[:, :-1].clamp(min=0), rows[:, 1:].long()
    # % if cookiecutter.data == "huggingface"
    logits = model(read.long()).logits
    # % else
    logits = model(read)
    # % endif
    return F.cross_entropy(logits.flatten(0, 1), predicted.flatten(), ignore_index=PADDING, reduction="sum")


def evaluate(run: Run, model: nn.Module, loader: Loader) -> dict[str, float]:
    # % if cookiecutter.data == "huggingface"
    """Return the loss per token and the perplexity over every token of the loader, on any number of processes."""
    # % else
    """Return the loss and the bits per byte over every byte of the loader, on any number of processes."""
    # % endif
    meter = Meter(run)
    with run.evaluating(model) as model:  # no gradients; the training mode comes back afterwards
        for batch in run.batches(loader):
            meter.add(loss=compute_loss(model, batch), count=count_tokens(batch))
    loss = meter.read()["loss"]  # one exchange between processes, one wait for the device
    # % if cookiecutter.data == "huggingface"
    return {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}
    # % else
    return {"loss": loss, "bits_per_byte": loss / math.log(2)}
    # % endif


def make_optimizer(model: nn.Module, config: Config) -> torch.optim.Optimizer:
    """AdamW, which draws matrices to zero and leaves the scales of the norms alone."""
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95))


def main(config: Config) -> None:
    """Train as `config` says, on whatever this process was launched on."""
    with Run(config) as run{{ ", ExitStack() as stack" if cookiecutter.profile }}:
        # % if cookiecutter.data == "huggingface"
        with run.accelerator.local_main_process_first():  # one download and one tokenization on each machine
            splits = make_splits(config.dataset, config.subset, config.column, config.model, config.context)
        # % elif cookiecutter.data == "folder"
        splits = make_splits(config.data_dir, config.context)
        # % else
        splits = make_splits(config.context)
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

        # % if cookiecutter.data == "huggingface"
        with run.accelerator.local_main_process_first():
            model = make_model(
                config.model,
                splits.vocabulary,
                config.context,
                pretrained=config.pretrained,
                checkpoint_activations=config.checkpoint_activations,
            )
        # % else
        model = make_model(
            splits.vocabulary,
            config.context,
            config.width,
            config.depth,
            config.heads,
            checkpoint_activations=config.checkpoint_activations,
        )
        # % endif
        flops_per_row = count_flops(model, config.context)
        model, optimizer = run.prepare(model, make_optimizer(model, config))
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
                # % include "train/extras_step.py"

                if step.every(config.log_every):
                    run.log("train", train_meter.read(), learning_rate=learning_rate, grad_norm=grad_norm)
                # % include "train/loop_tail.py"
        checkpoints.save_weights("final")


if __name__ == "__main__":
    main(load_config(Config))
