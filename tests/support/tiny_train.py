"""A small run in float64 that the tests start in one or more processes, stop, kill and resume.

43 samples and a batch size of 8 leave a ragged tail of 3, fewer than 2 processes times 2 micro-batches. Every process
writes the samples that it saw to `order-<rank>.jsonl` in the run directory.
"""

import atexit
import errno
import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from paccel.runtime import (
    EMA,
    Checkpoints,
    DataError,
    EarlyStopping,
    Loader,
    Meter,
    Run,
    exit_with_message,
    load_config,
    schedules,
)
from paccel.runtime.record.reporting import Reporter
from paccel.runtime.storage import files


@dataclass
class Config:
    """Settings of the tiny run."""

    run_dir: Path
    data: str = "tensors"  # tensors, augmented, or counted by token: tokens (1 to 5 a sample), sparse (0 to 4)
    epochs: int | None = 3
    max_steps: int | None = None
    global_batch_size: int = 8
    accumulate: int = 1
    num_workers: int = 0
    dropout: float = 0.0
    learning_rate: float = 1e-2
    max_grad_norm: float | None = 0.5
    log_every: int | None = 1
    eval_every: int | None = 4
    save_every: int | None = 2
    keep_last: int = 2
    keep_best: int = 1
    save_in_background: bool = False
    patience: int = 1000
    resume: str = "never"
    seed: int = 3
    time_limit: float | None = None
    skip_non_finite: int = 0


def fault(step: int, rank: int, place: str = "step") -> None:
    """Apply the fault from the environment: `kill:5:0` in step 5 of process 0, `SIGTERM@eval:5:0` in its evaluation.

    Kinds: `kill`, `raise`, `mend` for an error that the user can fix, the name of a signal, `twice` for two signals,
    `echo` for two at the same moment. `mend@data:0:all` raises one on every process.
    """
    what, _, where = os.environ["FAULT"].partition(":")
    kind, _, at = what.partition("@")
    if (at or "step") != place or where not in (f"{step}:{rank}", f"{step}:all"):
        return
    if kind == "raise":
        raise ArithmeticError("broken on purpose")
    if kind == "mend":
        raise DataError("`data` is wrong on purpose:\nmend it")
    if kind in ("twice", "echo"):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1.2 if kind == "twice" else 0.05)
        os.kill(os.getpid(), signal.SIGTERM)
    elif kind not in ("nan", "gradient", "inf"):
        os.kill(os.getpid(), signal.SIGKILL if kind == "kill" else signal.Signals[kind])


def spoiled(loss: torch.Tensor, step: int, rank: int, *kinds: str) -> torch.Tensor:
    """The loss, replaced by NaN on one process at the steps in the environment, such as `nan:3,4:1`.

    With `gradient:3,4:1`, only its gradient is NaN. With `inf@loss:3,4:1`, only the logged loss is infinite.
    """
    kind, _, where = os.environ["FAULT"].partition(":")
    steps, _, process = where.partition(":")
    if kind not in (kinds or ("nan", "gradient")) or str(step) not in steps.split(",") or process != str(rank):
        return loss
    if kind == "gradient":
        loss.register_hook(lambda gradient: gradient * float("nan"))
        return loss * 1
    return loss * float("inf" if kind == "inf@loss" else "nan")


def break_storage() -> None:
    """Count the disk operations of `storage`, and apply the fault from the environment at one of them.

    `FAULT=exit@write:17` ends the process at the 17th, like SIGKILL; `ENOSPC@write:17` and `EROFS@write:17` fail from
    then on; `SIGTERM@write:17` sends a signal. The number of operations is written to `writes` in the working directory.
    """
    what, _, number = os.environ["FAULT"].partition("@write:")
    done = 0

    def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*args: Any, **options: Any) -> Any:
            nonlocal done
            done += 1
            if number and done >= int(number):
                if what in ("ENOSPC", "EROFS"):
                    raise OSError(getattr(errno, what), os.strerror(getattr(errno, what)))
                if done == int(number):
                    os._exit(9) if what == "exit" else os.kill(os.getpid(), signal.Signals[what])
            return function(*args, **options)

        return operation

    for module, names in (
        (files, ("durable_write", "sync_folder")),
        (os, ("rename", "replace")),
        (shutil, ("rmtree",)),
    ):
        for name in names:
            setattr(module, name, wrapped(getattr(module, name)))
    atexit.register(lambda: print(f"operations: {done}", flush=True))


