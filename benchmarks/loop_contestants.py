"""The training loops that `loop_overhead.py` compares: each does the same updates of the same model on the same data.

Every loop is a function of a `Task`. Its features are off (forward, backward, update, nothing else) or on: gradients
clipped by norm, a cosine schedule, and a line every 50 steps with the mean loss since the last one and the learning
rate. Whatever a tool does beyond that is part of the measurement.
"""

import contextlib
import csv
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

WARMUP = 100  # steps before the clock starts
BATCH_SIZE = 32  # samples per step
LOG_EVERY = 50
MAX_NORM = 1.0
LEARNING_RATE = 3e-3


class TimedMLP(nn.Module):
    """A small network that reads the clock in two of its forward passes, so that every loop is timed the same way.

    Attributes:
        calls: Forward passes so far.
        marks: CPU seconds of this thread at the forward passes after the warm-up and at the end.
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 10))
        self.ends = (WARMUP, WARMUP + steps)
        self.calls = 0
        self.marks: list[float] = []

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls in self.ends:
            self.marks.append(time.thread_time())
        return self.layers(inputs)


class WholeBatches(Dataset[Any]):
    """Tensors that a `DataLoader` gathers a batch at a time, which is the fastest way with a plain index."""

    def __init__(self, *tensors: torch.Tensor) -> None:
        self.tensors = tensors

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitems__(self, indices: list[int]) -> tuple[torch.Tensor, ...]:
        chosen = torch.tensor(indices)
        return tuple(tensor.index_select(0, chosen) for tensor in self.tensors)


def as_is(batch: Any) -> Any:
    return batch


@dataclass
class Task:
    """What to train, for how long, and with which features.

    Attributes:
        features: Whether to clip, schedule and log.
        steps: Total number of updates.
        folder: A folder that a tool may write to.
        losses: Logged means, filled by the loop when features are on.
        updates: Number of updates that the loop reports, if it has its own optimizer.
    """

    features: bool
    steps: int
    folder: Path

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        self.model = TimedMLP(self.steps - WARMUP)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=LEARNING_RATE)
        self.inputs = torch.randn(self.steps * BATCH_SIZE, 32)
        self.labels = (self.inputs @ torch.randn(32, 10)).argmax(1)
        self.losses: list[float] = []
        self.updates: int | None = None

    def loader(self) -> DataLoader[Any]:
        dataset = WholeBatches(self.inputs, self.labels)
        return DataLoader(dataset, batch_size=BATCH_SIZE, shuffle=True, collate_fn=as_is)

    def gathered(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The batches without a `DataLoader`, for the barest loop possible."""
        for chosen in torch.randperm(len(self.inputs)).split(BATCH_SIZE):
            yield self.inputs.index_select(0, chosen), self.labels.index_select(0, chosen)

    def schedule(self, optimizer: Any = None) -> torch.optim.lr_scheduler.LambdaLR:
        def cosine(step: int) -> float:
            return 0.5 * (1 + math.cos(math.pi * min(step / self.steps, 1)))

        return torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, cosine)

    def log(self, step: int, losses: list[torch.Tensor], learning_rate: float) -> None:
        """One line of JSON, for loops without their own logger."""
        self.losses.append(torch.stack(losses).mean().item())
        line = {"step": step, "loss": self.losses[-1], "learning_rate": learning_rate}
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")


def bare(task: Task, batches: Any = None) -> None:
    """Plain PyTorch with a `DataLoader`."""
    model, optimizer = task.model, task.optimizer
    schedule = task.schedule() if task.features else None
    losses: list[torch.Tensor] = []
    for step, (inputs, labels) in enumerate(task.loader() if batches is None else batches, 1):
        loss = F.cross_entropy(model(inputs), labels)
        loss.backward()
        if schedule is not None:
            nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
        optimizer.step()
        optimizer.zero_grad()
        if schedule is not None:
            losses.append(loss.detach())
            if step % LOG_EVERY == 0:
                task.log(step, losses, schedule.get_last_lr()[0])
                losses = []
            schedule.step()


def bare_gathered(task: Task) -> None:
    """Plain PyTorch without a `DataLoader`: the batches are gathered by hand."""
    bare(task, task.gathered())


def textbook(task: Task) -> None:
    """Plain PyTorch as tutorials write it: samples fetched one by one from a `TensorDataset` and collated."""
    bare(task, DataLoader(TensorDataset(task.inputs, task.labels), batch_size=BATCH_SIZE, shuffle=True))


