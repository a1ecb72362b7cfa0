"""Memory saved and time added by activation checkpointing, for the transformer of the language model.

    python benchmarks/activation_checkpointing.py [--depth 8] [--width 256] [--context 512] [--rows 8] [--rounds 5]

Memory is how much a forward and backward pass adds to the peak resident size of a process that does nothing else, with one
process for each variant; from Linux's `/proc`. Time is the CPU time of such a pass on one thread; both variants take turns
in one process.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from generated_loop import generated
from torch import nn
from torch.nn import functional as F

VOCABULARY, HEADS = 256, 8


def make_model(arguments: argparse.Namespace, checkpoints: bool) -> nn.Module:
    """The transformer of the generated project, with or without checkpointing."""
    with tempfile.TemporaryDirectory() as folder, generated(Path(folder), template="language-model"):
        train, data, make = (sys.modules[name] for name in ("train", "data", "model"))
        settings = {name: getattr(arguments, name) for name in ("context", "width", "depth")}
        torch.manual_seed(0)
        config = train.Config(**settings, heads=HEADS, checkpoint_activations=checkpoints)
        return make.make_model(config, data.Splits([], [], [], VOCABULARY))


def train_once(model: nn.Module, arguments: argparse.Namespace) -> None:
    rows = torch.randint(VOCABULARY, (arguments.rows, arguments.context + 1))
    F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten()).backward()


def peak() -> int:
    """Peak memory of this process, in bytes. `getrusage` would start from the parent's peak."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("depth", 8), ("width", 256), ("context", 512), ("rows", 8), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--peak-of", choices=["kept", "computed again"], help="print the bytes that one pass adds")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.peak_of:
        model = make_model(arguments, arguments.peak_of != "kept")
        before = peak()
        train_once(model, arguments)
        print(peak() - before)
        return
    ways = ("kept", "computed again")
    models = {way: make_model(arguments, way != "kept") for way in ways}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(arguments.rounds + 1):  # the first turn warms caches
        for way in ways if turn % 2 else reversed(ways):
            started = time.thread_time()
            train_once(models[way], arguments)
            if turn:
                seconds[way].append(time.thread_time() - started)
    print(
        f"{os.cpu_count()} cores, one thread, {platform.system()}, torch {torch.__version__}; {arguments.depth} blocks,"
    )
    print(f"width {arguments.width}, {arguments.rows} rows of {arguments.context} tokens\n")
    print("| activations | MB that a pass adds | s CPU | to kept |\n|---|---:|---:|---:|")
    for way in ways:
        command = [sys.executable, *sys.argv, "--peak-of", way]
        added = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 1e6
        ratio = statistics.median(a / b for a, b in zip(seconds[way], seconds["kept"], strict=True))
        print(f"| {way} | {added:.0f} | {statistics.median(seconds[way]):.2f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
