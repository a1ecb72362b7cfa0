"""The default digits project and other ways to write the same training: accuracy and time, in one run.

    python benchmarks/library_comparison.py [--seeds 5] [--epochs 8]

All train the same network on the same digits with AdamW, the same batch size, warm-up and cosine schedule and clipping
(pytorch-accelerated clips by value, so it does not clip here), from the same initial weights for each seed. `textbook`
is what a PyTorch tutorial writes: a `DataLoader` over a `TensorDataset` with the default collation. A second one
gathers whole batches as the generated project does, so the loader is the same. The generated project evaluates and saves
after each epoch, as it does for its user. The others only train, except for a third textbook loop that logs, evaluates and
saves in plain PyTorch as often (without syncing or hashing, and without curves). They take turns within a seed, in a rotating
order, on one thread, after a short training by each to warm imports and caches. Accuracy is that of the final weights on the
300 held-out digits; each tool shuffles in its own way. There are two times: the CPU seconds of the whole training, and the CPU
time of a step, from one forward pass in training to the next within an epoch, which excludes everything outside the loop.
"""

import argparse
import contextlib
import csv
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
from collections.abc import Callable, Iterable, Iterator
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
EVAL_BATCH_SIZE, LOG_EVERY = 512, 20


@dataclass
class Task:
    """One training: the model with its initial weights, the data, and the schedule of the generated project."""

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
        """A linear warm-up and half a cosine, as PyTorch users write it."""
        warmup = round(WARMUP_RATIO * self.steps)

        def ratio(step: int) -> float:
            if step < warmup:
                return (step + 1) / (warmup + 1)
            return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (self.steps - warmup)))

        return torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, ratio)

    def loader(self) -> DataLoader[Any]:
        return DataLoader(self.splits.train, batch_size=BATCH_SIZE, shuffle=True)


def textbook(task: Task, batches: Callable[[], Iterable[Any]] | None = None) -> None:
    """Plain PyTorch."""
    schedule = task.schedule()
    for _ in range(task.epochs):
        for images, labels in (batches or task.loader)():
            F.cross_entropy(task.model(images), labels).backward()
            nn.utils.clip_grad_norm_(task.model.parameters(), MAX_NORM)
            task.optimizer.step()
            schedule.step()
            task.optimizer.zero_grad()


def textbook_gathered(task: Task) -> None:
    """Plain PyTorch that gathers whole batches: the work of the generated project's loader and no more."""
    images, labels = task.splits.train.tensors

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for chosen in torch.randperm(len(images)).split(BATCH_SIZE):
            yield images.index_select(0, chosen), labels.index_select(0, chosen)

    textbook(task, batches)


def textbook_complete(task: Task) -> None:
    """Plain PyTorch with what users add: a log, an evaluation and a checkpoint per epoch, the best weights."""
    schedule, model, optimizer = task.schedule(), task.model, task.optimizer
    best, step, losses = 0.0, 0, []
    with (task.folder / "log.csv").open("w", newline="") as file:
        log = csv.writer(file)
        for epoch in range(1, task.epochs + 1):
            model.train()
            for images, labels in task.loader():
                step += 1
                loss = F.cross_entropy(model(images), labels)
                loss.backward()
                norm = nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
                learning_rate = schedule.get_last_lr()[0]
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
                losses.append(loss.item())
                if step % LOG_EVERY == 0:
                    log.writerow([step, epoch, "train", statistics.fmean(losses), learning_rate, norm.item()])
                    losses.clear()
            model.eval()
            total, correct, count = 0.0, 0, 0
            with torch.no_grad():
                for images, labels in DataLoader(task.splits.eval, batch_size=EVAL_BATCH_SIZE):
                    logits = model(images)
                    total += F.cross_entropy(logits, labels, reduction="sum").item()
                    correct += (logits.argmax(1) == labels).sum().item()
                    count += len(labels)
            log.writerow([step, epoch, "eval", total / count, correct / count])
            file.flush()
            if correct / count >= best:
                best = correct / count
                torch.save(model.state_dict(), task.folder / "best.pt")
            state = {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
            }
            torch.save({"epoch": epoch, **state}, task.folder / f"epoch-{epoch}.pt")
            (task.folder / f"epoch-{epoch - 2}.pt").unlink(missing_ok=True)


