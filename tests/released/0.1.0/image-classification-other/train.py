"""Train an image classifier. The loop at the end is yours: edit it.

    python train.py                           on this machine, whatever it has
    accelerate launch train.py                on several GPUs or machines, the same file
    python train.py --resume auto             go on with the newest run that did not finish

The images come from `data.py`, the network from `model.py`; `evaluate.py` tests a run's best weights.
"""

from contextlib import ExitStack
from dataclasses import dataclass
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
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassPrecision, MulticlassRecall
from torchvision.transforms import v2

from data import check_images, make_splits
from model import make_model


@dataclass
class Config:
    """Every setting of a run: `python train.py --help` lists them, `--config FILE.toml` reads them."""

    # Data
    data_dir: Path = Path("data")  # where the images are
    image_size: int = 64  # height and width that images are brought to, in pixels
    global_batch_size: int = 64  # samples per step, over all processes and micro-batches
    eval_batch_size: int = 512  # samples per evaluation batch, over all processes
    num_workers: int = 2  # processes that load data, for each process that trains
    limit_batches: int | None = None  # batches of each epoch to use, for a quick try; None is all

    # Model
    model: str = "resnet18"  # any of `torchvision.models.list_models(torchvision.models)`
    pretrained: bool = False  # start from the published weights, which are downloaded

    # Optimization
    epochs: int | None = 30  # passes over the training data; None is until max_steps
    max_steps: int | None = None  # steps after which the run ends; None is off
    accumulate: int = 1  # micro-batches that each process cuts its share of a step into, to save memory
    learning_rate: float = 1e-3  # at its peak
    warmup_ratio: float = 0.07  # first share of all steps, over which the learning rate rises
    weight_decay: float = 0.05  # AdamW's, for each step and learning rate
    label_smoothing: float = 0.1  # share of each training label that all classes get alike
    mixup_alpha: float = 0.2  # of the beta distribution that weighs the two images; the nearer to 0, the less they mix
    cutmix_alpha: float = 1.0  # the same for CutMix, by area; each batch takes one of the two
    max_grad_norm: float | None = 1.0  # gradients are scaled down to this norm; None is off
    ema_decay: float = 0.99  # of the weights' moving average, for each step
    patience: int = 5  # evaluations without a lower loss before the run ends
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
    trackers: tuple[str, ...] = ("mlflow",)  # where else metrics go
    profile_from: int = 11  # step of this start of the run, counted from 1, that is the first to be profiled
    profile_steps: int = 5  # steps to profile; their trace is in the run directory


def compute_loss(
    model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor], label_smoothing: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss summed over the batch, shape (), and the logits, shape (samples, classes).

    Labels are classes, shape (samples,), or after mixing their shares, shape (samples, classes).
    """
    images, labels = batch
    logits = model(images)
    return F.cross_entropy(logits, labels, reduction="sum", label_smoothing=label_smoothing), logits


def evaluate(run: Run, model: nn.Module, loader: Loader, num_classes: int) -> dict[str, float]:
    """Return loss, accuracy, precision and recall over every sample of the loader, each counted once.

    Accuracy counts samples alike; precision and recall are means over the classes. torchmetrics adds up over processes.
    """
    meter = Meter(run)
    metrics = MetricCollection(
        {
            "accuracy": MulticlassAccuracy(num_classes, average="micro"),
            "precision": MulticlassPrecision(num_classes, average="macro"),
            "recall": MulticlassRecall(num_classes, average="macro"),
        }
    ).to(run.device)
    with run.evaluating(model) as model:  # no gradients; the training mode comes back afterwards
        for batch in run.batches(loader):
            loss, logits = compute_loss(model, batch)
            labels = batch[1]
            meter.add(loss=loss, count=len(labels))
            if loader.batch_samples:  # 0 in a filler, by which a process takes part where a model is sharded
                metrics.update(logits, labels)
    return meter.read() | {name: value.item() for name, value in metrics.compute().items()}


def main(config: Config) -> None:
    """Train as `config` says, on whatever this process was launched on."""
    with Run(config) as run, ExitStack() as stack:
        splits = make_splits(config.data_dir, config.image_size)
        check_images(config.data_dir, run.accelerator.process_index, run.accelerator.num_processes)
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

        with run.accelerator.local_main_process_first():  # one download on each machine
            model = make_model(config.model, splits.channels, splits.num_classes, pretrained=config.pretrained)
        optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
        model, optimizer = run.prepare(model, optimizer)
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
        mix = v2.RandomChoice(
            [
                v2.MixUp(alpha=config.mixup_alpha, num_classes=splits.num_classes),
                v2.CutMix(alpha=config.cutmix_alpha, num_classes=splits.num_classes),
            ]
        )
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
            ema=ema,
            early_stopping=early_stopping,
            train_meter=train_meter,
        )
        checkpoints.restore()

        # A step is one update of the weights, from `global_batch_size` samples on however many processes.
        for epoch in run.epochs(config.epochs, config.max_steps):
            model.train()
            for step in run.steps(train_loader, accumulate=config.accumulate):
                for batch in step:  # micro-batches; gradients are exchanged on the last one
                    # Every process mixes the images of its own micro-batch: the result depends on how they are cut.
                    loss, _ = compute_loss(model, mix(*batch), config.label_smoothing)  # a sum, not a mean
                    run.backward(loss, count=step.num_samples)  # divided once, by the whole global batch
                    train_meter.add(loss=loss, count=step.micro_batch_samples)
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
                        scores = evaluate(run, model, eval_loader, splits.num_classes)
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
