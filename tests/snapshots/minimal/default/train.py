"""Train a small model on scikit-learn's digits. Everything is in this file: replace it with your own.

python train.py                      on this machine: CPU, GPU or Apple silicon
accelerate launch train.py           the same file on several GPUs or machines
python train.py --resume auto        continue the newest unfinished run
"""

from dataclasses import dataclass
from pathlib import Path

from paccel.runtime import Checkpoints, Loader, Meter, Run, exit_with_message, load_config, load_weights, schedules
from sklearn.datasets import load_digits
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Subset, TensorDataset, random_split


@dataclass
class Config:
    """The settings of a training run."""

    epochs: int = 30  # epochs to train
    global_batch_size: int = 64  # samples per step, over all processes
    learning_rate: float = 2e-3  # at its peak
    seed: int = 0  # random seed for initial weights and data order
    resume: str = "never"  # auto = continue run_dir or the newest unfinished run; or the PATH of a run or checkpoint
    run_dir: Path | None = None  # output folder of the run; None = runs/<time>


def make_data() -> list[Subset[tuple[torch.Tensor, ...]]]:
    """Return train, eval and test data: images (64,) float32 and labels int64. The split is always the same."""
    digits = load_digits()
    images, labels = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
    return random_split(TensorDataset(images, labels), [1197, 300, 300], torch.Generator().manual_seed(0))


def make_model() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))


def compute_loss(model: nn.Module, batch: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
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
            meter.add(loss=loss, accuracy=(logits.argmax(-1) == batch[1]).sum(), count=len(logits))
    return meter.read()


def main(config: Config) -> None:
    """Train with the settings of `config`; on several GPUs, every process calls this."""
    with Run(config) as run:
        train_data, eval_data, test_data = make_data()
        train_loader = run.loader(train_data, config.global_batch_size, shuffle=True)
        eval_loader, test_loader = run.loader(eval_data, 512), run.loader(test_data, 512)
        total_steps = train_loader.total_steps(config.epochs)

        model = make_model()
        optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate)
        model, optimizer = run.prepare(model, optimizer)
        schedule = schedules.cosine(optimizer, total_steps, warmup_steps=total_steps // 20)
        train_meter = Meter(run)

        # Everything listed here is checkpointed and restored on resume.
        state = {"model": model, "optimizer": optimizer, "schedule": schedule, "train_meter": train_meter}
        checkpoints = Checkpoints(run, best="accuracy", mode="max", **state)

        def evaluate_and_log() -> None:
            scores = evaluate(run, model, eval_loader)
            run.log("eval", scores)
            checkpoints.keep_best(scores)

        checkpoints.restore()
        with run.rehearsal():  # evaluate one batch now, so that an error costs no epoch
            checkpoints.check_scores(evaluate(run, model, eval_loader))
        if checkpoints.evaluation_is_due:  # the run ended between a checkpoint and its evaluation
            evaluate_and_log()

        for epoch in run.epochs(config.epochs):
            model.train()
            for step in run.steps(train_loader):
                for batch in step:  # one batch; several with `run.steps(train_loader, accumulate=4)`
                    loss, _ = compute_loss(model, batch)  # a sum, not a mean
                    run.backward(loss, count=step.num_samples)  # divided once, by the whole global batch
                    train_meter.add(loss=loss, count=step.micro_batch_samples)
                grad_norm = run.clip_grad_norm(model, 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()

                if step.is_last_of_epoch:
                    run.log("train", train_meter.read(), grad_norm=grad_norm)
                    checkpoints.save(then_evaluate=True)
                    evaluate_and_log()
                if run.stopping():  # on a signal; all processes agree on the step
                    checkpoints.save()
                    raise run.stopped()  # exit code 75: run again with `--resume auto`

        best_model = make_model()
        load_weights(run.run_dir / "weights" / "best.safetensors", best_model)
        run.log("test", evaluate(run, run.prepare(best_model), test_loader))


if __name__ == "__main__":
    with exit_with_message():
        main(load_config(Config))
