"""Train a generator of images against a discriminator. Edit the training loop in `main` as you like.

    python train.py                           on this machine: CPU, GPU or Apple silicon
    accelerate launch train.py                the same file on several GPUs or machines
    python train.py --resume auto             continue the newest unfinished run

Data comes from `data.py`, both models from `model.py`. `judge.py` scores generated images, and `evaluate.py` tests the
best weights of a run.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from accelerate.utils import gather_object
from matplotlib.image import imsave
from paccel.runtime import (
    Checkpoints,
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

from data import WithNoise, make_latents, make_splits
from judge import Judge, frechet_distance, train_judge
from model import make_models

DISTURBANCE = 0.1  # standard deviation of the noise added to real images, with pixels in [-1, 1]


@dataclass
class Config:
    """The settings of a training run."""

    # Data
    global_batch_size: int = 64  # samples per step, over all processes and micro-batches
    eval_batch_size: int = 500  # images per evaluation batch, over all processes
    num_generated: int = 1000  # images generated per evaluation
    num_workers: int = 0  # DataLoader workers per process
    limit_batches: int | None = None  # batches per epoch, for a quick try; None = all

    # Model
    width: int = 32  # channels at full resolution; doubled at each halving
    latent_size: int = 32  # size of the latent vector

    # Optimization
    epochs: int | None = 100  # epochs to train; None = until max_steps
    max_steps: int | None = None  # steps to train; None = until the epochs are done
    accumulate: int = 1  # gradient accumulation: micro-batches per step
    micro_batch_size: int | None = None  # samples per micro-batch and process, instead of accumulate
    learning_rate: float = 1e-3  # of both networks, at its peak
    warmup_ratio: float = 0.07  # fraction of steps for linear warm-up
    penalty: float = 5.0  # weight of the gradient penalty (R1) of the discriminator
    max_grad_norm: float | None = None  # gradient clipping: maximum norm; None = off
    seed: int = 0  # random seed for initial weights, data order and augmentation

    # Hardware
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"  # auto = bf16 or fp16 on a GPU, fp32 elsewhere
    compile: bool = False  # compile the model with torch.compile
    deterministic: bool = False  # use deterministic algorithms only; slower on a GPU

    # Record
    log_every: int | None = 20  # steps between log lines; None = off
    eval_every: int | None = 200  # steps between evaluations; None = after each epoch
    save_every: int | None = 200  # steps between checkpoints; None = after each epoch
    keep_last: int = 2  # number of checkpoints to keep, the newest ones
    resume: str = "never"  # auto = continue run_dir or the newest unfinished run; or the PATH of a run or checkpoint
    run_dir: Path | None = None  # output folder of the run; None = runs/<time>
    time_limit: float | None = None  # save and stop after this many seconds, with exit code 75; None = off
    trackers: tuple[str, ...] = ()  # experiment trackers, such as tensorboard or wandb


Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def discriminator_loss(
    discriminator: nn.Module, batch: Batch, fakes: torch.Tensor, penalty: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss summed over the batch, shape (), and the number of images told apart correctly.

    The R1 penalty on the gradient at real images stabilizes training. It is estimated by finite differences, from the
    change of the output under a small disturbance, which avoids second derivatives.
    Sources: Mescheder, Geiger, Nowozin 2018, "Which training methods for GANs do actually converge?", R1;
    Lin et al. 2025, "Diffusion adversarial post-training", finite differences.
    """
    reals, labels, _, disturbances = batch
    images = torch.cat([reals, fakes, reals + DISTURBANCE * disturbances])  # one forward pass for all
    of_reals, of_fakes, of_disturbed = discriminator(images, labels.repeat(3)).chunk(3)
    slopes = ((of_disturbed - of_reals) / DISTURBANCE).square()
    loss = (F.softplus(-of_reals) + F.softplus(of_fakes) + penalty / 2 * slopes).sum()
    return loss, (of_reals > 0).sum() + (of_fakes < 0).sum()


