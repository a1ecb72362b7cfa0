"""Train an object detector. The loop at the end is yours: edit it.

    python train.py                           on this machine, whatever it has
    accelerate launch train.py                on several GPUs or machines, the same file
    python train.py --resume auto             go on with the newest run that did not finish

The images come from `data.py`, the detector from `model.py`; `evaluate.py` tests a run's best weights.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from accelerate.utils import gather_object
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
from torchmetrics.detection import MeanAveragePrecision

from data import Batch, Target, check_images, collate, make_splits
from model import keep_statistics, make_model


@dataclass
class Config:
    """Every setting of a run: `python train.py --help` lists them, `--config FILE.toml` reads them."""

    # Data
    data_dir: Path = Path("data")  # where the images and their annotations are
    image_size: int = 320  # shorter side that the detector brings images to, in pixels
    global_batch_size: int = 16  # samples per step, over all processes and micro-batches
    eval_batch_size: int = 64  # samples per evaluation batch, over all processes
    num_workers: int = 2  # processes that load data, for each process that trains
    limit_batches: int | None = None  # batches of each epoch to use, for a quick try; None is all

    # Model
    model: str = "fasterrcnn_mobilenet_v3_large_320_fpn"  # any Faster R-CNN, FCOS or RetinaNet of torchvision
    pretrained: bool = False  # start from torchvision's published weights, which are downloaded; its head is new

    # Optimization
    epochs: int | None = 30  # passes over the training data; None is until max_steps
    max_steps: int | None = None  # steps after which the run ends; None is off
    accumulate: int = 1  # micro-batches that each process cuts its share of a step into, to save memory
    learning_rate: float = 5e-4  # at its peak
    warmup_ratio: float = 0.07  # first share of all steps, over which the learning rate rises
    decay_ratio: float = 0.2  # last share of all steps, over which the learning rate falls to zero
    weight_decay: float = 0.05  # AdamW's, for each step and learning rate
    max_grad_norm: float | None = 5.0  # gradients are scaled down to this norm; None is off
    ema_decay: float = 0.99  # of the weights' moving average, for each step
    patience: int = 5  # evaluations without a higher map before the run ends
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
    trackers: tuple[str, ...] = ("tensorboard",)  # where else metrics go
    profile_from: int = 11  # step of this start of the run, counted from 1, that is the first to be profiled
    profile_steps: int = 5  # steps to profile; their trace is in the run directory


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
    with Run(config) as run, ExitStack() as stack:
        splits = make_splits(config.data_dir)
        check_images(splits, run.accelerator.process_index, run.accelerator.num_processes)
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

        with run.accelerator.local_main_process_first():  # one download on each machine
            model = make_model(config.model, len(splits.classes), config.image_size, pretrained=config.pretrained)
        optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
        model, optimizer = run.prepare(model, optimizer)
        decay_steps = round(config.decay_ratio * total_steps)
        schedule = schedules.wsd(optimizer, total_steps, warmup_steps, decay_steps)
        ema = EMA(model, decay=config.ema_decay)
        early_stopping = EarlyStopping(config.patience, mode="max")
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
            best="map",
            mode="max",
            model=model,
            optimizer=optimizer,
            schedule=schedule,
            ema=ema,
            early_stopping=early_stopping,
            train_meter=train_meter,
        )
        checkpoints.restore()

        # A step is one update of the weights, from `global_batch_size` samples on however many processes.
        for epoch in run.epochs(config.epochs, config.max_steps):
            model.train()
            keep_statistics(model)
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
                ema.update()
                profiler.step()

                if step.every(config.log_every):
                    run.log("train", train_meter.read(), learning_rate=learning_rate, grad_norm=grad_norm)
                if step.due(config.eval_every):
                    with ema.swapped_in():
                        scores = evaluate(run, model, eval_loader)
                    run.log("eval", scores)
                    checkpoints.keep_best(scores)
                    if early_stopping.should_stop(scores["map"]):
                        run.finish(f"no higher eval map in {config.patience} evaluations")
                if step.due(config.save_every):
                    checkpoints.save()
                if run.stopping():  # a signal or the time limit: all processes agree on the step
                    checkpoints.save()
                    raise run.stopped()  # exit code 75: run again with `--resume auto`
        checkpoints.save_weights("final")


if __name__ == "__main__":
    main(load_config(Config))