class Augmented(Dataset):
    """Samples with noise drawn from the global generator."""

    def __init__(self, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        self.inputs, self.targets = inputs, targets

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[int, torch.Tensor, torch.Tensor]:
        inputs = self.inputs[index]
        return index, inputs + 0.1 * torch.randn_like(inputs), self.targets[index]


def make_data(kind: str) -> tuple[Dataset, Any]:
    """A dataset of samples (index, inputs, targets), by kind, and its collation."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(43, 5, 4, dtype=torch.float64, generator=generator)
    targets = inputs.sum(-1, keepdim=True).sin()
    if kind in ("tokens", "sparse"):  # 4 features per token
        lengths = [(kind == "tokens") + i * 7 % 5 for i in range(43)]
        samples = [(i, inputs[i, :n], targets[i, :n]) for i, n in enumerate(lengths)]

        def collate(rows: list) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            index, x, y = zip(*rows, strict=True)
            return torch.tensor(index), torch.cat(x), torch.cat(y)

        return samples, collate  # a list is a dataset too
    flat, targets = inputs.flatten(1)[:, :4], targets[:, 0]
    if kind == "augmented":
        return Augmented(flat, targets), None
    return TensorDataset(torch.arange(43), flat, targets), None


def compute_loss(model: nn.Module, batch: Any) -> torch.Tensor:
    _, inputs, targets = batch
    return ((model(inputs) - targets) ** 2).sum()


def evaluate(run: Run, model: nn.Module, loader: Loader) -> dict[str, float]:
    meter = Meter(run)
    with run.evaluating(model) as model:
        for number, batch in enumerate(run.batches(loader)):
            if number == 0:
                fault(run.position.step, run.accelerator.process_index, "eval")
            meter.add(loss=compute_loss(model, batch), count=len(batch[2]))
    return meter.read()


def main(config: Config) -> None:
    with Run(config) as run:
        with run.accelerator.main_process_first():
            dataset, collate = make_data(config.data)
            fault(0, run.accelerator.process_index, "data")
        train_loader = run.loader(
            dataset, config.global_batch_size, shuffle=True, num_workers=config.num_workers, collate_fn=collate
        )
        eval_loader = run.loader(dataset, 16, collate_fn=collate)
        model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Dropout(config.dropout), nn.Linear(16, 1)).double()
        optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate)
        model, optimizer = run.prepare(model, optimizer)
        total_steps = train_loader.total_steps(config.epochs, config.max_steps)
        schedule = schedules.cosine(optimizer, total_steps, warmup_steps=3)
        ema = EMA(model, decay=0.9)
        early_stopping = EarlyStopping(config.patience)
        meter = Meter(run)
        tracked = {"schedule": schedule, "ema": ema, "early_stopping": early_stopping, "meter": meter}
        checkpoints = Checkpoints(
            run,
            keep_last=config.keep_last,
            best="loss",
            keep_best=config.keep_best,
            background=config.save_in_background,
            model=model,
            optimizer=optimizer,
            **tracked,
        )

        def evaluate_and_log() -> None:
            with ema.swapped_in():
                scores = evaluate(run, model, eval_loader)
            run.log("eval", scores)
            checkpoints.keep_best(scores)
            if early_stopping.should_stop(scores["loss"]):
                run.finish("no lower loss")

        checkpoints.restore()
        if checkpoints.evaluation_is_due:
            evaluate_and_log()
        rank = run.accelerator.process_index
        order = (run.run_dir / f"order-{rank}.jsonl").open("a")
        by_token = config.data in ("tokens", "sparse")

        for _ in run.epochs(config.epochs, config.max_steps):
            model.train()
            for step in run.steps(train_loader, accumulate=config.accumulate):
                count = step.total(lambda batch: len(batch[2])) if by_token else step.num_samples
                for batch in step:
                    loss = compute_loss(model, batch)
                    run.backward(spoiled(loss, step.number, rank), count)
                    meter.add(loss=spoiled(loss, step.number, rank, "inf@loss"), count=len(batch[2]))
                    print(
                        json.dumps([step.number, batch[0].tolist()[: step.micro_batch_samples]]), file=order, flush=True
                    )
                fault(step.number, rank)
                grad_norm = run.clip_grad_norm(model, config.max_grad_norm)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
                ema.update()
                if step.every(config.log_every):
                    run.log("train", meter.read(), learning_rate=schedule.get_last_lr()[0], grad_norm=grad_norm)
                evaluation_is_due = step.due(config.eval_every)
                if step.due(config.save_every):
                    checkpoints.save(then_evaluate=evaluation_is_due)
                if evaluation_is_due:
                    evaluate_and_log()
                if run.stopping():
                    checkpoints.save()
                    raise run.stopped()
        checkpoints.save_weights("final")
        fault(0, rank, "end")


def run_as_process(arguments: list[str], environment: dict[str, str], output: Path) -> None:
    """The work of each process of a test: this run, as if a launcher had started it with that environment."""
    os.environ.update(environment)
    if "fork" in multiprocessing.get_all_start_methods():
        multiprocessing.set_start_method("fork", force=True)  # for data workers, as in a script, unlike in the tests
    for stream, path in ((1, output.with_suffix(".out")), (2, output.with_suffix(".err"))):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream)
    torch.set_num_threads(1)
    if "@write" in environment["FAULT"]:
        break_storage()
    Reporter.draw = lambda *_, **__: None  # curves have their own tests, and take longer than the rest of a run
    try:
        with exit_with_message():
            main(load_config(Config, arguments))
    except Exception:
        sys.excepthook(*sys.exc_info())  # ends like a script, unlike a process of multiprocessing
        sys.exit(1)
