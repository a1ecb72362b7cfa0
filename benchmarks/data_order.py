"""The order of an epoch of up to a billion samples: time to its first batch, time per index, memory.

    python benchmarks/data_order.py

Each figure comes from a separate process, which reads batches of one epoch's order: `torch.randperm`, which paccel 0.1 used
for any size, and the order whose indices are computed when they are needed.
"""

import argparse
import platform
import resource
import subprocess
import sys
from time import perf_counter

import torch

from paccel.runtime.data.shuffle import shuffled

SIZES = (10**6, 10**7, 10**8, 10**9)


def measure(version: int, size: int, batch_size: int, batches: int) -> str:
    """A line of the table: seconds to the first batch, nanoseconds per further index, and memory."""
    torch.randperm(10, generator=torch.Generator().manual_seed(0))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = perf_counter()
    order = shuffled(0, 1, size, version)
    order[0:batch_size]
    first = perf_counter() - started
    started = perf_counter()
    for number in range(1, batches + 1):
        order[number * batch_size : (number + 1) * batch_size]
    each = (perf_counter() - started) / batches
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    how = type(order).__name__.replace("Shuffled", "worked out").replace("Tensor", "randperm")
    each_index = 1e9 * each / batch_size
    return f"| {size:,} | {how} | {1000 * first:,.1f} | {1e6 * each:.1f} | {each_index:.0f} | {memory:,.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--batches", type=int, default=2000)
    parser.add_argument("--only", nargs=2, type=int, metavar=("VERSION", "SIZE"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.only:
        print(measure(*chosen.only, chosen.batch_size, chosen.batches))
        return
    print(f"{platform.system()}, Python {platform.python_version()}, torch {torch.__version__}, one thread")
    print(f"\nBatches of {chosen.batch_size}.\n")
    print("| samples | order | ms to the first batch | µs per batch | ns per index | MB |")
    print("|---:|---|---:|---:|---:|---:|", flush=True)
    for size in SIZES:
        for version in (1, 2):
            options = [f"--batch-size={chosen.batch_size}", f"--batches={chosen.batches}"]
            command = [sys.executable, __file__, "--only", str(version), str(size), *options]
            subprocess.run(command, check=True, timeout=600)


if __name__ == "__main__":
    main()
