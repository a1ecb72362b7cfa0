"""A run that counts waits for the device and collectives between log points, on the CPU in place of a GPU.

On the CPU, the runtime reads a gradient norm immediately, because that waits for nothing. Here it takes the code path of a
GPU instead; whatever then reads a tensor's value would have waited for the GPU.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import TensorDataset

from paccel.runtime import EMA, Checkpoints, Meter, Run, schedules

LOG_EVERY = 5
READS = {"item", "tolist", "numpy", "__bool__", "__float__", "__int__", "__index__", "__array__"}
COLLECTIVES = (
    *("all_reduce", "all_gather", "all_gather_into_tensor", "all_gather_object", "broadcast", "barrier", "reduce"),
    *("broadcast_object_list", "gather_object", "reduce_scatter_tensor", "all_to_all", "monitored_barrier"),
)


@dataclass
class Config:
    """Settings of the counted run."""

    run_dir: Path
    skip_non_finite: int = 0


class Reads(TorchFunctionMode):
    """Counts reads of a value in Python."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(function, "__name__", "")
        if name in READS:
            self.names.append(name)
        return function(*args, **(kwargs or {}))


class Scalars(TorchDispatchMode):
    """Counts operators that read a value below Python, as in an optimizer or a loss, or whose result depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function.overloadpacket.__name__ in (
            "_local_scalar_dense",
            "nonzero",
            "is_nonzero",
            "equal",
            "masked_select",
        ):
            self.names.append(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


@contextmanager
def counted_collectives() -> Iterator[list[str]]:
    """Record each collective called from Python code; DDP calls its own below Python."""
    names: list[str] = []
    originals = {name: getattr(dist, name) for name in COLLECTIVES if hasattr(dist, name)}

    def noting(name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            names.append(name if not kwargs.get("async_op") else f"async {name}")
            return originals[name](*args, **kwargs)

        return call

    for name in originals:
        setattr(dist, name, noting(name))
    try:
        yield names
    finally:
        for name, original in originals.items():
            setattr(dist, name, original)


def count(run_dir: Path, *, tokens: bool, accumulate: int, skip: int, break_with: str = "") -> list[dict[str, Any]]:
    """Train, and return the counts of each interval between two log points."""
    with (
        Run(Config(run_dir, skip)) as run,
        counted_collectives() as collectives,
        Reads() as reads,
        Scalars() as scalars,
    ):
        run.guard.reads = False
        torch.manual_seed(0)
        loader = run.loader(TensorDataset(torch.randn(120, 4), torch.randn(120, 1)), 8, shuffle=True)
        model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
        model, optimizer = run.prepare(model, optimizer)
        schedule = schedules.cosine(optimizer, loader.total_steps(2), warmup_steps=3)
        buckets: list[int] = []
        if isinstance(model, DistributedDataParallel):
            model.register_comm_hook(
                None, lambda _, bucket: buckets.append(1) or allreduce_hook(dist.group.WORLD, bucket)
            )
        ema, meter = EMA(model, decay=0.9), Meter(run)
        checkpoints = Checkpoints(run, model=model, optimizer=optimizer, ema=ema, meter=meter)
        found: list[dict[str, Any]] = []
        for _ in run.epochs(2):
            for step in run.steps(loader, accumulate=accumulate):
                if step.number == 1 or step.number % LOG_EVERY == 1:
                    for names in (reads.names, scalars.names, collectives, buckets):
                        names.clear()
                total = step.total(lambda batch: batch[0].shape[0]) if tokens else step.num_samples
                for inputs, targets in step:
                    loss = ((model(inputs) - targets) ** 2).sum()
                    run.backward(loss / total)
                    meter.add(loss=loss, count=step.micro_batch_samples)
                    if break_with == "sync":
                        loss.item()
                    if break_with == "collective" and dist.is_initialized():
                        dist.all_reduce(torch.zeros(()))
                norm = run.clip_grad_norm(model, 0.5)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
                ema.update()
                run.stopping()
                if step.every(LOG_EVERY):
                    found.append({"reads": [*reads.names, *scalars.names], "collectives": list(collectives)})
                    found[-1]["buckets"] = len(buckets)
                    run.log("train", meter.read(), grad_norm=norm)
                if step.due(10**9):
                    checkpoints.save()
    return found


def count_as_process(arguments: dict[str, Any], environment: dict[str, str], output: Path) -> None:
    """One process of several: write what was counted to `output`."""
    os.environ.update(environment)
    torch.set_num_threads(1)
    output.write_text(json.dumps(count(**arguments)))
