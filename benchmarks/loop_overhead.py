"""Host time that a training loop adds to each step of a bare PyTorch loop with the same work.

    python benchmarks/loop_overhead.py [--rounds 7] [--steps 1000] [--only NAME …] [--json FILE]

Each loop runs in its own process, on one core with one thread. They take turns: in a round each trains once, in a rotating
order, while the others sleep. The measured time is the CPU time of the training thread, from a clock that the model itself
reads in its forward pass, so starting and ending a run does not count. A tool that is not installed is reported as missing.
`pip install pytorch-accelerated pytorch-ignite lightning transformers` installs the others.

Two baselines: `bare` uses the same `DataLoader` as all others, the fastest for tensors; `gathered` has no `DataLoader`.
paccel has its own loader, so it is compared with the second as well. paccel's loop is the generated `train.py`: unchanged
with features equal, with their lines deleted with features off.
"""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import sys
import warnings
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from loop_contestants import CONTESTANTS, WARMUP, run


def pin(core: int | None) -> None:
    """Stay on one core, if the system supports it, with one thread."""
    import torch

    if core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    torch.set_num_threads(1)


def contestant(name: str, core: int | None, pipe: Connection) -> None:
    """A process that trains when told to, and sends back the result of `run` or the error."""
    warnings.simplefilter("ignore")
    pin(core)
    while (order := pipe.recv()) is not None:
        # Lightning and DeepSpeed (which accelerate imports if it is installed) set this when they are imported. With a
        # CUDA build of torch and no GPU, every optimizer step then searches for NVIDIA's library.
        os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
        try:
            pipe.send(run(name, *order))
        except Exception as error:  # shown in the table; the others continue
            pipe.send(f"{type(error).__name__}: {error}".splitlines()[0])


def installed(distribution: str | None) -> str | None:
    """The version of a distribution; empty for a name that is none, None if it is not installed."""
    if distribution is None:
        return ""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def measure(names: list[str], rounds: int, steps: int) -> tuple[dict[bool, dict[str, list[float]]], dict[str, str]]:
    """Seconds per step of each round, by features and name; and errors, by name."""
    core = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    spawn = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    processes = []
    for name in names:
        pipes[name], theirs = spawn.Pipe()
        process = spawn.Process(target=contestant, args=(name, core, theirs), daemon=True)
        process.start()
        processes.append(process)
    seconds: dict[bool, dict[str, list[float]]] = {False: {}, True: {}}
    failed: dict[str, str] = {}
    for turn in range(rounds + 1):  # the first turn warms imports and caches
        for features in (False, True):
            start = turn % len(names)
            for name in names[start:] + names[:start]:
                if name in failed:
                    continue
                pipes[name].send((features, steps))
                answer = pipes[name].recv()
                if isinstance(answer, str):
                    failed[name] = answer
                    continue
                taken, updates, loss = answer
                if updates != WARMUP + steps or not loss < 1.0:  # it starts at 2.4
                    failed[name] = f"did not train: {updates} updates, loss {loss:.2f}"
                elif turn:
                    seconds[features].setdefault(name, []).append(taken)
        print(f"round {turn} of {rounds}", file=sys.stderr)
    for name, process in zip(names, processes, strict=True):
        pipes[name].send(None)
        process.join(30)
    return seconds, failed


def added(own: list[float], base: list[float]) -> dict[str, Any]:
    """Microseconds per step over a baseline: between the minima, and the median of the differences in each round."""
    differences = [a - b for a, b in zip(own, base, strict=True)]
    return {
        "microseconds": min(own) * 1e6,
        "added": (min(own) - min(base)) * 1e6,
        "added_median": statistics.median(differences) * 1e6,
        "quartiles": [q * 1e6 for q in statistics.quantiles(differences, n=4)[::2]] if len(differences) > 1 else [0, 0],
        "ratio": min(own) / min(base),
    }


def table(title: str, seconds: dict[str, list[float]], names: list[str], missing: dict[str, str]) -> list[str]:
    lines = [
        f"{title}:",
        "",
        "| loop | version | µs per step | added µs, minimum | added µs, paired median (quartiles) | ratio |",
    ]
    lines.append("|---|---|---:|---:|---:|---:|")
    for name in names:
        label, distribution, _ = CONTESTANTS[name]
        start = f"| {label} | {installed(distribution) or ''} |"
        if name in missing:
            lines.append(f"{start} {missing[name]} | | | |")
            continue
        row = added(seconds[name], seconds["bare"])
        lines.append(
            f"{start} {row['microseconds']:.0f} | {row['added']:+.0f} | {row['added_median']:+.0f} "
            f"({row['quartiles'][0]:+.0f} to {row['quartiles'][1]:+.0f}) | {row['ratio']:.2f} |"
        )
    if {"paccel", "gathered"} <= seconds.keys():
        row = added(seconds["paccel"], seconds["gathered"])
        lines += ["", f"paccel over the loop without a DataLoader: {row['added']:+.1f} µs, {row['added_median']:+.1f}"]
    if {"paccel", "textbook"} <= seconds.keys():
        ratio = added(seconds["paccel"], seconds["textbook"])["ratio"]
        lines += ["", f"paccel against the textbook loop, from data to update: {ratio:.2f} of its time"]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=1000, help="steps that are timed, in each round")
    parser.add_argument("--only", nargs="*", default=list(CONTESTANTS), choices=list(CONTESTANTS))
    parser.add_argument("--json", type=Path, help="where to write the seconds of every round")
    arguments = parser.parse_args()
    wanted = [name for name in CONTESTANTS if name in {*arguments.only, "bare"}]
    missing = {name: "not installed" for name in wanted if installed(CONTESTANTS[name][1]) is None}
    seconds, failed = measure([n for n in wanted if n not in missing], arguments.rounds, arguments.steps)
    missing |= failed
    import torch

    print(f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, torch {torch.__version__}")
    load = f", load average {os.getloadavg()[0]:.1f} at the end" if hasattr(os, "getloadavg") else ""
    print(f"{arguments.rounds} rounds of {arguments.steps} steps{load}\n")
    for features, title in ((False, "Features off"), (True, "Features equal")):
        print("\n".join(table(title, seconds[features], wanted, missing)), end="\n\n")
    if arguments.json:
        raw: dict[str, Any] = {"off": seconds[False], "equal": seconds[True], "missing": missing}
        arguments.json.write_text(json.dumps(raw, indent=1) + "\n")


if __name__ == "__main__":
    main()