def paccel(task: Task) -> None:
    """The generated `train.py` as rendered, from `Run` to the last save, on this data and model.

    With features on, the file is unchanged; off, the lines of the features are deleted. In both cases it has its own
    loader, order, seeds of each step and signal handling. It evaluates and saves at the end, outside the timed part.
    """
    from generated_loop import generated, splits_of

    with generated(task.folder / "project", features=task.features) as train:
        data = TensorDataset(task.inputs, task.labels)
        held_out = TensorDataset(task.inputs[:BATCH_SIZE], task.labels[:BATCH_SIZE])
        train.make_splits = lambda: splits_of(train, data, held_out, channels=1, num_classes=10)
        train.make_model = lambda *_: task.model
        config = train.Config(
            epochs=1,
            global_batch_size=BATCH_SIZE,
            learning_rate=LEARNING_RATE,
            warmup_ratio=0.0,
            weight_decay=0.01,
            max_grad_norm=MAX_NORM,
            log_every=LOG_EVERY,
            run_dir=task.folder / "run",
        )
        train.main(config)
    lines = [json.loads(line) for line in (config.run_dir / "metrics.jsonl").read_text().splitlines()]
    task.losses += [line["train/loss"] for line in lines if "train/loss" in line]
    task.updates = json.loads((config.run_dir / "status.json").read_text())["step"]


