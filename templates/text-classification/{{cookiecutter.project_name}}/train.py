"""Train a text classifier. The loop at the end is yours: edit it.

    python train.py                           on this machine, whatever it has
    accelerate launch train.py                on several GPUs or machines, the same file
    python train.py --resume auto             go on with the newest run that did not finish

The texts come from `data.py`, their tokens from `tokens.py`, the network from `model.py`; `evaluate.py` tests a run's
best weights.
"""

from collections import Counter
# % if cookiecutter.profile
from contextlib import ExitStack
# % endif
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from accelerate.utils import gather_object
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

from data import make_splits
from model import make_model
# % if cookiecutter.model == "pretrained"
from tokens import Tokens, make_tokenizer
# % else
from tokens import Tokens, collate
# % endif


@dataclass
class Config:
    """Every setting of a run: `python train.py --help` lists them, `--config FILE.toml` reads them."""

    # Data
    # % if cookiecutter.data == "csv"
    data_dir: Path = Path("data")  # holds train.csv and test.csv
    text_column: str = "text"  # of the files
    label_column: str = "label"  # of the files; any words are classes
    # % elif cookiecutter.data == "huggingface"
    dataset: str = "nyu-mll/glue"  # a name on the hub, or a folder
    subset: str | None = "mrpc"  # the dataset's configuration; None where it has but one
    text_columns: tuple[str, ...] = ("sentence1", "sentence2")  # one, or two whose texts belong together
    label_column: str = "label"  # holds numbers from 0
    # % endif
    max_length: int = 128  # tokens of a text that are read; the rest is cut off
    # % if cookiecutter.model == "transformer"
    word_dropout: float = 0.3  # share of the words of a training text that are left out, others in each epoch
    # % endif
    global_batch_size: int = 32  # samples per step, over all processes and micro-batches
    eval_batch_size: int = 64  # samples per evaluation batch, over all processes
    num_workers: int = 0  # processes that load data, for each process that trains
    limit_batches: int | None = None  # batches of each epoch to use, for a quick try; None is all

    # Model
    # % if cookiecutter.model == "pretrained"
    model: str = "google-bert/bert-base-cased"  # a name on the hub, or a folder; its tokenizer is used as well
    pretrained: bool = True  # start from its weights, which are downloaded; else from random ones
    # % else
    vocabulary: int = 8192  # different tokens
    width: int = 64  # numbers that stand for a token between the blocks
    depth: int = 1  # blocks
    heads: int = 2  # of attention in each block
    # % endif

    # Optimization
    epochs: int | None = {{ 3 if cookiecutter.model == "pretrained" else 20 }}  # passes over the training data; None is until max_steps
    max_steps: int | None = None  # steps after which the run ends; None is off
    accumulate: int = 1  # micro-batches that each process cuts its share of a step into, to save memory
    learning_rate: float = {{ "2e-5" if cookiecutter.model == "pretrained" else "6e-3" }}  # at its peak
    # % include "train/config_schedule.py"
    weight_decay: float = {{ "0.01" if cookiecutter.model == "pretrained" else "0.1" }}  # AdamW's, for each step and learning rate
    max_grad_norm: float | None = 1.0  # gradients are scaled down to this norm; None is off
    # % include "train/config_extras.py"
    seed: int = 0  # of the weights, the order of the data and everything random

    # % include "train/config_hardware_and_record.py"


# % if cookiecutter.model == "pretrained"
def compute_loss(model: nn.Module, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss summed over the batch, shape (), and the logits, shape (samples, classes)."""
    inputs, labels = batch
    logits = model(**inputs).logits
    return F.cross_entropy(logits, labels, reduction="sum"), logits
# % else
def compute_loss(model: nn.Module, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss summed over the batch, shape (), and the logits, shape (samples, classes)."""
    tokens, labels = batch
    logits = model(tokens)
    return F.cross_entropy(logits, labels, reduction="sum"), logits
# % endif


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
    with Run(config) as run{{ ", ExitStack() as stack" if cookiecutter.profile }}:
        # % if cookiecutter.data == "huggingface"
        with run.accelerator.local_main_process_first():  # one download on each machine
            splits = make_splits(config.dataset, config.subset, config.text_columns, config.label_column)
        # % elif cookiecutter.data == "csv"
        splits = make_splits(config.data_dir, config.text_column, config.label_column)
        # % else
        splits = make_splits()
        # % endif
        # % if cookiecutter.model == "pretrained"
        with run.accelerator.local_main_process_first():
            tokenizer = make_tokenizer(config.model, config.max_length)
            model = make_model(config.model, splits.num_classes, config.max_length, pretrained=config.pretrained)
        train, eval = (Tokens(samples, tokenizer, config.max_length) for samples in (splits.train, splits.eval))
        # % else
        model = make_model(
            config.vocabulary, config.max_length, splits.num_classes, config.width, config.depth, config.heads
        )
        train = Tokens(splits.train, config.vocabulary, config.max_length, config.word_dropout)
        eval = Tokens(splits.eval, config.vocabulary, config.max_length)
        # % endif
        train_loader = run.loader(
            train,
            config.global_batch_size,
            shuffle=True,
            num_workers=config.num_workers,
            collate_fn={{ "train.collate" if cookiecutter.model == "pretrained" else "collate" }},
            limit_batches=config.limit_batches,
        )
        eval_loader = run.loader(
            eval,
            config.eval_batch_size,
            num_workers=config.num_workers,
            collate_fn={{ "eval.collate" if cookiecutter.model == "pretrained" else "collate" }},
            limit_batches=config.limit_batches,
        )
        total_steps = train_loader.total_steps(config.epochs, config.max_steps)
        warmup_steps = round(config.warmup_ratio * total_steps)

        optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
        model, optimizer = run.prepare(model, optimizer)
        # % include "train/schedule.py"
        # % include "train/extras.py"
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
            # % include "train/extras_state.py"
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
                # % include "train/extras_step.py"

                if step.every(config.log_every):
                    run.log("train", train_meter.read(), learning_rate=learning_rate, grad_norm=grad_norm)
                # % include "train/loop_tail.py"
        checkpoints.save_weights("final")


if __name__ == "__main__":
    main(load_config(Config))
