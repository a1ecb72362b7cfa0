"""What resuming costs: the time from the start of a run to its first batch, for an early and a late checkpoint.

    python benchmarks/resume_cost.py [--rounds 9] [--early 10] [--late 1000000]

Three kinds of data: a shuffled dataset with an index; a stream with a state; and a stream without one, which has to be read
again up to its position, so that its late step is only `--reread`. The million steps are not trained: a run saves a
checkpoint as it would at that step, with the position in the data, and the timed run resumes from it, with a small network
and its optimizer. The benchmark checks that its first batch is the right one. The early and the late run take turns.
"""

import argparse
import contextlib
import io
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset, IterableDataset

from paccel.runtime import Checkpoints, Run, Stopped
from paccel.runtime.loop.position import Position

SIZE, BATCH_SIZE = 120_000, 8  # 15,000 steps in an epoch: step 1,000,000 is in the middle of the 67th


@dataclass
class Config:
    """Settings of the run."""

    run_dir: Path
    resume: str = "auto"


class Indexed(Dataset[torch.Tensor]):
    """Samples with an index."""

    def __len__(self) -> int:
        return SIZE

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor(index)


class Stream(IterableDataset[torch.Tensor]):
    """An endless stream of numbers, without state."""

    def __init__(self) -> None:
        self.place = 0

    def __iter__(self) -> Iterator[torch.Tensor]:
        self.place = 0
        return self._read()

    def _read(self) -> Iterator[torch.Tensor]:
        while True:
            self.place += 1
            yield torch.tensor(self.place - 1)


class Stateful(Stream):
    """The same with a state."""

    def __iter__(self) -> Iterator[torch.Tensor]:
        return self._read()

    def state_dict(self) -> dict[str, Any]:
        return {"place": self.place}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.place = state["place"]


KINDS = {"index": Indexed, "stateful stream": Stateful, "stream without state": Stream}


def place_of(kind: str, step: int) -> Position:
    """The position that a run on this data stores after a step."""
    if kind != "index":
        stream = Stateful()
        stream.place = step * BATCH_SIZE
        state = stream.state_dict() if kind == "stateful stream" else None
        return Position(step, 1, step, epoch_is_over=False, stream=state)
    epochs_done, step_in_epoch = divmod(step, SIZE // BATCH_SIZE)
    return Position(step, epochs_done + 1, step_in_epoch, epoch_is_over=False)


def checkpoints_of(run: Run) -> Checkpoints:
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
    model, optimizer = run.prepare(model, torch.optim.AdamW(model.parameters()))
    return Checkpoints(run, model=model, optimizer=optimizer)


def save_at(kind: str, step: int, run_dir: Path) -> None:
    """Save a checkpoint at a step."""
    with contextlib.suppress(Stopped), Run(Config(run_dir)) as run:
        checkpoints = checkpoints_of(run)
        run.position.load_state_dict(place_of(kind, step).state_dict())
        checkpoints.save()
        raise run.stopped()


def resume(kind: str, step: int, run_dir: Path) -> tuple[float, float]:
    """Wall-clock and CPU seconds from the start of the run to its first batch."""
    taken = None
    started, cpu = time.perf_counter(), time.process_time()
    with contextlib.suppress(Stopped), Run(Config(run_dir)) as run:
        loader = run.loader(KINDS[kind](), BATCH_SIZE, shuffle=kind == "index")
        assert checkpoints_of(run).restore() == step, "the run did not resume"
        for epoch in run.epochs(None, max_steps=10**9):
            for current in run.steps(loader):
                for batch in current:
                    taken = time.perf_counter() - started, time.process_time() - cpu
                    expected = loader.indices_of_step(epoch, run.position.step_in_epoch - 1)
                    assert current.number == step + 1
                    assert batch.tolist() == expected, "the first batch is not the next"
                    raise run.stopped()
    assert taken is not None
    return taken


def measure(rounds: int, early: int, late: int, reread: int) -> dict[str, dict[int, list[tuple[float, float]]]]:
    """Seconds of each round, wall-clock and CPU, by kind and step."""
    seconds: dict[str, dict[int, list[tuple[float, float]]]] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        for kind in KINDS:
            steps = [early, reread if kind == "stream without state" else late]
            for step in steps:
                save_at(kind, step, Path(folder, kind, str(step)))
            seconds[kind] = {step: [] for step in steps}
            for turn in range(rounds + 1):  # the first turn warms imports and caches
                for step in steps[:: 1 if turn % 2 else -1]:
                    taken = resume(kind, step, Path(folder, kind, str(step)))
                    if turn:
                        seconds[kind][step].append(taken)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--early", type=int, default=10, help="step of the first checkpoint")
    parser.add_argument("--late", type=int, default=1_000_000, help="step of the second checkpoint")
    parser.add_argument(
        "--reread", type=int, default=10_000, help="step of the second checkpoint for a stream without state"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(arguments.rounds, arguments.early, arguments.late, arguments.reread)
    print(f"{os.cpu_count()} cores, one thread, {platform.system()}, Python {platform.python_version()}")
    print(f"torch {torch.__version__}, {arguments.rounds} rounds; medians\n")
    print(
        "| data | step | ms to the first batch | CPU ms | step | ms to the first batch | CPU ms | CPU, late to early |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for kind, steps in found.items():
        row = f"| {kind} |"
        for step, taken in steps.items():
            wall, cpu = (1e3 * statistics.median(values) for values in zip(*taken, strict=True))
            row += f" {step:,} | {wall:.0f} | {cpu:.0f} |"
        early, late = ([cpu for _, cpu in taken] for taken in steps.values())
        print(f"{row} {statistics.median(b / a for a, b in zip(early, late, strict=True)):.2f} |")


if __name__ == "__main__":
    main()
