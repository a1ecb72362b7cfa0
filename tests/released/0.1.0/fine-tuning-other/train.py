"""Fine-tune a pretrained image classifier: its head first, then more and more of it. The loop is yours: edit it.

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
    finetuning,
    load_config,
    schedules,
)
import torch
from torch import nn
from torch.nn import functional as F

from data import check_images, make_splits
from model import make_model, parts, preprocessing


@dataclass
class Config:
    """Every setting of a run: `python train.py --help` lists them, `--config FILE.toml` reads them."""

    # Data
    data_dir: Path = Path("data")  # where the images are
    image_size: int | None = None  # height and width of images, in pixels; None is what the weights expect
    global_batch_size: int = 32  # samples per step, over all processes and micro-batches
    eval_batch_size: int = 256  # samples per evaluation batch, over all processes
    num_workers: int = 2  # processes that load data, for each process that trains
    limit_batches: int | None = None  # batches of each epoch to use, for a quick try; None is all

    # Model
    model: str = "resnet18"  # any of `torchvision.models.list_models(torchvision.models)`
    weights: str | None = (
        "DEFAULT"  # the published ones, which are downloaded; or a .safetensors file; None is at random
    )

    # Optimization
    epochs: int | None = 10  # passes over the training data; None is until max_steps
    max_steps: int | None = None  # steps after which the run ends; None is off
    accumulate: int = 1  # micro-batches that each process cuts its share of a step into, to save memory
    unfreeze_upper: float = 0.2  # share of all steps after which the upper half is trained; until then, the head alone
    unfreeze_all: float = 0.4  # share of all steps after which all is trained; from 1 on, never
    learning_rate: float = 3e-3  # of the head, at its peak
    layer_decay: float = 0.8  # what the learning rate is multiplied with from each part to the one before it
    warmup_ratio: float = 0.3  # first share of all steps, over which the learning rates rise
    weight_decay: float = 0.05  # AdamW's, for each step and learning rate; norms and biases are spared
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
    with Run(config) as run, ExitStack() as stack:
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

        with run.accelerator.local_main_process_first():  # one download on each machine
            model = make_model(config.model, len(splits.classes), weights=config.weights)

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
            ema=ema,
            early_stopping=early_stopping,
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
                ema.update()
                profiler.step()

                if step.every(config.log_every):
                    run.log("train", train_meter.read(), learning_rate=learning_rate, grad_norm=grad_norm)
                if step.due(config.eval_every):
                    with ema.swapped_in():
                        scores = evaluate(run, model, eval_loader)
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
