"""How long the loop waits for a checkpoint: written by the loop itself, or in the background from a copy.

    python benchmarks/checkpoint_stall.py [--saves 7] [--megabytes 10 30 100]

A run trains a network with so many megabytes of weights with AdamW, whose state makes the checkpoint three times as large,
and saves from time to time. Both ways of saving take turns. The stall is the wall-clock time that the loop spends in `save`.
Then the loop trains until the checkpoint is complete: these are the steps "while writing". The same number of undisturbed
steps follow. A background save still needs a core for hashing, and the disk. Files go to a folder in the working directory,
which is removed afterwards: start the benchmark on the disk to measure.
"""

import argparse
import contextlib
import io
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from paccel.runtime import Checkpoints, Run

WIDTH, BATCH_SIZE, AT_LEAST = 512, 64, 5  # AT_LEAST steps between two saves


@dataclass
class Config:
    """Settings of the run."""

    run_dir: Path


@dataclass
class Found:
    """Measurements of one way to save, in seconds.

    Attributes:
        stalls: Time of the loop in `save`.
        written: Time from there until the checkpoint was complete.
        while_writing: Times of the steps in between.
        undisturbed: Times of the steps afterwards.
    """

    stalls: list[float] = field(default_factory=list)
    written: list[float] = field(default_factory=list)
    while_writing: list[float] = field(default_factory=list)
    undisturbed: list[float] = field(default_factory=list)


def layers_of(megabytes: float) -> nn.Sequential:
    """A stack of square layers that holds about so many megabytes of weights."""
    count = max(1, round(megabytes * 1e6 / (4 * WIDTH * (WIDTH + 1))))
    return nn.Sequential(*(part for _ in range(count) for part in (nn.Linear(WIDTH, WIDTH), nn.ReLU())))


def measure(megabytes: float, saves: int, folder: Path) -> tuple[dict[str, Found], int]:
    """The measurements for each way, and the bytes of a checkpoint."""
    found = {"blocking": Found(), "background": Found()}
    torch.manual_seed(0)
    with contextlib.redirect_stdout(io.StringIO()), Run(Config(folder / f"{megabytes}")) as run:
        model = layers_of(megabytes)
        model, optimizer = run.prepare(model, torch.optim.AdamW(model.parameters(), lr=1e-4))
        ways = {
            name: Checkpoints(run, keep_last=1, background=name == "background", model=model, optimizer=optimizer)
            for name in found
        }
        inputs = torch.randn(BATCH_SIZE, WIDTH)

        def step() -> float:
            started = time.perf_counter()
            run.backward(((model(inputs) - inputs) ** 2).mean())
            optimizer.step()
            optimizer.zero_grad()
            run.position.step += 1
            return time.perf_counter() - started

        def steps_until(done: Callable[[], bool]) -> list[float]:
            taken: list[float] = []
            while len(taken) < AT_LEAST or not done():
                taken.append(step())
            return taken

        steps_until(lambda: True)
        size = 0
        for turn in range(saves + 1):  # the first turn warms caches
            for name, checkpoints in ways.items():
                folder_of_step = run.run_dir / "checkpoints" / f"step-{run.position.step}"
                started = time.perf_counter()
                checkpoints.save()
                stall = time.perf_counter() - started
                steps = steps_until(folder_of_step.exists)
                written = time.perf_counter() - started
                after = [step() for _ in steps]
                size = sum(file.stat().st_size for file in folder_of_step.iterdir())
                if turn:
                    own = found[name]
                    own.stalls.append(stall)
                    own.undisturbed += after
                    if name == "background":
                        own.written.append(written)
                        own.while_writing += steps
    return found, size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--saves", type=int, default=7, help="saves of each way")
    parser.add_argument("--megabytes", type=float, nargs="*", default=[10.0, 30.0, 100.0], help="megabytes of weights")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        for megabytes in arguments.megabytes:
            found, size = measure(megabytes, arguments.saves, Path(folder))
            blocking, background = (1e3 * statistics.median(found[name].stalls) for name in found)
            own = found["background"]
            slower = statistics.median(own.while_writing) / statistics.median(own.undisturbed)
            rows.append(
                f"| {megabytes:.0f} | {size / 1e6:.0f} | {blocking:.0f} | {background:.0f} | {background / blocking:.2f} "
                f"| {1e3 * statistics.median(own.written):.0f} | {slower:.2f} |"
            )
    print(f"{os.cpu_count()} cores, one thread for the model, {platform.system()}, Python {platform.python_version()}")
    print(f"torch {torch.__version__}, {arguments.saves} saves of each way; medians\n")
    print(
        "| MB of weights | MB of a checkpoint | stall, blocking, ms | stall, background, ms | ratio "
        "| on disk after, ms | a step while writing, to one undisturbed |"
    )
    print("|---:|---:|---:|---:|---:|---:|---:|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
