"""Fine-tune a pretrained image classifier, first the head, then more layers. Edit the training loop in `main`.

    python train.py                           on this machine: CPU, GPU or Apple silicon
    accelerate launch train.py                the same file on several GPUs or machines
    python train.py --resume auto             continue the newest unfinished run

Data comes from `data.py`, the model from `model.py`; `evaluate.py` tests the best weights of a run.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from paccel.runtime import (
    Checkpoints,
    Loader,
    Meter,
    Run,
    exit_with_message,
    finetuning,
    load_config,
    schedules,
)
import torch
from torch import nn
from torch.nn import functional as F

from data import check_images, make_splits, write_digits
from model import make_model, parts, preprocessing
import pretrain


@dataclass
class Config:
    """The settings of a training run."""

    # Data
    data_dir: Path = Path("data/digits")  # folder with the images; created from the digits if missing
    image_size: int | None = None  # image height and width in pixels; None = what the pretrained weights expect
    global_batch_size: int = 25  # samples per step, over all processes and micro-batches
    eval_batch_size: int = 256  # samples per evaluation batch, over all processes
    num_workers: int = 0  # DataLoader workers per process
    limit_batches: int | None = None  # batches per epoch, for a quick try; None = all

    # Model
    model: str = "local-dir:data/pretrained"  # made by pretrain.py; or a timm model name, or hf-hub:OWNER/NAME
    pretrained: bool = True  # start from pretrained weights; False = random weights, to compare

    # Optimization
    epochs: int | None = 100  # epochs to train; None = until max_steps
    max_steps: int | None = None  # steps to train; None = until the epochs are done
    accumulate: int = 1  # gradient accumulation: micro-batches per step
    micro_batch_size: int | None = None  # samples per micro-batch and process, instead of accumulate
    unfreeze_upper: float = 0.2  # fraction of steps after which the upper half is trained too, not only the head
    unfreeze_all: float = 0.4  # fraction of steps after which the whole model is trained; 1 = never
    learning_rate: float = 3e-3  # of the head, at its peak
    layer_decay: float = 0.8  # learning rate factor from each layer to the one below it
    warmup_ratio: float = 0.3  # fraction of steps for warm-up
    weight_decay: float = 0.05  # AdamW weight decay; not applied to norms and biases
    max_grad_norm: float | None = 1.0  # gradient clipping: maximum norm; None = off
    seed: int = 0  # random seed for initial weights, data order and augmentation

    # Hardware
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"  # auto = bf16 or fp16 on a GPU, fp32 elsewhere
    compile: bool = False  # compile the model with torch.compile
    deterministic: bool = False  # use deterministic algorithms only; slower on a GPU

    # Record
    log_every: int | None = 20  # steps between log lines; None = off
    eval_every: int | None = 20  # steps between evaluations; None = after each epoch
    save_every: int | None = 20  # steps between checkpoints; None = after each epoch
    keep_last: int = 2  # number of checkpoints to keep, the newest ones
    resume: str = "never"  # auto = continue run_dir or the newest unfinished run; or the PATH of a run or checkpoint
    run_dir: Path | None = None  # output folder of the run; None = runs/<time>
    time_limit: float | None = None  # save and stop after this many seconds, with exit code 75; None = off
    trackers: tuple[str, ...] = ()  # experiment trackers, such as tensorboard or wandb


def compute_loss(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss summed over the batch, shape (), and the logits, shape (samples, classes)."""
    images, labels = batch
    logits = model(images)
    return F.cross_entropy(logits, labels, reduction="sum"), logits


def evaluate(run: Run, model: nn.Module, loader: Loader) -> dict[str, float]:
    """Return loss and accuracy over the loader, counting every sample once on any number of processes."""
    meter = Meter(run)
    with run.evaluating(model) as model:  # eval mode, no gradients; restored afterwards
        for batch in run.batches(loader):
            loss, logits = compute_loss(model, batch)
            labels = batch[1]
            meter.add(loss=loss, accuracy=(logits.argmax(-1) == labels).sum(), count=len(labels))
    return meter.read()  # one all-reduce over processes, one device sync


def main(config: Config) -> None:
    """Train with the settings of `config`; on several GPUs, every process calls this."""
    with Run(config) as run:
        with run.accelerator.main_process_first():  # one process writes the images and pretrains
            if not config.data_dir.exists():
                write_digits(config.data_dir)
            if config.model == f"local-dir:{pretrain.FOLDER}":
                pretrain.make()
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

        model = make_model(config.model, len(splits.classes), pretrained=config.pretrained)

        # The head starts at random, so it is trained first while the pretrained layers are frozen. Frozen batch norms
        # also keep their running statistics, which a few images would spoil.
        layers = parts(model)
        upper, everything = (1 + round(share * total_steps) for share in (config.unfreeze_upper, config.unfreeze_all))
        stages = {1: layers[-1:], upper: layers[len(layers) // 2 :], everything: [model]}  # first step: what is trained
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
            train_meter=train_meter,
        )

        def evaluate_and_log() -> None:
            scores = evaluate(run, model, eval_loader)
            run.log("eval", scores)
            checkpoints.keep_best(scores)

        checkpoints.restore()
        with run.rehearsal():  # evaluate one batch now, so that an error costs no epoch
            checkpoints.check_scores(evaluate(run, model, eval_loader))
        if checkpoints.evaluation_is_due:  # the run ended between a checkpoint and its evaluation
            evaluate_and_log()

        # One step = one optimizer update over global_batch_size samples, across all processes.
        for epoch in run.epochs(config.epochs, config.max_steps):
            model.train()
            for step in run.steps(train_loader, config.accumulate, micro_batch_size=config.micro_batch_size):
                unfreezing.apply(step.number)
                for batch in step:  # micro-batches; gradients are synchronized on the last one
                    loss, _ = compute_loss(model, batch)  # a sum, not a mean
                    run.backward(loss, count=step.num_samples)  # divided once, by the whole global batch
                    train_meter.add(loss=loss, count=step.micro_batch_samples)
                grad_norm = run.clip_grad_norm(model, config.max_grad_norm)
                learning_rate = schedule.get_last_lr()[-1]  # of this step, for the head
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()

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
