"""The default digits project against other ways to write the same training: accuracy and time, in one run.

    python benchmarks/library_comparison.py [--seeds 5] [--epochs 8]

All train the same network on the same digits with AdamW, the same batch size, warm-up and cosine schedule and clipping
(pytorch-accelerated clips by value, so it does not clip here), from the same initial weights for each seed. `textbook`
is what a PyTorch tutorial writes: a `DataLoader` over a `TensorDataset` with the default collation. The generated
project evaluates and saves after each epoch, as it does for its user; the others only train. Each takes its turn within
a seed, in an order that turns, on one thread. Accuracy is that of the weights at the end on the 300 held-out digits; the
order of the samples is each tool's own. Two times are taken: the CPU seconds of the whole training, and the CPU time of a
step, from one forward pass in training to the next within an epoch, which leaves out what is not the loop.
"""

import argparse
import contextlib
import io
import itertools
import math
import os
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from generated_loop import generated
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

BATCH_SIZE, LEARNING_RATE, WEIGHT_DECAY, MAX_NORM, WARMUP_RATIO = 64, 1e-3, 0.05, 1.0, 0.07


@dataclass
class Task:
    """One training: the model with its initial weights, the data, and how the generated project would schedule it."""

    train: Any  # the generated project's module
    splits: Any
    model: nn.Module
    seed: int
    epochs: int
    folder: Path

    def __post_init__(self) -> None:
        self.steps = self.epochs * -(-len(self.splits.train) // BATCH_SIZE)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)

    def schedule(self, optimizer: Any = None) -> Any:
        """A linear warm-up and half a cosine, as PyTorch's users write it."""
        warmup = round(WARMUP_RATIO * self.steps)

        def ratio(step: int) -> float:
            if step < warmup:
                return (step + 1) / (warmup + 1)
            return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (self.steps - warmup)))

        return torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, ratio)

    def loader(self) -> DataLoader[Any]:
        return DataLoader(self.splits.train, batch_size=BATCH_SIZE, shuffle=True)


def textbook(task: Task) -> None:
    """Plain PyTorch."""
    schedule = task.schedule()
    for _ in range(task.epochs):
        for images, labels in task.loader():
            F.cross_entropy(task.model(images), labels).backward()
            nn.utils.clip_grad_norm_(task.model.parameters(), MAX_NORM)
            task.optimizer.step()
            schedule.step()
            task.optimizer.zero_grad()


def generated_project(task: Task) -> None:
    """`train.py` as rendered, with its evaluations and checkpoints."""
    task.train.make_model = lambda *_: task.model
    task.train.main(task.train.Config(epochs=task.epochs, seed=task.seed, run_dir=task.folder / "run", log_every=20))


def pytorch_accelerated(task: Task) -> None:
    from pytorch_accelerated import Trainer

    trainer = Trainer(task.model, F.cross_entropy, task.optimizer, callbacks=[])
    trainer.train(
        task.splits.train,
        num_epochs=task.epochs,
        per_device_batch_size=BATCH_SIZE,
        create_scheduler_fn=task.schedule,
        train_dataloader_kwargs={"num_workers": 0, "shuffle": True, "pin_memory": False},
    )


def lightning(task: Task) -> None:
    from lightning.pytorch import LightningModule, Trainer

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.inner = task.model

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            images, labels = batch
            return F.cross_entropy(self.inner(images), labels)

        def configure_optimizers(self) -> Any:
            return {"optimizer": task.optimizer, "lr_scheduler": {"scheduler": task.schedule(), "interval": "step"}}

    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    options: dict[str, Any] = {"accelerator": "cpu", "devices": 1, "max_epochs": task.epochs}
    Trainer(**options, **quiet, gradient_clip_val=MAX_NORM).fit(Module(), task.loader())


LOOPS: dict[str, tuple[str | None, Callable[[Task], None]]] = {
    "textbook PyTorch": ("torch", textbook),
    "generated project": ("paccel", generated_project),
    "pytorch-accelerated": ("pytorch-accelerated", pytorch_accelerated),
    "Lightning": ("lightning", lightning),
}


def train_once(train: Any, loop: Callable[[Task], None], seed: int, epochs: int) -> tuple[float, float, float]:
    """CPU seconds of the training, CPU milliseconds of a step, and the accuracy on held-out digits after it."""
    data = sys.modules["data"]
    splits = data.make_splits()
    torch.manual_seed(seed)
    model = sys.modules["model"].make_model(splits.channels, splits.num_classes, train.Config().width)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        task = Task(train, splits, model, seed, epochs, Path(folder))
        marks: list[float] = []
        hook = model.register_forward_pre_hook(
            lambda model, _: marks.append(time.thread_time()) if model.training else None
        )
        os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)  # see loop_overhead.py
        started = time.process_time()
        loop(task)
        seconds = time.process_time() - started
        hook.remove()
    assert len(marks) == task.steps, f"{loop.__name__} made {len(marks)} of {task.steps} steps"
    each_epoch = task.steps // epochs
    taken = [b - a for number, (a, b) in enumerate(itertools.pairwise(marks), 1) if number % each_epoch]
    images, labels = splits.eval.tensors
    with torch.no_grad():
        accuracy = (model.eval()(images).argmax(1) == labels).float().mean().item()
    return seconds, 1e3 * statistics.mean(taken), accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=8)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    seconds: dict[str, list[float]] = {name: [] for name in LOOPS}
    per_step: dict[str, list[float]] = {name: [] for name in LOOPS}
    accuracy: dict[str, list[float]] = {name: [] for name in LOOPS}
    with tempfile.TemporaryDirectory() as folder, generated(Path(folder) / "project") as train:
        make_model = train.make_model
        for _, loop in LOOPS.values():  # for imports and caches
            train_once(train, loop, 0, 1)
            train.make_model = make_model
        for seed in range(arguments.seeds):
            names = list(LOOPS)
            for name in names[seed % len(names) :] + names[: seed % len(names)]:
                took, step, reached = train_once(train, LOOPS[name][1], seed, arguments.epochs)
                train.make_model = make_model
                seconds[name].append(took)
                per_step[name].append(step)
                accuracy[name].append(reached)
                print(f"seed {seed}, {name}: {took:.1f} s, {100 * reached:.1f} %", file=sys.stderr)
    print(f"{os.cpu_count()} cores, one thread, {platform.system()}, Python {platform.python_version()}")
    print(f"torch {torch.__version__}, {arguments.seeds} seeds, {arguments.epochs} epochs\n")
    print(
        "| loop | version | accuracy %, each seed | mean | CPU ms per step | to textbook | CPU s, all | to textbook |"
    )
    print("|---|---|---|---:|---:|---:|---:|---:|")
    for name, (distribution, _) in LOOPS.items():
        each = ", ".join(f"{100 * a:.1f}" for a in accuracy[name])
        row = f"| {name} | {version(distribution or 'torch')} | {each} | {100 * statistics.mean(accuracy[name]):.2f} |"
        for times in (per_step, seconds):
            ratios = [a / b for a, b in zip(times[name], times["textbook PyTorch"], strict=True)]
            row += f" {statistics.median(times[name]):.2f} | {statistics.median(ratios):.3f} |"
        print(row)
    print("\nTimes are medians over the seeds; ratios are medians of the ratios within each seed.")


if __name__ == "__main__":
    main()
