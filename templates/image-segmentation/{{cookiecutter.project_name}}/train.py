# % set watched, best_is = "mean_iou", "max"
"""Train a network that gives each pixel a class. The loop at the end is yours: edit it.

    python train.py                           on this machine, whatever it has
    accelerate launch train.py                on several GPUs or machines, the same file
    python train.py --resume auto             go on with the newest run that did not finish

The images come from `data.py`, the network from `model.py`; `evaluate.py` tests a run's best weights.
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
    """Every setting of a run: `python train.py --help` lists them, `--config FILE.toml` reads them."""

    # Data
    # % if cookiecutter.data == "folder"
    data_dir: Path = Path("data")  # where the images, their masks and classes.txt are
    image_size: int = 256  # height and width that images are brought to, in pixels, a multiple of 8
    # % endif
    global_batch_size: int = 16  # samples per step, over all processes and micro-batches
    eval_batch_size: int = 64  # samples per evaluation batch, over all processes
    num_workers: int = {{ 2 if cookiecutter.data == "folder" else 0 }}  # processes that load data, for each process that trains
    limit_batches: int | None = None  # batches of each epoch to use, for a quick try; None is all

    # Model
    # % if cookiecutter.model == "torchvision"
    model: str = "lraspp_mobilenet_v3_large"  # any of `torchvision.models.list_models(torchvision.models.segmentation)`
    pretrained: bool = False  # start from torchvision's published weights, which are downloaded; its head is new
    # % else
    width: int = 32  # channels of the first stage, a multiple of 8; each further stage doubles them
    # % endif

    # Optimization
    epochs: int | None = {{ 8 if cookiecutter.data == "scenes" else 30 }}  # passes over the training data; None is until max_steps
    max_steps: int | None = None  # steps after which the run ends; None is off
    accumulate: int = 1  # micro-batches that each process cuts its share of a step into, to save memory
    learning_rate: float = {{ "3e-3" if cookiecutter.model == "small" else "5e-4" }}  # at its peak
    # % include "train/config_schedule.py"
    weight_decay: float = 0.05  # AdamW's, for each step and learning rate
    max_grad_norm: float | None = 5.0  # gradients are scaled down to this norm; None is off
    # % include "train/config_extras.py"
    seed: int = 0  # of the weights, the order of the data and everything random

    # % include "train/config_hardware_and_record.py"


def compute_loss(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss summed over the labelled pixels, shape (), and the logits, shape (images, classes, H, W)."""
    images, masks = batch
    logits = model(images)
    # One row for each pixel: on a GPU, only so is there a deterministic kernel.
    rows = logits.movedim(1, -1).flatten(0, 2)
    return F.cross_entropy(rows, masks.flatten(), ignore_index=IGNORE, reduction="sum"), logits


def count_pixels(batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """How many pixels of the batch have a class. Shape ()."""
    return (batch[1] != IGNORE).sum()


def evaluate(run: Run, model: nn.Module, loader: Loader, num_classes: int) -> tuple[dict[str, float], torch.Tensor]:
    """Return loss, pixel accuracy and mean IoU over every pixel of the loader, and each class's IoU, shape (classes,).

    The intersection over union of a class is a ratio of sums over all images and processes, so no mean over images or
    batches will do: pixels are counted by their true and predicted class, and divided once. NaN: the class is nowhere.
    """
    meter = Meter(run)
    counts = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=run.device)  # [true class, predicted class]
    with run.evaluating(model) as model:  # no gradients; the training mode comes back afterwards
        for batch in run.batches(loader):
            loss, logits = compute_loss(model, batch)
            labelled = batch[1] != IGNORE
            truth, predicted = batch[1][labelled], logits.argmax(1)[labelled]
            if loader.batch_samples:  # 0 in a filler, by which a process takes part where a model is sharded
                counts += torch.bincount(truth * num_classes + predicted, minlength=num_classes**2).view_as(counts)
            meter.add(loss=loss, accuracy=(predicted == truth).sum(), count=len(truth))
    counts = run.accelerator.reduce(counts, "sum").cpu()
    hits = counts.diagonal()
    iou = hits / (counts.sum(0) + counts.sum(1) - hits)
    return {**meter.read(), "mean_iou": iou.nanmean().item()}, iou


def main(config: Config) -> None:
    """Train as `config` says, on whatever this process was launched on."""
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
            drop_last=True,  # a batch norm cannot do with a single image, which may be what is left
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
        with run.accelerator.local_main_process_first():  # one download on each machine
            model = make_model(config.model, len(splits.classes), pretrained=config.pretrained)
        # % else
        model = make_model(len(splits.classes), config.width)
        # % endif
        optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
        model, optimizer = run.prepare(model, optimizer)
        # % include "train/schedule.py"
        # % include "train/extras.py"
        train_meter = Meter(run)

        # All that has state: what is named here is saved, and comes back when a run is resumed.
        checkpoints = Checkpoints(
            run,
            keep_last=config.keep_last,
            best="mean_iou",
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
                num_pixels = step.total(count_pixels)  # of all micro-batches on all processes
                for batch in step:  # micro-batches; gradients are exchanged on the last one
                    loss, _ = compute_loss(model, batch)  # a sum, not a mean
                    run.backward(loss, count=num_pixels)  # divided once, by the pixels of the whole step
                    train_meter.add(loss=loss, count=count_pixels(batch))
                grad_norm = run.clip_grad_norm(model, config.max_grad_norm)
                learning_rate = schedule.get_last_lr()[0]  # of this step
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
                # % include "train/extras_step.py"

                if step.every(config.log_every):
                    run.log("train", train_meter.read(), learning_rate=learning_rate, grad_norm=grad_norm)
                # % set evaluation = "evaluate(run, model, eval_loader, len(splits.classes))"
                # % set result = "scores, _"
                # % include "train/loop_tail.py"
        checkpoints.save_weights("final")


if __name__ == "__main__":
    main(load_config(Config))
