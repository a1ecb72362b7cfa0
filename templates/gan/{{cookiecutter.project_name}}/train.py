# % set watched, best_is = "frechet_distance", "min"
# % set eval_every = 200
"""Train a generator of images against a discriminator. The loop at the end is yours: edit it.

    python train.py                           on this machine, whatever it has
    accelerate launch train.py                on several GPUs or machines, the same file
    python train.py --resume auto             go on with the newest run that did not finish

The images come from `data.py`, the two networks from `model.py`; `judge.py` says how good the generated images are,
and `evaluate.py` does so for a run's best weights.
"""

# % if cookiecutter.profile
from contextlib import ExitStack
# % endif
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from accelerate.utils import gather_object
from matplotlib.image import imsave
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

from data import WithNoise, make_latents, make_splits
from judge import Judge, frechet_distance, train_judge
from model import make_models

DISTURBANCE = 0.1  # standard deviation of what is added to a real image's pixels, which are from -1 to 1


@dataclass
class Config:
    """Every setting of a run: `python train.py --help` lists them, `--config FILE.toml` reads them."""

    # Data
    # % if cookiecutter.data != "digits"
    data_dir: Path = Path("data")  # where the images are
    # % endif
    # % if cookiecutter.data == "folder"
    image_size: int = 32  # height and width that images are brought to, in pixels; a multiple of 4
    # % endif
    global_batch_size: int = 64  # samples per step, over all processes and micro-batches
    eval_batch_size: int = 500  # images generated at once in an evaluation, over all processes
    num_generated: int = 1000  # images generated for an evaluation
    num_workers: int = 0  # processes that load data, for each process that trains
    limit_batches: int | None = None  # batches of each epoch to use, for a quick try; None is all

    # Model
    width: int = 32  # channels at full size; each halving of the size doubles them
    latent_size: int = 32  # numbers that an image is generated from, besides its class

    # Optimization
    epochs: int | None = {{ 100 if cookiecutter.data == "digits" else 10 if cookiecutter.data == "mnist" else 50 }}  # passes over the training data; None is until max_steps
    max_steps: int | None = None  # steps after which the run ends; None is off
    accumulate: int = 1  # micro-batches that each process cuts its share of a step into, to save memory
    learning_rate: float = 1e-3  # of both networks, at its peak
    # % include "train/config_schedule.py"
    penalty: float = 5.0  # on the squared slope of the discriminator around real images
    max_grad_norm: float | None = None  # gradients are scaled down to this norm; None is off
    # % include "train/config_extras.py"
    seed: int = 0  # of the weights, the order of the data and everything random

    # % include "train/config_hardware_and_record.py"


Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def discriminator_loss(
    discriminator: nn.Module, batch: Batch, fakes: torch.Tensor, penalty: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss summed over the batch, shape (), and how many of the real and generated images it tells apart.

    The penalty keeps it from changing faster around real images than the generator can follow: the squared
    difference that a small disturbance makes, an estimate of the squared gradient without a second derivative.
    Sources: Mescheder, Geiger, Nowozin 2018, "Which training methods for GANs do actually converge?", R1;
    Lin et al. 2025, "Diffusion adversarial post-training", the estimate.
    """
    reals, labels, _, disturbances = batch
    images = torch.cat([reals, fakes, reals + DISTURBANCE * disturbances])  # one forward pass, in which all are alike
    of_reals, of_fakes, of_disturbed = discriminator(images, labels.repeat(3)).chunk(3)
    slopes = ((of_disturbed - of_reals) / DISTURBANCE).square()
    loss = (F.softplus(-of_reals) + F.softplus(of_fakes) + penalty / 2 * slopes).sum()
    return loss, (of_reals > 0).sum() + (of_fakes < 0).sum()


def generator_loss(discriminator: nn.Module, fakes: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the loss summed over the batch, shape (): small where the discriminator takes generated for real."""
    return F.softplus(-discriminator(fakes, labels)).sum()


def evaluate(
    run: Run, generator: nn.Module, judge: Judge, loader: Loader, reals: torch.Tensor
) -> tuple[dict[str, float], torch.Tensor]:
    """Return the scores of generated images, and some of these images for a picture, the same ones each time.

    The Fréchet distance to the features of the real images falls as quality and variety rise; accuracy is the share
    in which the judge sees the class that was asked for.
    """
    meter = Meter(run)
    features, shown = [], []
    with run.evaluating(generator) as generator:  # no gradients; the training mode comes back afterwards
        for latents, labels in run.batches(loader):
            fakes = generator(latents, labels)
            seen, logits = judge(fakes)
            meter.add(accuracy=(logits.argmax(-1) == labels).sum(), count=len(labels))
            features.append(seen.cpu())
            shown.append(fakes.cpu())
        all_features = torch.cat(gather_object(features))  # of all processes
        distance = frechet_distance(all_features, judge(reals)[0].cpu())
    return {"frechet_distance": distance, **meter.read()}, shown[0]


def draw(run: Run, images: torch.Tensor, path: Path, columns: int) -> None:
    """Write the first images (N, C, S, S) as one PNG of at most ten rows, on the main process."""
    rows = min(len(images) // columns, 10)
    if run.accelerator.is_main_process and rows:
        tiles = F.pad(images[: rows * columns], (1, 1, 1, 1)).unflatten(0, (rows, columns))
        sheet = tiles.permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2) / 2 + 0.5  # (height, width, C), from 0 to 1
        path.parent.mkdir(exist_ok=True)
        imsave(path, sheet.expand(-1, -1, 3).clamp(0, 1).numpy())


def main(config: Config) -> None:
    """Train as `config` says, on whatever this process was launched on."""
    with Run(config) as run{{ ", ExitStack() as stack" if cookiecutter.profile }}:
        # % if cookiecutter.data == "digits"
        splits = make_splits()
        # % elif cookiecutter.data == "mnist"
        with run.accelerator.local_main_process_first():  # one download on each machine
            splits = make_splits(config.data_dir)
        # % else
        splits = make_splits(config.data_dir, config.image_size)
        # % endif
        judge = train_judge(splits.train, splits.num_classes, run.device)
        reals = splits.eval.tensors[0].to(run.device)
        train_loader = run.loader(
            WithNoise(splits.train, config.latent_size),
            config.global_batch_size,
            shuffle=True,
            num_workers=config.num_workers,
            limit_batches=config.limit_batches,
        )
        eval_loader = run.loader(
            make_latents(config.num_generated, config.latent_size, splits.num_classes),
            config.eval_batch_size,
            limit_batches=config.limit_batches,
        )
        total_steps = train_loader.total_steps(config.epochs, config.max_steps)
        warmup_steps = round(config.warmup_ratio * total_steps)

        generator, discriminator = make_models(
            config.latent_size, splits.num_classes, splits.channels, splits.image_size, config.width
        )
        betas = (0.0, 0.99)  # no momentum: each network's goal moves with the other
        generator_optimizer = torch.optim.Adam(generator.parameters(), lr=config.learning_rate, betas=betas)
        discriminator_optimizer = torch.optim.Adam(discriminator.parameters(), lr=config.learning_rate, betas=betas)
        generator, discriminator, generator_optimizer, discriminator_optimizer = run.prepare(
            generator, discriminator, generator_optimizer, discriminator_optimizer
        )
        frozen_discriminator = run.accelerator.unwrap_model(discriminator)  # its gradients are not exchanged
        # % if cookiecutter.schedule == "cosine"
        generator_schedule = schedules.cosine(generator_optimizer, total_steps, warmup_steps)
        discriminator_schedule = schedules.cosine(discriminator_optimizer, total_steps, warmup_steps)
        # % elif cookiecutter.schedule == "wsd"
        decay_steps = round(config.decay_ratio * total_steps)
        generator_schedule = schedules.wsd(generator_optimizer, total_steps, warmup_steps, decay_steps)
        discriminator_schedule = schedules.wsd(discriminator_optimizer, total_steps, warmup_steps, decay_steps)
        # % else
        generator_schedule = schedules.constant(generator_optimizer, warmup_steps)
        discriminator_schedule = schedules.constant(discriminator_optimizer, warmup_steps)
        # % endif
        # % set averaged = "generator"
        # % include "train/extras.py"
        train_meter = Meter(run)

        # All that has state: what is named here is saved, and comes back when a run is resumed.
        checkpoints = Checkpoints(
            run,
            keep_last=config.keep_last,
            best="frechet_distance",
            mode="min",
            generator=generator,
            discriminator=discriminator,
            generator_optimizer=generator_optimizer,
            discriminator_optimizer=discriminator_optimizer,
            generator_schedule=generator_schedule,
            discriminator_schedule=discriminator_schedule,
            # % include "train/extras_state.py"
            train_meter=train_meter,
        )
        checkpoints.restore()

        # A step is one update of both networks, from `global_batch_size` samples on however many processes.
        for epoch in run.epochs(config.epochs, config.max_steps):
            generator.train()
            discriminator.train()
            for step in run.steps(train_loader, accumulate=config.accumulate):
                for batch in step:  # micro-batches; gradients are exchanged on the last one
                    _, labels, latents, _ = batch
                    fakes = generator(latents, labels)

                    # The discriminator learns to tell them apart; what generated them does not learn from this.
                    d_loss, told_apart = discriminator_loss(discriminator, batch, fakes.detach(), config.penalty)
                    run.backward(d_loss, count=step.num_samples)  # a sum, divided once, by the whole global batch

                    # The generator learns to deceive the discriminator, which stays as it is meanwhile.
                    frozen_discriminator.requires_grad_(False)
                    g_loss = generator_loss(frozen_discriminator, fakes, labels)
                    run.backward(g_loss, count=step.num_samples)
                    frozen_discriminator.requires_grad_(True)

                    train_meter.add(
                        generator_loss=g_loss,
                        discriminator_loss=d_loss,
                        told_apart=told_apart / 2,
                        count=step.micro_batch_samples,
                    )
                generator_norm = run.clip_grad_norm(generator, config.max_grad_norm)
                discriminator_norm = run.clip_grad_norm(discriminator, config.max_grad_norm)
                learning_rate = generator_schedule.get_last_lr()[0]  # of this step
                discriminator_optimizer.step()
                generator_optimizer.step()
                discriminator_schedule.step()
                generator_schedule.step()
                discriminator_optimizer.zero_grad()
                generator_optimizer.zero_grad()
                # % include "train/extras_step.py"

                if step.every(config.log_every):
                    run.log(
                        "train",
                        train_meter.read(),
                        learning_rate=learning_rate,
                        generator_grad_norm=generator_norm,
                        discriminator_grad_norm=discriminator_norm,
                    )
                # % set evaluation = "evaluate(run, generator, judge, eval_loader, reals)"
                # % set result = "scores, images"
                # % set then_draw = "draw(run, images, run.run_dir / \"samples\" / f\"step-{step.number}.png\", splits.num_classes)"
                # % include "train/loop_tail.py"
        checkpoints.save_weights("final")


if __name__ == "__main__":
    main(load_config(Config))