def accelerate(task: Task) -> None:
    """accelerate as its documentation writes the loop: everything prepared, `accumulate` and `backward`."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    model, optimizer, loader = accelerator.prepare(task.model, task.optimizer, task.loader())
    schedule = accelerator.prepare(task.schedule(task.optimizer)) if task.features else None
    losses: list[torch.Tensor] = []
    for step, (inputs, labels) in enumerate(loader, 1):
        with accelerator.accumulate(model):
            loss = F.cross_entropy(model(inputs), labels)
            accelerator.backward(loss)
            if schedule is not None:
                accelerator.clip_grad_norm_(model.parameters(), MAX_NORM)
            optimizer.step()
            if schedule is not None:
                losses.append(loss.detach())
                if step % LOG_EVERY == 0:
                    task.log(step, losses, schedule.get_last_lr()[0])
                    losses = []
                schedule.step()
            optimizer.zero_grad()


def pytorch_accelerated(task: Task) -> None:
    """Its `Trainer` with no callbacks, which clips by value where the others clip by norm."""
    from pytorch_accelerated import Trainer
    from pytorch_accelerated.callbacks import TrainerCallback

    class Log(TrainerCallback):
        def __init__(self) -> None:
            self.step, self.losses = 0, []

        def on_train_step_end(self, trainer: Any, batch: Any, batch_output: Any, **_: Any) -> None:
            self.step += 1
            self.losses.append(batch_output["loss"].detach())
            if self.step % LOG_EVERY == 0:
                task.log(self.step, self.losses, trainer.optimizer.param_groups[0]["lr"])
                self.losses = []

    trainer = Trainer(task.model, F.cross_entropy, task.optimizer, callbacks=[Log()] if task.features else [])
    trainer.train(
        WholeBatches(task.inputs, task.labels),
        num_epochs=1,
        per_device_batch_size=BATCH_SIZE,
        create_scheduler_fn=task.schedule if task.features else None,
        gradient_clip_value=MAX_NORM if task.features else None,
        collate_fn=as_is,
        train_dataloader_kwargs={"num_workers": 0, "shuffle": True, "pin_memory": False},
    )


def lightning(task: Task) -> None:
    """Lightning's `Trainer`, `barebones` when features are off, else with its `CSVLogger` and automatic optimization."""
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.loggers import CSVLogger

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.inner = task.model

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            inputs, labels = batch
            loss = F.cross_entropy(self.inner(inputs), labels)
            if task.features:
                self.log("loss", loss, on_step=False, on_epoch=True)
                self.log("step_loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            if not task.features:
                return task.optimizer
            return {"optimizer": task.optimizer, "lr_scheduler": {"scheduler": task.schedule(), "interval": "step"}}

    options: dict[str, Any] = {"accelerator": "cpu", "devices": 1, "max_epochs": 1}
    if task.features:
        logger = CSVLogger(str(task.folder), name="", version="")
        options |= {"logger": logger, "log_every_n_steps": LOG_EVERY, "gradient_clip_val": MAX_NORM}
        options |= {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    else:
        options |= {"barebones": True}
    Trainer(**options).fit(Module(), task.loader())
    if task.features:
        with (task.folder / "metrics.csv").open() as file:
            task.losses += [float(row["step_loss"]) for row in csv.DictReader(file) if row.get("step_loss")]


def fabric(task: Task) -> None:
    """Lightning's Fabric: `setup`, `setup_dataloaders`, `backward`, in a hand-written loop."""
    from lightning.fabric import Fabric

    runner = Fabric(accelerator="cpu", devices=1)
    model, optimizer = runner.setup(task.model, task.optimizer)
    loader = runner.setup_dataloaders(task.loader())
    schedule = task.schedule() if task.features else None
    losses: list[torch.Tensor] = []
    for step, (inputs, labels) in enumerate(loader, 1):
        loss = F.cross_entropy(model(inputs), labels)
        runner.backward(loss)
        if schedule is not None:
            runner.clip_gradients(model, optimizer, max_norm=MAX_NORM)
        optimizer.step()
        optimizer.zero_grad()
        if schedule is not None:
            losses.append(loss.detach())
            if step % LOG_EVERY == 0:
                task.log(step, losses, schedule.get_last_lr()[0])
                losses = []
            schedule.step()


def ignite(task: Task) -> None:
    """Ignite's `Engine` around a hand-written update, with handlers for the schedule and the log when they are on."""
    from ignite.engine import Engine, Events

    model, optimizer = task.model, task.optimizer
    losses: list[torch.Tensor] = []

    def update(_: Engine, batch: Any) -> torch.Tensor:
        inputs, labels = batch
        loss = F.cross_entropy(model(inputs), labels)
        loss.backward()
        if task.features:
            nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    engine = Engine(update)
    if task.features:
        schedule = task.schedule()

        @engine.on(Events.ITERATION_COMPLETED)
        def keep(engine: Engine) -> None:
            losses.append(engine.state.output)

        @engine.on(Events.ITERATION_COMPLETED(every=LOG_EVERY))
        def log(engine: Engine) -> None:
            task.log(engine.state.iteration, losses, schedule.get_last_lr()[0])
            losses.clear()

        engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: schedule.step())
    engine.run(task.loader(), max_epochs=1)


def hf_trainer(task: Task) -> None:
    """Hugging Face's `Trainer`: its scheduler always steps, constant when features are off."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class WithLoss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = task.model

        def forward(self, inputs: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"loss": F.cross_entropy(self.inner(inputs), labels)}

    class Keep(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "loss" in logs:
                task.losses.append(float(logs["loss"]))

    arguments = TrainingArguments(
        output_dir=str(task.folder),
        per_device_train_batch_size=BATCH_SIZE,
        num_train_epochs=1,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="cosine" if task.features else "constant",
        max_grad_norm=MAX_NORM if task.features else 0.0,
        logging_strategy="steps" if task.features else "no",
        logging_steps=LOG_EVERY,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
    )
    dataset = WholeBatches(task.inputs, task.labels)
    trainer = Trainer(
        WithLoss(),
        arguments,
        train_dataset=dataset,
        data_collator=lambda batch: {"inputs": batch[0], "labels": batch[1]},
        optimizers=(task.optimizer, None),  # type: ignore[arg-type]
        callbacks=[Keep()] if task.features else [],
    )
    trainer.train()


CONTESTANTS: dict[str, tuple[str, str | None, Callable[[Task], None]]] = {
    "bare": ("bare PyTorch", None, bare),
    "gathered": ("bare PyTorch, no DataLoader", None, bare_gathered),
    "textbook": ("textbook PyTorch, default collation", None, textbook),
    "paccel": ("paccel, generated loop", "paccel", paccel),
    "ignite": ("Ignite Engine", "pytorch-ignite", ignite),
    "fabric": ("Lightning Fabric", "lightning", fabric),
    "accelerate": ("accelerate", "accelerate", accelerate),
    "pytorch_accelerated": ("pytorch-accelerated", "pytorch-accelerated", pytorch_accelerated),
    "hf_trainer": ("HF Trainer", "transformers", hf_trainer),
    "lightning": ("Lightning Trainer", "lightning", lightning),
}
"""Key -> the name in the table, the distribution that it comes from, the loop."""


def run(name: str, features: bool, steps: int) -> tuple[float, int, float]:
    """Train once, and check that the loss went down.

    Returns:
        CPU seconds per step of the training thread, updates made, and the loss over all data after them.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        Path(folder, "output").open("w") as output,
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(output),
    ):
        task = Task(features, WARMUP + steps, Path(folder))
        CONTESTANTS[name][2](task)
        updates = task.updates
        if updates is None:
            updates = int(task.optimizer.state[task.model.layers[0].weight]["step"])
        with torch.no_grad():
            final = F.cross_entropy(task.model.layers(task.inputs), task.labels).item()
        assert not features or len(task.losses) >= steps // LOG_EVERY, f"{name} logged {len(task.losses)} lines"
    start, end = task.model.marks
    return (end - start) / steps, updates, final
