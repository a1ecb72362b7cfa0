"""Samples per second of data loading: `run.loader` against others on the same files, with 0, 1 and 2 workers.

    python benchmarks/data_throughput.py [--rounds 5] [--samples 20000]

Two kinds of files: tar shards of small samples (a JSON file and 4 kB of bytes), and a file of tokens cut into rows of
1,024. The others are what one would write by hand: a `DataLoader` and torchdata's `StatefulDataLoader` over a map-style
dataset that seeks in the same files (tar: with its own index of the members; tokens: a NumPy memory map), and webdataset,
which reads tar sequentially and shuffles within a buffer. All of them make the same batches of tensors, in a shuffled order.
They take turns in each round; the files are in the page cache; starting workers is part of the time. CPU time is the sum over
all processes: on a busy machine it is the figure to compare.
"""

import argparse
import io
import json
import os
import platform
import statistics
import tarfile
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from paccel.runtime import Run
from paccel.runtime.shards import Shards
from paccel.runtime.tokens import Rows, Tokens, write_tokens

BATCH_SIZE, CONTEXT, SHARDS, BYTES = 32, 1024, 4, 4096


@dataclass
class Config:
    """No settings."""


def decode(sample: dict[str, Any]) -> tuple[torch.Tensor, int]:
    label = sample["json"]
    return torch.frombuffer(bytearray(sample["bin"]), dtype=torch.uint8), json.loads(label)["label"]


class Members(Dataset[Any]):
    """The samples of tar files by index, as a careful user would read them."""

    def __init__(self, paths: list[Path]) -> None:
        self.places = []
        for path in paths:
            with tarfile.open(path) as archive:
                members = archive.getmembers()
            for first, second in zip(members[::2], members[1::2], strict=True):
                self.places.append((str(path), first.offset_data, first.size, second.offset_data, second.size))
        self.files: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        path, first, size, second, length = self.places[number]
        if path not in self.files:
            self.files[path] = os.open(path, os.O_RDONLY)
        file = self.files[path]
        return decode({"json": os.pread(file, size, first), "bin": os.pread(file, length, second)})


class Mapped(Dataset[Any]):
    """Rows of a memory-mapped file of tokens, one by one."""

    def __init__(self, path: Path, kind: Any) -> None:
        self.tokens = np.memmap(path, kind, "r")

    def __len__(self) -> int:
        return (len(self.tokens) - 1) // CONTEXT

    def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        row = torch.from_numpy(self.tokens[number * CONTEXT : number * CONTEXT + CONTEXT + 1].astype(np.int64))
        return row[:-1], row[1:]


def paccel_batches(run: Run, dataset: Any, workers: int) -> Iterable[Any]:
    loader = run.loader(dataset, BATCH_SIZE, shuffle=True, num_workers=workers, drop_last=True)
    for batch, _ in loader.training_batches(1, 0, 1):
        yield batch
    loader.close()


def contestants(run: Run, folder: Path, workers: int) -> dict[str, dict[str, Callable[[], Iterable[Any]]]]:
    """By kind of file and name: a function that yields the batches of one epoch."""
    tars = sorted((folder / "tar").glob("*.tar"))
    shards, members = Shards(folder / "tar", decode), Members(tars)
    tokens = Tokens(folder / "tokens")
    rows, mapped = Rows(tokens, CONTEXT), Mapped(next((folder / "tokens").glob("tokens-*.bin")), tokens.array.dtype)
    options: dict[str, Any] = {"batch_size": BATCH_SIZE, "shuffle": True, "num_workers": workers, "drop_last": True}
    found = {
        "tar": {
            "paccel, `Shards`": lambda: paccel_batches(run, shards, workers),
            "DataLoader": lambda: DataLoader(members, **options),
        },
        "tokens": {
            "paccel, `Rows`": lambda: paccel_batches(run, rows, workers),
            "DataLoader": lambda: DataLoader(mapped, **options),
        },
    }
    try:
        from torchdata.stateful_dataloader import StatefulDataLoader
    except ImportError:
        print("torchdata is not installed")
    else:
        found["tar"]["StatefulDataLoader"] = lambda: StatefulDataLoader(members, **options)
        found["tokens"]["StatefulDataLoader"] = lambda: StatefulDataLoader(mapped, **options)
    try:
        import webdataset
    except ImportError:
        print("webdataset is not installed")
    else:

        def stream() -> Iterable[Any]:
            dataset = webdataset.WebDataset([str(path) for path in tars], shardshuffle=SHARDS, empty_check=False)
            samples = dataset.shuffle(1000).map(decode)
            return DataLoader(samples, batch_size=BATCH_SIZE, num_workers=workers, drop_last=True)

        found["tar"]["webdataset"] = stream
    return found


def write_files(folder: Path, samples: int) -> None:
    (folder / "tar").mkdir()
    draw = np.random.default_rng(0)
    for shard in range(SHARDS):
        with tarfile.open(folder / "tar" / f"{shard}.tar", "w") as archive:
            for number in range(shard, samples, SHARDS):
                for suffix, data in (("json", json.dumps({"label": number % 10}).encode()), ("bin", draw.bytes(BYTES))):
                    member = tarfile.TarInfo(f"{number:08}.{suffix}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
    write_tokens(folder / "tokens", (draw.integers(0, 50_000, CONTEXT) for _ in range(samples)), 50_000)


def cpu_seconds() -> float:
    """CPU time of this process and of the workers that have ended."""
    return sum(os.times()[:4])


def measure(make: Callable[[], Iterable[Any]]) -> tuple[float, float]:
    """Samples per second of one epoch, and CPU time per sample in µs, in all processes."""
    started, before, samples = perf_counter(), cpu_seconds(), 0
    for batch in make():
        samples += len(batch[0])
    return samples / (perf_counter() - started), (cpu_seconds() - before) / samples * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=20_000)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, torch {torch.__version__}")
    print(f"{chosen.samples} samples, batches of {BATCH_SIZE}, {chosen.rounds} rounds; medians\n")
    print(
        "| files | loader | workers | samples per second | CPU µs per sample | CPU, paired ratio to paccel |\n"
        "|---|---|---:|---:|---:|---:|",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as name, Run(Config(), record=False) as run:
        write_files(Path(name), chosen.samples)
        for workers in (0, 1, 2):
            for kind, makers in contestants(run, Path(name), workers).items():
                figures: dict[str, list[tuple[float, float]]] = {maker: [] for maker in makers}
                for _ in range(chosen.rounds):
                    for maker, make in makers.items():
                        figures[maker].append(measure(make))
                ours = figures[next(iter(makers))]
                for maker, found in figures.items():
                    speed, cpu = (statistics.median(values) for values in zip(*found, strict=True))
                    ratio = statistics.median(other[1] / own[1] for other, own in zip(found, ours, strict=True))
                    print(f"| {kind} | {maker} | {workers} | {speed:,.0f} | {cpu:.0f} | {ratio:.2f} |", flush=True)
    print(f"\nload average {os.getloadavg()[0]:.0f} at the end")


if __name__ == "__main__":
    main()
