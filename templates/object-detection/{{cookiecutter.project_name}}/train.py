# % set watched, best_is = "map", "max"
"""Train an object detector. The loop at the end is yours: edit it.

    python train.py                           on this machine, whatever it has
    accelerate launch train.py                on several GPUs or machines, the same file
    python train.py --resume auto             go on with the newest run that did not finish

The images come from `data.py`, the detector from `model.py`; `evaluate.py` tests a run's best weights.
"""

# % if cookiecutter.profile
from contextlib import ExitStack
# % endif
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

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
from torchmetrics.detection import MeanAveragePrecision

# % if cookiecutter.data == "coco"
from data import Batch, Target, check_images, collate, make_splits
# % else
from data import Batch, Target, collate, make_splits
# % endif
# % if cookiecutter.model == "torchvision"
from model import keep_statistics, make_model
# % else
from model import make_model
# % endif


@dataclass
class Config:
    """Every setting of a run: `python train.py --help` lists them, `--config FILE.toml` reads them."""

    # Data
    # % if cookiecutter.data == "coco"
    data_dir: Path = Path("data")  # where the images and their annotations are
    # % endif
    image_size: int = {{ 64 if cookiecutter.data == "scenes" else 320 }}  # shorter side that the detector brings images to, in pixels
    global_batch_size: int = 16  # samples per step, over all processes and micro-batches
    eval_batch_size: int = 64  # samples per evaluation batch, over all processes
    num_workers: int = {{ 2 if cookiecutter.data == "coco" else 0 }}  # processes that load data, for each process that trains
    limit_batches: int | None = None  # batches of each epoch to use, for a quick try; None is all

    # Model
    # % if cookiecutter.model == "torchvision"
    model: str = "fasterrcnn_mobilenet_v3_large_320_fpn"  # any Faster R-CNN, FCOS or RetinaNet of torchvision
    pretrained: bool = False  # start from torchvision's published weights, which are downloaded; its head is new
    # % else
    width: int = 32  # channels of the first stage; each further stage doubles them
    # % endif

    # Optimization
    epochs: int | None = {{ 8 if cookiecutter.data == "scenes" else 30 }}  # passes over the training data; None is until max_steps
    max_steps: int | None = None  # steps after which the run ends; None is off
    accumulate: int = 1  # micro-batches that each process cuts its share of a step into, to save memory
    learning_rate: float = {{ "2e-3" if cookiecutter.model == "small" else "5e-4" }}  # at its peak
    # % include "train/config_schedule.py"
    weight_decay: float = 0.05  # AdamW's, for each step and learning rate
    max_grad_norm: float | None = 5.0  # gradients are scaled down to this norm; None is off
    # % include "train/config_extras.py"
    seed: int = 0  # of the weights, the order of the data and everything random

    # % include "train/config_hardware_and_record.py"


def compute_losses(model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
    """Return the detector's losses by name, each summed over the images of the batch, shape ().

    torchvision returns means over the batch, in which each image has the same weight: as many places are drawn from
    one as from another. So a mean times the number of images is the sum, and what a step divides is right on any
    number of processes. (Which places are drawn is random.)
    """
    images, targets = batch
    return {name: loss * len(images) for name, loss in model(images, targets).items()}


def evaluate(run: Run, model: nn.Module, loader: Loader) -> dict[str, float]:
    """Return COCO's mean average precision over all images of the loader: `map` over overlaps, `map_50` at one half."""
    found: list[Target] = []
    truth: list[Target] = []
    with run.evaluating(model) as model:  # no gradients; the training mode comes back afterwards
        for images, targets in run.batches(loader):
            predictions = model(images)
            if loader.batch_samples:  # 0 in a filler, by which a process takes part where a model is sharded
                found += [{name: tensor.cpu() for name, tensor in image.items()} for image in predictions]
                truth += [{name: tensor.cpu() for name, tensor in image.items()} for image in targets]
    # Precision is no mean over images: the detections of all processes are ranked together.
    metric = MeanAveragePrecision(sync_on_compute=False)
    metric.update(gather_object(found), gather_object(truth))
    scores = metric.compute()
    return {name: scores[name].item() for name in ("map", "map_50", "map_75")}


def main(config: Config) -> None:
    """Train as `config` says, on whatever this process was launched on."""
    with Run(config) as run{{ ", ExitStack() as stack" if cookiecutter.profile }}:
        # % if cookiecutter.data == "scenes"
        splits = make_splits()
        # % else
        splits = make_splits(config.data_dir)
        check_images(splits, run.accelerator.process_index, run.accelerator.num_processes)
        # % endif
        train_loader = run.loader(
            splits.train,
            config.global_batch_size,
            shuffle=True,
            num_workers=config.num_workers,
            collate_fn=collate,
            limit_batches=config.limit_batches,
        )
        eval_loader = run.loader(
            splits.eval,
            config.eval_batch_size,
            num_workers=config.num_workers,
            collate_fn=collate,
            limit_batches=config.limit_batches,
        )
        total_steps = train_loader.total_steps(config.epochs, config.max_steps)
        warmup_steps = round(config.warmup_ratio * total_steps)

        # % if cookiecutter.model == "torchvision"
        with run.accelerator.local_main_process_first():  # one download on each machine
            model = make_model(config.model, len(splits.classes), config.image_size, pretrained=config.pretrained)
        # % else
        model = make_model(len(splits.classes), config.width, config.image_size)
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
            best="map",
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
            # % if cookiecutter.model == "torchvision"
            keep_statistics(model)
            # % endif
            for step in run.steps(train_loader, accumulate=config.accumulate):
                for batch in step:  # micro-batches; gradients are exchanged on the last one
                    losses = compute_losses(model, batch)  # sums, not means
                    loss = torch.stack(list(losses.values())).sum()
                    run.backward(loss, count=step.num_samples)  # divided once, by the whole global batch
                    train_meter.add(loss=loss, **losses, count=step.micro_batch_samples)
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
