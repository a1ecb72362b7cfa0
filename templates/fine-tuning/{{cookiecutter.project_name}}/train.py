"""Fine-tune a pretrained image classifier: its head first, then more and more of it. The loop is yours: edit it.

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
    finetuning,
    load_config,
    schedules,
)
import torch
from torch import nn
from torch.nn import functional as F

# % if cookiecutter.data == "digits"
from data import check_images, make_splits, write_digits
from model import make_model, parts, preprocessing
import pretrain
# % else
from data import check_images, make_splits
from model import make_model, parts, preprocessing
# % endif


@dataclass
class Config:
    """Every setting of a run: `python train.py --help` lists them, `--config FILE.toml` reads them."""

    # Data
    # % if cookiecutter.data == "digits"
    data_dir: Path = Path("data/digits")  # where the images are; the digits are written to it if it is not there
    # % else
    data_dir: Path = Path("data")  # where the images are
    # % endif
    # % if cookiecutter.data == "digits" and cookiecutter.model == "torchvision"
    image_size: int | None = 32  # height and width of images, in pixels; None is what the published weights expect
    # % else
    image_size: int | None = None  # height and width of images, in pixels; None is what the weights expect
    # % endif
    global_batch_size: int = {{ 25 if cookiecutter.data == "digits" else 32 }}  # samples per step, over all processes and micro-batches
    eval_batch_size: int = 256  # samples per evaluation batch, over all processes
    num_workers: int = {{ 0 if cookiecutter.data == "digits" else 2 }}  # processes that load data, for each process that trains
    limit_batches: int | None = None  # batches of each epoch to use, for a quick try; None is all

    # Model
    # % if cookiecutter.model == "timm" and cookiecutter.data == "digits"
    model: str = "local-dir:data/pretrained"  # what pretrain.py makes; or a name of timm's, or hf-hub:OWNER/NAME
    pretrained: bool = True  # start from its weights; False is at random, for a comparison
    # % elif cookiecutter.model == "timm"
    model: str = "resnet18.a1_in1k"  # any name in `timm.list_pretrained()`, or hf-hub:OWNER/NAME or local-dir:FOLDER
    pretrained: bool = True  # start from its weights, which are downloaded; False is at random, for a comparison
    # % elif cookiecutter.data == "digits"
    model: str = "shufflenet_v2_x0_5"  # any of `torchvision.models.list_models(torchvision.models)`
    weights: str | None = "data/pretrained.safetensors"  # what pretrain.py makes; DEFAULT are the published ones
    # % else
    model: str = "resnet18"  # any of `torchvision.models.list_models(torchvision.models)`
    weights: str | None = "DEFAULT"  # the published ones, which are downloaded; or a .safetensors file; None is at random
    # % endif

    # Optimization
    epochs: int | None = {{ 100 if cookiecutter.data == "digits" else 10 }}  # passes over the training data; None is until max_steps
    max_steps: int | None = None  # steps after which the run ends; None is off
    accumulate: int = 1  # micro-batches that each process cuts its share of a step into, to save memory
    unfreeze_upper: float = 0.2  # share of all steps after which the upper half is trained; until then, the head alone
    unfreeze_all: float = 0.4  # share of all steps after which all is trained; from 1 on, never
    learning_rate: float = 3e-3  # of the head, at its peak
    layer_decay: float = 0.8  # what the learning rate is multiplied with from each part to the one before it
    warmup_ratio: float = 0.3  # first share of all steps, over which the learning rates rise
    weight_decay: float = 0.05  # AdamW's, for each step and learning rate; norms and biases are spared
    max_grad_norm: float | None = 1.0  # gradients are scaled down to this norm; None is off
    # % include "train/config_extras.py"
    seed: int = 0  # of the weights, the order of the data and everything random

    # % if cookiecutter.data == "digits"
    # % set eval_every = "20"
    # % endif
    # % include "train/config_hardware_and_record.py"


def compute_loss(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss summed over the batch, shape (), and the logits, shape (samples, classes)."""
    images, labels = batch
    logits = model(images)
    return F.cross_entropy(logits, labels, reduction="sum"), logits


def evaluate(run: Run, model: nn.Module, loader: Loader) -> dict[str, float]:
    """Return loss and accuracy over every sample of the loader, each counted once on any number of processes."""
    meter = Meter(run)
    with run.evaluating(model) as model:  # no gradients; the training mode comes back afterwards
        for batch in run.batches(loader):
            loss, logits = compute_loss(model, batch)
            labels = batch[1]
            meter.add(loss=loss, accuracy=(logits.argmax(-1) == labels).sum(), count=len(labels))
    return meter.read()  # one exchange between processes, one wait for the device


def main(config: Config) -> None:
    """Train as `config` says, on whatever this process was launched on."""
    with Run(config) as run{{ ", ExitStack() as stack" if cookiecutter.profile }}:
        # % if cookiecutter.data == "digits"
        with run.accelerator.main_process_first():  # the images are written and the weights are made once
            if not config.data_dir.exists():
                write_digits(config.data_dir)
            # % if cookiecutter.model == "timm"
            if config.model == f"local-dir:{pretrain.FOLDER}":
                pretrain.make()
            # % else
            if config.weights == str(pretrain.WEIGHTS):
                pretrain.make()
            # % endif
        # % endif
        splits = make_splits(config.data_dir, preprocessing(config.model, config.image_size))
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

        # % if cookiecutter.model == "timm"
        # % if cookiecutter.data == "digits"
        model = make_model(config.model, len(splits.classes), pretrained=config.pretrained)
        # % else
        with run.accelerator.local_main_process_first():  # one download on each machine
            model = make_model(config.model, len(splits.classes), pretrained=config.pretrained)
        # % endif
        # % elif cookiecutter.data == "digits"
        model = make_model(config.model, len(splits.classes), weights=config.weights)
        # % else
        with run.accelerator.local_main_process_first():  # one download on each machine
            model = make_model(config.model, len(splits.classes), weights=config.weights)
        # % endif

        # What was pretrained is kept until the new head, which begins at random, has learnt to read it. A batch norm
        # that is frozen uses its statistics and leaves them as they are: those of few images would spoil them.
        layers = parts(model)
        upper, everything = (1 + round(share * total_steps) for share in (config.unfreeze_upper, config.unfreeze_all))
        stages = {1: layers[-1:], upper: layers[len(layers) // 2 :], everything: [model]}  # from which step on
        unfreezing = finetuning.Unfreezing(run, model, stages)
        groups = finetuning.param_groups(
            model,
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            layers=layers,
            layer_decay=config.layer_decay,
        )
        model, optimizer = run.prepare(model, torch.optim.AdamW(groups))
        schedule = schedules.one_cycle(optimizer, total_steps, warmup_fraction=config.warmup_ratio)
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

        # A step is one update of the weights, from `global_batch_size` samples on however many processes.
        for epoch in run.epochs(config.epochs, config.max_steps):
            model.train()
            for step in run.steps(train_loader, accumulate=config.accumulate):
                unfreezing.apply(step.number)
                for batch in step:  # micro-batches; gradients are exchanged on the last one
                    loss, _ = compute_loss(model, batch)  # a sum, not a mean
                    run.backward(loss, count=step.num_samples)  # divided once, by the whole global batch
                    train_meter.add(loss=loss, count=step.micro_batch_samples)
                grad_norm = run.clip_grad_norm(model, config.max_grad_norm)
                learning_rate = schedule.get_last_lr()[-1]  # of this step, for the head
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