def generator_loss(discriminator: nn.Module, fakes: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the loss summed over the batch, shape (): low if the discriminator takes generated images for real."""
    return F.softplus(-discriminator(fakes, labels)).sum()


def evaluate(
    run: Run, generator: nn.Module, judge: Judge, loader: Loader, reals: torch.Tensor
) -> tuple[dict[str, float], torch.Tensor]:
    """Return the scores of generated images, and the first batch of images, from the same latents each time.

    `frechet_distance` compares features with those of real images: lower is better. `accuracy` is the fraction of
    images that the judge assigns to the class they were generated for.
    """
    meter = Meter(run)
    features, shown = [], []
    with run.evaluating(generator) as generator:  # eval mode, no gradients; restored afterwards
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
    """Write a PNG grid of the first images (N, C, S, S), at most ten rows, on the main process."""
    rows = min(len(images) // columns, 10)
    if run.accelerator.is_main_process and rows:
        tiles = F.pad(images[: rows * columns], (1, 1, 1, 1)).unflatten(0, (rows, columns))
        sheet = tiles.permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2) / 2 + 0.5  # (height, width, C), in [0, 1]
        path.parent.mkdir(exist_ok=True)
        imsave(path, sheet.expand(-1, -1, 3).clamp(0, 1).numpy())


def main(config: Config) -> None:
    """Train with the settings of `config`; on several GPUs, every process calls this."""
    with Run(config) as run:
        splits = make_splits()
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

        generator, discriminator = make_models(config, splits)
        betas = (0.0, 0.99)  # no momentum: each model trains against a moving target
        generator_optimizer = torch.optim.Adam(generator.parameters(), lr=config.learning_rate, betas=betas)
        discriminator_optimizer = torch.optim.Adam(discriminator.parameters(), lr=config.learning_rate, betas=betas)
        generator, discriminator, generator_optimizer, discriminator_optimizer = run.prepare(
            generator, discriminator, generator_optimizer, discriminator_optimizer
        )
        frozen_discriminator = run.accelerator.unwrap_model(discriminator)  # its gradients are not synchronized
        generator_schedule = schedules.cosine(generator_optimizer, total_steps, warmup_steps)
        discriminator_schedule = schedules.cosine(discriminator_optimizer, total_steps, warmup_steps)
        train_meter = Meter(run)

        # Everything listed here is checkpointed and restored on resume.
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
            train_meter=train_meter,
        )

        def evaluate_and_log() -> None:
            scores, images = evaluate(run, generator, judge, eval_loader, reals)
            run.log("eval", scores)
            draw(run, images, run.run_dir / "samples" / f"step-{run.position.step}.png", splits.num_classes)
            checkpoints.keep_best(scores)

        checkpoints.restore()
        with run.rehearsal():  # evaluate one batch now, so that an error costs no epoch
            checkpoints.check_scores(evaluate(run, generator, judge, eval_loader, reals)[0])
        if checkpoints.evaluation_is_due:  # the run ended between a checkpoint and its evaluation
            evaluate_and_log()

        # One step = one update of both models over global_batch_size samples, across all processes.
        for epoch in run.epochs(config.epochs, config.max_steps):
            generator.train()
            discriminator.train()
            for step in run.steps(train_loader, config.accumulate, micro_batch_size=config.micro_batch_size):
                for batch in step:  # micro-batches; gradients are synchronized on the last one
                    _, labels, latents, _ = batch
                    fakes = generator(latents, labels)

                    # Train the discriminator; detach() keeps gradients out of the generator.
                    d_loss, told_apart = discriminator_loss(discriminator, batch, fakes.detach(), config.penalty)
                    run.backward(d_loss, count=step.num_samples)  # a sum, divided once, by the whole global batch

                    # Train the generator against a frozen discriminator.
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

                if step.every(config.log_every):
                    run.log(
                        "train",
                        train_meter.read(),
                        learning_rate=learning_rate,
                        generator_grad_norm=generator_norm,
                        discriminator_grad_norm=discriminator_norm,
                    )
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
