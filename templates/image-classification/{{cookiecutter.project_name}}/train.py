"""Train an image classifier. The loop at the end is yours: edit it.

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
# % if cookiecutter.torchmetrics
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassPrecision, MulticlassRecall
# % endif
# % if cookiecutter.mixup
from torchvision.transforms import v2
# % endif

# % if cookiecutter.data == "folder"
from data import check_images, make_splits
# % else
from data import make_splits
# % endif
# % if cookiecutter.model == "timm"
from model import make_model, make_optimizer
# % else
from model import make_model
# % endif


@dataclass
class Config:
    """Every setting of a run: `python train.py --help` lists them, `--config FILE.toml` reads them."""

    # Data
    # % if cookiecutter.data != "digits"
    data_dir: Path = Path("data")  # where the images are
    # % endif
    # % if cookiecutter.data == "folder"
    image_size: int = 64  # height and width that images are brought to, in pixels
    # % endif
    global_batch_size: int = 64  # samples per step, over all processes and micro-batches
    eval_batch_size: int = 512  # samples per evaluation batch, over all processes
    num_workers: int = {{ 2 if cookiecutter.data == "folder" else 0 }}  # processes that load data, for each process that trains
    limit_batches: int | None = None  # batches of each epoch to use, for a quick try; None is all

    # Model
    # % if cookiecutter.model == "timm"
    model: str = "resnet18"  # any name in `timm.list_models()`
    pretrained: bool = False  # start from timm's published weights, which are downloaded
    # % elif cookiecutter.model == "torchvision"
    model: str = "resnet18"  # any of `torchvision.models.list_models(torchvision.models)`
    pretrained: bool = False  # start from the published weights, which are downloaded
    # % else
    width: int = 32  # channels of the first stage; each further stage doubles them
    # % endif

    # Optimization
    epochs: int | None = {{ 30 if cookiecutter.data == "folder" else 8 }}  # passes over the training data; None is until max_steps
    max_steps: int | None = None  # steps after which the run ends; None is off
    accumulate: int = 1  # micro-batches that each process cuts its share of a step into, to save memory
    learning_rate: float = 1e-3  # at its peak
    # % include "train/config_schedule.py"
    # % if cookiecutter.model == "timm"
    optimizer: str = "adamw"  # any name in `timm.optim.list_optimizers()`
    weight_decay: float = 0.05  # for each step and learning rate; timm's optimizers spare biases and norms
    # % else
    weight_decay: float = 0.05  # AdamW's, for each step and learning rate
    # % endif
    # % if cookiecutter.mixup
    label_smoothing: float = 0.1  # share of each training label that all classes get alike
    mixup_alpha: float = 0.2  # of the beta distribution that weighs the two images; the nearer to 0, the less they mix
    cutmix_alpha: float = 1.0  # the same for CutMix, by area; each batch takes one of the two
    # % endif
    max_grad_norm: float | None = 1.0  # gradients are scaled down to this norm; None is off
    # % include "train/config_extras.py"
    seed: int = 0  # of the weights, the order of the data and everything random

    # % include "train/config_hardware_and_record.py"


# % if cookiecutter.mixup
def compute_loss(
    model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor], label_smoothing: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss summed over the batch, shape (), and the logits, shape (samples, classes).

    Labels are classes, shape (samples,), or after mixing their shares, shape (samples, classes).
    """
    images, labels = batch
    logits = model(images)
    return F.cross_entropy(logits, labels, reduction="sum", label_smoothing=label_smoothing), logits
# % else
def compute_loss(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss summed over the batch, shape (), and the logits, shape (samples, classes)."""
    images, labels = batch
    logits = model(images)
    return F.cross_entropy(logits, labels, reduction="sum"), logits
# % endif


# % if cookiecutter.torchmetrics
def evaluate(run: Run, model: nn.Module, loader: Loader, num_classes: int) -> dict[str, float]:
    """Return loss, accuracy, precision and recall over every sample of the loader, each counted once.

    Accuracy counts samples alike; precision and recall are means over the classes. torchmetrics adds up over processes.
    """
    # % else
def evaluate(run: Run, model: nn.Module, loader: Loader) -> dict[str, float]:
    """Return loss and accuracy over every sample of the loader, each counted once on any number of processes."""
    # % endif
    meter = Meter(run)
    # % if cookiecutter.torchmetrics
    metrics = MetricCollection(
        {
            "accuracy": MulticlassAccuracy(num_classes, average="micro"),
            "precision": MulticlassPrecision(num_classes, average="macro"),
            "recall": MulticlassRecall(num_classes, average="macro"),
        }
    ).to(run.device)
    # % endif
    with run.evaluating(model) as model:  # no gradients; the training mode comes back afterwards
        for batch in run.batches(loader):
            loss, logits = compute_loss(model, batch)
            labels = batch[1]
            # % if cookiecutter.torchmetrics
            meter.add(loss=loss, count=len(labels))
            if loader.batch_samples:  # 0 in a filler, by which a process takes part where a model is sharded
                metrics.update(logits, labels)
    return meter.read() | {name: value.item() for name, value in metrics.compute().items()}
            # % else
            meter.add(loss=loss, accuracy=(logits.argmax(-1) == labels).sum(), count=len(labels))
    return meter.read()  # one exchange between processes, one wait for the device
            # % endif


def main(config: Config) -> None:
    """Train as `config` says, on whatever this process was launched on."""
    with Run(config) as run{{ ", ExitStack() as stack" if cookiecutter.profile }}:
        # % if cookiecutter.data == "digits"
        splits = make_splits()
        # % elif cookiecutter.data in ["mnist", "cifar10"]
        with run.accelerator.local_main_process_first():  # one download on each machine
            splits = make_splits(config.data_dir)
        # % else
        splits = make_splits(config.data_dir, config.image_size)
        check_images(config.data_dir, run.accelerator.process_index, run.accelerator.num_processes)
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

        # % if cookiecutter.model in ["timm", "torchvision"]
        with run.accelerator.local_main_process_first():  # one download on each machine
            model = make_model(config.model, splits.channels, splits.num_classes, pretrained=config.pretrained)
        # % else
        model = make_model(splits.channels, splits.num_classes, config.width)
        # % endif
        # % if cookiecutter.model == "timm"
        optimizer = make_optimizer(model, config.optimizer, config.learning_rate, config.weight_decay)
        # % else
        optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
        # % endif
        model, optimizer = run.prepare(model, optimizer)
        # % include "train/schedule.py"
        # % include "train/extras.py"
        # % if cookiecutter.mixup
        mix = v2.RandomChoice(
            [
                v2.MixUp(alpha=config.mixup_alpha, num_classes=splits.num_classes),
                v2.CutMix(alpha=config.cutmix_alpha, num_classes=splits.num_classes),
            ]
        )
        # % endif
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
                    # % if cookiecutter.mixup
                    # Every process mixes the images of its own micro-batch: the result depends on how they are cut.
                    loss, _ = compute_loss(model, mix(*batch), config.label_smoothing)  # a sum, not a mean
                    # % else
                    loss, _ = compute_loss(model, batch)  # a sum, not a mean
                    # % endif
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
                # % if cookiecutter.torchmetrics
                # % set evaluation = "evaluate(run, model, eval_loader, splits.num_classes)"
                # % endif
                # % include "train/loop_tail.py"
        checkpoints.save_weights("final")


if __name__ == "__main__":
    main(load_config(Config))
