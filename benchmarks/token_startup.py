"""What a billion tokens cost: writing the files once, and then the time and memory until the first batch.

    python benchmarks/token_startup.py [--tokens 1000000000]

Each way runs in its own process: reading the text as bytes and packing rows in memory, as paccel 0.1 did, and memory-mapped
token files. Memory is the private ("anonymous") memory of the process; mapped pages belong to the page cache, which all
processes of a machine share.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from paccel.runtime.data.shuffle import shuffled
from paccel.runtime.tokens import Rows, Tokens, write_tokens

CONTEXT, BATCH_SIZE, DOCUMENT = 128, 16, 2000
WAYS = ("memory-mapped", "in memory")


def documents(tokens: int, vocabulary: int) -> Iterator[np.ndarray]:
    draw = np.random.default_rng(0)
    kind = np.min_scalar_type(vocabulary - 1)
    return (draw.integers(0, vocabulary, DOCUMENT, kind) for _ in range(tokens // DOCUMENT))


def memory() -> tuple[float, float]:
    """MB of this process: private, and mapped from files."""
    lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    own, mapped = (int(lines[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile"))
    return own, mapped


def start(way: str, folder: Path) -> str:
    """A line of the table: seconds to the first batch, and memory."""
    before, started = memory(), perf_counter()
    if way == "in memory":
        text = torch.from_numpy(np.fromfile(folder / "text.bin", Tokens(folder / "tokens").array.dtype)).int()
        rows = -(-(len(text) - 1) // CONTEXT)
        packed = F.pad(text, (0, rows * CONTEXT + 1 - len(text)), value=-1).unfold(0, CONTEXT + 1, CONTEXT)
        order = shuffled(0, 1, rows, version=1)
        TensorDataset(packed).tensors[0].index_select(0, order[0:BATCH_SIZE])
    else:
        mapped = Rows(Tokens(folder / "tokens"), CONTEXT)
        mapped.__getitems__(shuffled(0, 1, len(mapped))[0:BATCH_SIZE].tolist())
    seconds, after = perf_counter() - started, memory()
    own, files = (now - then for now, then in zip(after, before, strict=True))
    return f"| {way} | {seconds:.3f} | {own:,.0f} | {files:,.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=10**9)
    parser.add_argument(
        "--vocabulary", type=int, default=256, help="bytes per token: 1 up to 256, 2 up to 65,536, else 4"
    )
    parser.add_argument(
        "--ways",
        nargs="+",
        choices=WAYS,
        default=WAYS,
        help="the way in memory takes 4 bytes per token, and its size on disk",
    )
    parser.add_argument("--only", nargs=2, metavar=("WAY", "FOLDER"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.only:
        print(start(chosen.only[0], Path(chosen.only[1])), flush=True)
        return
    print(f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        started = perf_counter()
        tokens = write_tokens(folder / "tokens", documents(chosen.tokens, chosen.vocabulary), chosen.vocabulary)
        seconds = perf_counter() - started
        print(
            f"{len(tokens):,} tokens of {tokens.array.itemsize} bytes, {tokens.num_documents:,} documents: written and "
            f"hashed in {seconds:.0f} s"
        )
        started = perf_counter()
        tokens.verify()
        print(f"all bytes verified in {perf_counter() - started:.1f} s\n")
        (folder / "text.bin").symlink_to(next((folder / "tokens").glob("tokens-*.bin")))
        print("| tokens | s to the first batch | MB of the process | MB mapped |\n|---|---:|---:|---:|", flush=True)
        for way in chosen.ways:
            subprocess.run([sys.executable, __file__, "--only", way, name], check=True, timeout=600)
    print(f"\nload average {os.getloadavg()[0]:.0f} at the end")


if __name__ == "__main__":
    main()