def generated_project(task: Task) -> None:
    """`train.py` as rendered, with its evaluations and checkpoints."""
    task.train.make_model = lambda *_: task.model
    task.train.main(
        task.train.Config(epochs=task.epochs, seed=task.seed, run_dir=task.folder / "run", log_every=LOG_EVERY)
    )


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


BASELINES = ("textbook PyTorch", "textbook, batches gathered", "textbook, evaluated and saved")
LOOPS: dict[str, tuple[str, Callable[[Task], None]]] = {
    "textbook PyTorch": ("torch", textbook),
    "textbook, batches gathered": ("torch", textbook_gathered),
    "textbook, evaluated and saved": ("torch", textbook_complete),
    "generated project": ("paccel", generated_project),
    "pytorch-accelerated": ("pytorch-accelerated", pytorch_accelerated),
    "Lightning": ("lightning", lightning),
}


def train_once(train: Any, loop: Callable[[Task], None], seed: int, epochs: int) -> tuple[float, float, float]:
    """CPU seconds of the training, CPU milliseconds of a step, and the final accuracy on held-out digits."""
    data = sys.modules["data"]
    splits = data.make_splits()
    torch.manual_seed(seed)
    model = sys.modules["model"].make_model(train.Config(), splits)
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


def compare(
    names: list[str], seeds: int, epochs: int, warm: bool = True
) -> dict[str, list[tuple[float, float, float]]]:
    """What `train_once` returns for each seed, by loop; they take turns."""
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder, generated(Path(folder) / "project") as train:
        make_model = train.make_model
        turns = [(0, 1, name) for name in names] if warm else []  # warms imports and caches
        for seed in range(seeds):
            start = seed % len(names)
            turns += [(seed, epochs, name) for name in names[start:] + names[:start]]
        for number, (seed, length, name) in enumerate(turns):
            took, step, reached = train_once(train, LOOPS[name][1], seed, length)
            train.make_model = make_model
            if warm and number < len(names):
                continue
            found[name].append((took, step, reached))
            print(f"seed {seed}, {name}: {took:.1f} s, {100 * reached:.1f} %", file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--only", nargs="*", default=list(LOOPS), choices=list(LOOPS))
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    names = [name for name in LOOPS if name in {*arguments.only, *BASELINES}]
    found = compare(names, arguments.seeds, arguments.epochs)
    print(f"{os.cpu_count()} cores, one thread, {platform.system()}, Python {platform.python_version()}")
    print(f"torch {torch.__version__}, {arguments.seeds} seeds, {arguments.epochs} epochs\n")
    print(
        "| loop | version | accuracy %, each seed | mean | CPU ms per step | to textbook | to batches gathered "
        "| CPU s, all | to textbook | to textbook, evaluated and saved |"
    )
    print("|---|---|---|---:|---:|---:|---:|---:|---:|---:|")
    for name in names:
        seconds, steps, reached = zip(*found[name], strict=True)
        each = ", ".join(f"{100 * accuracy:.1f}" for accuracy in reached)
        plain, same_loader, complete = (found[base] for base in BASELINES)
        ratios = [
            statistics.median(a[index] / b[index] for a, b in zip(found[name], base, strict=True))
            for index, base in ((1, plain), (1, same_loader), (0, plain), (0, complete))
        ]
        print(
            f"| {name} | {version(LOOPS[name][0])} | {each} | {100 * statistics.mean(reached):.2f} "
            f"| {statistics.median(steps):.2f} | {ratios[0]:.3f} | {ratios[1]:.3f} "
            f"| {statistics.median(seconds):.2f} | {ratios[2]:.3f} | {ratios[3]:.3f} |"
        )
    print("\nTimes are medians over the seeds; ratios are medians of the ratios within each seed.")


if __name__ == "__main__":
    main()
