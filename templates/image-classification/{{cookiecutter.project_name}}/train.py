"""Train an image classifier. Edit the training loop in `main` as you like.

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
    """The settings of a training run."""

    # Data
    # % if cookiecutter.data != "digits"
    data_dir: Path = Path("data")  # folder with the images
    # % endif
    # % if cookiecutter.data == "folder"
    image_size: int = 64  # height and width of the model's input, in pixels
    # % endif
    global_batch_size: int = 64  # samples per step, over all processes and micro-batches
    eval_batch_size: int = 512  # samples per evaluation batch, over all processes
    num_workers: int = {{ 2 if cookiecutter.data == "folder" else 0 }}  # DataLoader workers per process
    limit_batches: int | None = None  # batches per epoch, for a quick try; None = all

    # Model
    # % if cookiecutter.model == "timm"
    model: str = "resnet18"  # any name in `timm.list_models()`
    pretrained: bool = False  # start from timm's pretrained weights (downloaded)
    # % elif cookiecutter.model == "torchvision"
    model: str = "resnet18"  # any of `torchvision.models.list_models(torchvision.models)`
    pretrained: bool = False  # start from torchvision's pretrained weights (downloaded)
    # % else
    width: int = 32  # channels of the first stage; doubled at each further stage
    # % endif

    # Optimization
    epochs: int | None = {{ 30 if cookiecutter.data == "folder" else 8 }}  # epochs to train; None = until max_steps
    max_steps: int | None = None  # steps to train; None = until the epochs are done
    accumulate: int = 1  # gradient accumulation: micro-batches per step
    micro_batch_size: int | None = None  # samples per micro-batch and process, instead of accumulate
    learning_rate: float = 1e-3  # at its peak
    # % include "train/config_schedule.py"
    # % if cookiecutter.model == "timm"
    optimizer: str = "adamw"  # any name in `timm.optim.list_optimizers()`
    weight_decay: float = 0.05  # weight decay; timm does not apply it to biases and norms
    # % else
    weight_decay: float = 0.05  # AdamW weight decay
    # % endif
    # % if cookiecutter.mixup
    label_smoothing: float = 0.1  # label smoothing
    mixup_alpha: float = 0.2  # MixUp: parameter of the Beta distribution; closer to 0 mixes less
    cutmix_alpha: float = 1.0  # CutMix: the same; each batch uses one of the two
    # % endif
    max_grad_norm: float | None = 1.0  # gradient clipping: maximum norm; None = off
    seed: int = 0  # random seed for initial weights, data order and augmentation
    # % include "train/config_extras.py"

    # Hardware
    # % include "train/config_hardware.py"

    # Record
    log_every: int | None = 20  # steps between log lines; None = off
    eval_every: int | None = None  # steps between evaluations; None = after each epoch
    save_every: int | None = None  # steps between checkpoints; None = after each epoch
    # % include "train/config_record.py"


# % if cookiecutter.mixup
def compute_loss(
    model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor], label_smoothing: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss summed over the batch, shape (), and the logits, shape (samples, classes).

    Labels are class indices, shape (samples,), or mixed class probabilities, shape (samples, classes).
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
    """Return loss, accuracy, precision and recall over the loader, counting every sample once.

    Precision and recall are macro averages over the classes. torchmetrics combines the processes.
    """
    # % else
def evaluate(run: Run, model: nn.Module, loader: Loader) -> dict[str, float]:
    """Return loss and accuracy over the loader, counting every sample once on any number of processes."""
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
    with run.evaluating(model) as model:  # eval mode, no gradients; restored afterwards
        for batch in run.batches(loader):
            loss, logits = compute_loss(model, batch)
            labels = batch[1]
            # % if cookiecutter.torchmetrics
            meter.add(loss=loss, count=len(labels))
            if loader.batch_samples:  # skip padding batches (only with sharded models)
                metrics.update(logits, labels)
    return meter.read() | {name: value.item() for name, value in metrics.compute().items()}
            # % else
            meter.add(loss=loss, accuracy=(logits.argmax(-1) == labels).sum(), count=len(labels))
    return meter.read()  # one all-reduce over processes, one device sync
            # % endif


def main(config: Config) -> None:
    """Train with the settings of `config`; on several GPUs, every process calls this."""
    with Run(config) as run{{ ", ExitStack() as stack" if cookiecutter.profile }}:
        # % if cookiecutter.data == "digits"
        splits = make_splits()
        # % elif cookiecutter.data in ["mnist", "cifar10"]
        with run.accelerator.local_main_process_first():  # one download per machine
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
        with run.accelerator.local_main_process_first():  # one download per machine
            model = make_model(config, splits, pretrained=config.pretrained)
        # % else
        model = make_model(config, splits)
        # % endif
        # % if cookiecutter.model == "timm"
        optimizer = make_optimizer(model, config.optimizer, config.learning_rate, config.weight_decay)
        # % else
        optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
        # % endif
        model, optimizer = run.prepare(model, optimizer)
        # % include "train/schedule.py"
        # % if cookiecutter.ema
        ema = EMA(model, decay=config.ema_decay)
        # % endif
        # % if cookiecutter.early_stopping
        early_stopping = EarlyStopping(config.patience)
        # % endif
        # % include "train/profiler.py"
        # % if cookiecutter.mixup
        mix = v2.RandomChoice(
            [
                v2.MixUp(alpha=config.mixup_alpha, num_classes=splits.num_classes),
                v2.CutMix(alpha=config.cutmix_alpha, num_classes=splits.num_classes),
            ]
        )
        # % endif
        train_meter = Meter(run)

        # Everything listed here is checkpointed and restored on resume.
        checkpoints = Checkpoints(
            run,
            keep_last=config.keep_last,
            best="accuracy",
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
                scores = evaluate(run, model, eval_loader{{ ", splits.num_classes" if cookiecutter.torchmetrics }})
            # % else
            scores = evaluate(run, model, eval_loader{{ ", splits.num_classes" if cookiecutter.torchmetrics }})
            # % endif
            run.log("eval", scores)
            checkpoints.keep_best(scores)
            # % if cookiecutter.early_stopping
            if early_stopping.should_stop(scores["loss"]):
                run.finish(f"no lower eval loss in {config.patience} evaluations")
            # % endif

        checkpoints.restore()
        with run.rehearsal():  # evaluate one batch now, so that an error costs no epoch
            checkpoints.check_scores(evaluate(run, model, eval_loader{{ ", splits.num_classes" if cookiecutter.torchmetrics }}))
        if checkpoints.evaluation_is_due:  # the run ended between a checkpoint and its evaluation
            evaluate_and_log()

        # One step = one optimizer update over global_batch_size samples, across all processes.
        for epoch in run.epochs(config.epochs, config.max_steps):
            model.train()
            for step in run.steps(train_loader, config.accumulate, micro_batch_size=config.micro_batch_size):
                for batch in step:  # micro-batches; gradients are synchronized on the last one
                    # % if cookiecutter.mixup
                    # Images are mixed within a micro-batch: results depend on processes and `accumulate`.
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
