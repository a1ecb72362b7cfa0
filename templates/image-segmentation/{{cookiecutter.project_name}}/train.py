"""Train an image segmentation model. Edit the training loop in `main` as you like.

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

# % if cookiecutter.data == "folder"
from accelerate.utils import gather_object
# % endif
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

# % if cookiecutter.data == "folder"
from data import IGNORE, check_classes, check_files, make_splits
# % else
from data import IGNORE, make_splits
# % endif
from model import make_model


@dataclass
class Config:
    """The settings of a training run."""

    # Data
    # % if cookiecutter.data == "folder"
    data_dir: Path = Path("data")  # folder with images, masks and classes.txt
    image_size: int = 256  # height and width that images are resized to, in pixels; a multiple of 8
    # % endif
    global_batch_size: int = 16  # samples per step, over all processes and micro-batches
    eval_batch_size: int = 64  # samples per evaluation batch, over all processes
    num_workers: int = {{ 2 if cookiecutter.data == "folder" else 0 }}  # DataLoader workers per process
    limit_batches: int | None = None  # batches per epoch, for a quick try; None = all

    # Model
    # % if cookiecutter.model == "torchvision"
    model: str = "lraspp_mobilenet_v3_large"  # any of `torchvision.models.list_models(torchvision.models.segmentation)`
    pretrained: bool = False  # start from torchvision's pretrained weights (downloaded), with a new head
    # % else
    width: int = 32  # channels of the first stage, a multiple of 8; doubled at each further stage
    # % endif

    # Optimization
    epochs: int | None = {{ 8 if cookiecutter.data == "scenes" else 30 }}  # epochs to train; None = until max_steps
    max_steps: int | None = None  # steps to train; None = until the epochs are done
    accumulate: int = 1  # gradient accumulation: micro-batches per step
    micro_batch_size: int | None = None  # samples per micro-batch and process, instead of accumulate
    learning_rate: float = {{ "3e-3" if cookiecutter.model == "small" else "5e-4" }}  # at its peak
    # % include "train/config_schedule.py"
    weight_decay: float = 0.05  # AdamW weight decay
    max_grad_norm: float | None = 5.0  # gradient clipping: maximum norm; None = off
    seed: int = 0  # random seed for initial weights, data order and augmentation
    # % include "train/config_extras.py"

    # Hardware
    # % include "train/config_hardware.py"

    # Record
    log_every: int | None = 20  # steps between log lines; None = off
    eval_every: int | None = None  # steps between evaluations; None = after each epoch
    save_every: int | None = None  # steps between checkpoints; None = after each epoch
    # % include "train/config_record.py"


def compute_loss(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss summed over the labelled pixels, shape (), and the logits, shape (images, classes, H, W)."""
    images, masks = batch
    logits = model(images)
    # One row per pixel: the 2d loss has no deterministic CUDA kernel.
    rows = logits.movedim(1, -1).flatten(0, 2)
    return F.cross_entropy(rows, masks.flatten(), ignore_index=IGNORE, reduction="sum"), logits


def count_pixels(batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Count the labelled pixels of the batch. Shape ()."""
    return (batch[1] != IGNORE).sum()


def evaluate(run: Run, model: nn.Module, loader: Loader, num_classes: int) -> tuple[dict[str, float], torch.Tensor]:
    """Return loss, pixel accuracy and mean IoU over the loader, and the IoU of each class, shape (classes,).

    IoU comes from one confusion matrix over all images and processes: it is a ratio of sums, not a mean over batches.
    A class that occurs nowhere has IoU NaN.
    """
    meter = Meter(run)
    counts = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=run.device)  # [true class, predicted class]
    with run.evaluating(model) as model:  # eval mode, no gradients; restored afterwards
        for batch in run.batches(loader):
            loss, logits = compute_loss(model, batch)
            labelled = batch[1] != IGNORE
            truth, predicted = batch[1][labelled], logits.argmax(1)[labelled]
            if loader.batch_samples:  # skip padding batches (only with sharded models)
                counts += torch.bincount(truth * num_classes + predicted, minlength=num_classes**2).view_as(counts)
            meter.add(loss=loss, accuracy=(predicted == truth).sum(), count=len(truth))
    counts = run.accelerator.reduce(counts, "sum").cpu()
    hits = counts.diagonal()
    iou = hits / (counts.sum(0) + counts.sum(1) - hits)
    return {**meter.read(), "mean_iou": iou.nanmean().item()}, iou


def main(config: Config) -> None:
    """Train with the settings of `config`; on several GPUs, every process calls this."""
    with Run(config) as run{{ ", ExitStack() as stack" if cookiecutter.profile }}:
        # % if cookiecutter.data == "scenes"
        splits = make_splits()
        # % else
        splits = make_splits(config.data_dir, config.image_size)
        part, parts = run.accelerator.process_index, run.accelerator.num_processes
        check_classes(set(gather_object(check_files(config.data_dir, len(splits.classes), part, parts))))
        # % endif
        train_loader = run.loader(
            splits.train,
            config.global_batch_size,
            shuffle=True,
            # % if cookiecutter.model == "torchvision"
            drop_last=True,  # batch norm needs more than one image
            # % endif
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

        # % if cookiecutter.model == "torchvision"
        with run.accelerator.local_main_process_first():  # one download per machine
            model = make_model(config, splits, pretrained=config.pretrained)
        # % else
        model = make_model(config, splits)
        # % endif
        optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
        model, optimizer = run.prepare(model, optimizer)
        # % include "train/schedule.py"
        # % if cookiecutter.ema
        ema = EMA(model, decay=config.ema_decay)
        # % endif
        # % if cookiecutter.early_stopping
        early_stopping = EarlyStopping(config.patience, mode="max")
        # % endif
        # % include "train/profiler.py"
        train_meter = Meter(run)

        # Everything listed here is checkpointed and restored on resume.
        checkpoints = Checkpoints(
            run,
            keep_last=config.keep_last,
            best="mean_iou",
            mode="max",
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
                scores, _ = evaluate(run, model, eval_loader, len(splits.classes))
            # % else
            scores, _ = evaluate(run, model, eval_loader, len(splits.classes))
            # % endif
            run.log("eval", scores)
            checkpoints.keep_best(scores)
            # % if cookiecutter.early_stopping
            if early_stopping.should_stop(scores["mean_iou"]):
                run.finish(f"no higher eval mean_iou in {config.patience} evaluations")
            # % endif

        checkpoints.restore()
        with run.rehearsal():  # evaluate one batch now, so that an error costs no epoch
            checkpoints.check_scores(evaluate(run, model, eval_loader, len(splits.classes))[0])
        if checkpoints.evaluation_is_due:  # the run ended between a checkpoint and its evaluation
            evaluate_and_log()

        # One step = one optimizer update over global_batch_size samples, across all processes.
        for epoch in run.epochs(config.epochs, config.max_steps):
            model.train()
            for step in run.steps(train_loader, config.accumulate, micro_batch_size=config.micro_batch_size):
                num_pixels = step.total(count_pixels, unit="pixels")  # over all micro-batches and processes
                for batch in step:  # micro-batches; gradients are synchronized on the last one
                    loss, _ = compute_loss(model, batch)  # a sum, not a mean
                    run.backward(loss, count=num_pixels)  # divided once, by the labelled pixels of the whole step
                    train_meter.add(loss=loss, count=count_pixels(batch))
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
