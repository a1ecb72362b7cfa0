"""Train a language model. Edit the training loop in `main` as you like.

    python train.py                           on this machine: CPU, GPU or Apple silicon
    accelerate launch train.py                the same file on several GPUs or machines
    python train.py --resume auto             continue the newest unfinished run

Data comes from `data.py`, the model from `model.py`; `evaluate.py` tests the best weights of a run, and `sample.py`
generates text with them.
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
    exit_with_message,
    load_config,
    schedules,
)
# % if cookiecutter.data == "huggingface"
from paccel.runtime.tokens import PADDING, positions_of
# % else
from paccel.runtime.tokens import PADDING
# % endif
import torch
from torch import nn
from torch.nn import functional as F

from data import make_splits
from model import count_flops, make_model


@dataclass
class Config:
    """The settings of a training run."""

    # Data
    # % if cookiecutter.data == "folder"
    data_dir: Path = Path("data")  # folder with subfolders train, eval and test
    tokens_dir: Path | None = None  # token files, written at the first start; None = DATA_DIR/tokens
    # % elif cookiecutter.data == "huggingface"
    dataset: str = "Salesforce/wikitext"  # a dataset on the Hugging Face hub, or a folder
    subset: str | None = "wikitext-2-raw-v1"  # configuration of the dataset; None if it has only one
    column: str = "text"  # column of the dataset with the text
    # % endif
    # % if cookiecutter.data != "folder"
    tokens_dir: Path = Path("data/tokens")  # token files, written at the first start
    # % endif
    mask_documents: bool = False  # no attention between documents packed into one sequence
    context: int = {{ 256 if cookiecutter.data == "huggingface" else 128 }}  # context length, in tokens
    global_batch_size: int = {{ 8 if cookiecutter.data == "huggingface" else 16 }}  # effective batch size: sequences per step, over all processes and micro-batches
    eval_batch_size: int = 32  # sequences per evaluation batch, over all processes
    num_workers: int = 0  # DataLoader workers per process; the data is memory-mapped
    limit_batches: int | None = None  # batches per epoch, for a quick try; None = all

    # Model
    # % if cookiecutter.data == "huggingface"
    model: str = "HuggingFaceTB/SmolLM2-135M"  # a model on the Hugging Face hub, or a folder; used with its tokenizer
    pretrained: bool = True  # start from pretrained weights (downloaded); False = random weights
    # % else
    width: int = 128  # embedding size
    depth: int = 2  # number of transformer blocks
    heads: int = 4  # attention heads per block
    # % endif
    checkpoint_activations: bool = False  # activation checkpointing: recompute blocks to save memory

    # Optimization
    # % if cookiecutter.data == "huggingface"
    epochs: int | None = 1  # epochs to train; None = until max_steps
    max_steps: int | None = None  # steps to train; None = until the epochs are done
    # % else
    epochs: int | None = None  # epochs to train; None = until max_steps
    max_steps: int | None = 2500  # steps to train; None = until the epochs are done
    # % endif
    accumulate: int = 1  # gradient accumulation: micro-batches per step
    micro_batch_size: int | None = None  # samples per micro-batch and process, instead of accumulate
    learning_rate: float = {{ "5e-5" if cookiecutter.data == "huggingface" else "7e-3" }}  # at its peak
    # % include "train/config_schedule.py"
    weight_decay: float = 0.1  # AdamW weight decay, of matrices only
    max_grad_norm: float | None = 1.0  # gradient clipping: maximum norm; None = off
    seed: int = 0  # random seed for initial weights, data order and augmentation
    # % include "train/config_extras.py"

    # Hardware
    # % include "train/config_hardware.py"
    peak_flops: float | None = None  # peak FLOP/s of one device, for `time/mfu`; None = look it up

    # Record
    log_every: int | None = 20  # steps between log lines; None = off
    eval_every: int | None = {{ "None" if cookiecutter.data == "huggingface" else 500 }}  # steps between evaluations; None = after each epoch
    save_every: int | None = {{ "None" if cookiecutter.data == "huggingface" else 500 }}  # steps between checkpoints; None = after each epoch
    # % include "train/config_record.py"


def count_tokens(batch: list[torch.Tensor]) -> torch.Tensor:
    """Count the predicted tokens of a batch. Shape (), int64."""
    return (batch[1] != PADDING).sum()


def compute_loss(model: nn.Module, batch: list[torch.Tensor]) -> torch.Tensor:
    """Return the loss in nats, summed over the predicted tokens. Shape ()."""
    inputs, targets, *documents = batch
    # % if cookiecutter.data == "huggingface"
    # transformers masks by position ids: a document begins where they restart.
    logits = model(inputs.long(), position_ids=positions_of(*documents) if documents else None).logits
    # % else
    logits = model(inputs, *documents)
    # % endif
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=PADDING, reduction="sum")


def evaluate(run: Run, model: nn.Module, loader: Loader) -> dict[str, float]:
    # % if cookiecutter.data == "huggingface"
    """Return loss per token and perplexity over the loader, counting every token once on any number of processes."""
    # % else
    """Return loss and bits per byte over the loader, counting every byte once on any number of processes."""
    # % endif
    meter = Meter(run)
    with run.evaluating(model) as model:  # eval mode, no gradients; restored afterwards
        for batch in run.batches(loader):
            meter.add(loss=compute_loss(model, batch), count=count_tokens(batch))
    loss = meter.read()["loss"]  # one all-reduce over processes, one device sync
    # % if cookiecutter.data == "huggingface"
    return {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}
    # % else
    return {"loss": loss, "bits_per_byte": loss / math.log(2)}
    # % endif


def make_optimizer(model: nn.Module, config: Config) -> torch.optim.Optimizer:
    """Make AdamW with weight decay on matrices but not on norms."""
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95))


def main(config: Config) -> None:
    """Train with the settings of `config`; on several GPUs, every process calls this."""
    with Run(config) as run{{ ", ExitStack() as stack" if cookiecutter.profile }}:
        with run.accelerator.local_main_process_first():  # one process per machine tokenizes, if it has to be done
            # % if cookiecutter.data == "huggingface"
            splits = make_splits(
                config.dataset,
                config.subset,
                config.column,
                config.model,
                config.context,
                config.tokens_dir,
                config.mask_documents,
            )
            # % elif cookiecutter.data == "folder"
            splits = make_splits(config.data_dir, config.context, config.tokens_dir, config.mask_documents)
            # % else
            splits = make_splits(config.context, config.tokens_dir, config.mask_documents)
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
            model = make_model(config, splits, pretrained=config.pretrained)
        # % else
        model = make_model(config, splits)
        # % endif
        flops_per_row = count_flops(model, config.context)
        model, optimizer = run.prepare(model, make_optimizer(model, config))
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
                scores = evaluate(run, model, eval_loader)
            # % else
            scores = evaluate(run, model, eval_loader)
            # % endif
            run.log("eval", scores)
            checkpoints.keep_best(scores)
            # % if cookiecutter.early_stopping
            if early_stopping.should_stop(scores["loss"]):
                run.finish(f"no lower eval loss in {config.patience} evaluations")
            # % endif

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
