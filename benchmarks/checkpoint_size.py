"""Memory and time of saving and restoring a checkpoint, by the size of the model and the number of processes.

    python benchmarks/checkpoint_size.py [--millions 10 100 400] [--processes 1 2 4] [--weights-only] [--rounds 3]
        [--against /path/to/other/python]

Each process runs on the CPU with gloo and holds its share of a model and of AdamW's moments, sharded by FSDP2's
`fully_shard`: 12 bytes per weight over all processes, or 4 if only weights are saved. It saves, and a new process restores.
"Own share" is what a process holds when it saves. The peak is the most memory that a process had while it saved or restored
(VmHWM of `/proc/self/status`, reset before), minus what it had before; for a restore, also minus the moments, which it
keeps. Peaks and seconds are the maximum over processes, CPU seconds the sum; all are medians of the rounds. With
`--against`, the paccel of another environment takes turns with this one. Files go to a folder in the working directory,
which is removed afterwards: start the benchmark on the disk to measure.
"""

import argparse
import contextlib
import io
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from paccel.runtime import Checkpoints, Run

WIDTH = 2048  # a layer has 4.2 million weights, 17 MB


@dataclass
class Config:
    """Settings of the run."""

    run_dir: Path
    resume: str = "auto"


def memory(name: str) -> float:
    """A line of /proc/self/status, in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise LookupError(name)


def measured(action: Callable[[], object]) -> tuple[float, float, float, float]:
    """Seconds, CPU seconds, and MB before `action` and at its peak."""
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    started, cpu = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - started, time.process_time() - cpu, before, memory("VmHWM")


def work(run_dir: Path, layers: int, what: str, weights_only: bool) -> None:
    """One process: save or restore, and print the measurements as JSON."""
    torch.set_num_threads(1)
    with contextlib.redirect_stdout(io.StringIO()), Run(Config(run_dir)) as run:
        with torch.device("meta"):
            model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(layers)))
        if run.agreement.num_processes > 1:
            from torch.distributed.fsdp import fully_shard

            mesh = torch.distributed.init_device_mesh("cpu", (run.agreement.num_processes,))
            for layer in model:
                fully_shard(layer, mesh=mesh)
            fully_shard(model, mesh=mesh)
        model.to_empty(device="cpu")
        with torch.no_grad():
            for parameter in model.parameters():
                nn.init.constant_(parameter, 0.5)
        model, optimizer = run.prepare(model, torch.optim.AdamW(model.parameters(), lr=1e-4))
        moments = {} if weights_only else {"optimizer": optimizer}
        checkpoints = Checkpoints(run, keep_last=1, model=model, **moments)
        weights = 4 * sum(getattr(p, "to_local", lambda p=p: p)().numel() for p in model.parameters()) / 1e6
        if what == "save":
            if moments:
                for parameter in model.parameters():
                    parameter.grad = torch.ones_like(parameter)
                optimizer.step()
                optimizer.zero_grad()
            run.position.step = 1
            seconds, cpu, before, most = measured(checkpoints.save)
            extra = most - before
        else:
            seconds, cpu, before, most = measured(checkpoints.restore)
            extra = most - before - (2 * weights if moments else 0)
            with torch.no_grad():
                assert all(float(p.detach().sum()) != 0 for p in model.parameters())
        found = run.agreement.gather((seconds, cpu, extra, weights * (3 if moments else 1)))
    if run.agreement.rank == 0:
        all_seconds, all_cpu, extras, shares = zip(*found, strict=True)
        print(json.dumps([max(all_seconds), sum(all_cpu), max(extras), max(shares)]))


def start(python: str, run_dir: Path, layers: int, what: str, processes: int, weights_only: bool) -> list[float]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)}
    common = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [python, __file__, "--run-dir", str(run_dir), "--layers", str(layers), "--what", what]
    command += ["--weights-only"] if weights_only else []
    started = []
    for rank in range(processes):
        own = world | {"RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {}
        started.append(subprocess.Popen(command, env=common | own, stdout=subprocess.PIPE, text=True))
    outputs = [process.communicate(timeout=1800)[0] for process in started]
    if any(process.returncode for process in started):
        raise SystemExit(f"a process failed to {what}")
    found: list[float] = json.loads(outputs[0].splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millions", type=float, nargs="*", default=[10.0, 100.0, 400.0], help="millions of weights")
    parser.add_argument("--processes", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--weights-only", action="store_true", help="without the moments: 4 bytes per weight")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--against", metavar="PYTHON", help="an interpreter that has another paccel installed")
    parser.add_argument("--run-dir", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--layers", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--what", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.what:
        work(arguments.run_dir, arguments.layers, arguments.what, arguments.weights_only)
        return
    pythons = {"this": sys.executable} | ({"against": arguments.against} if arguments.against else {})
    print(f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, torch {torch.__version__}")
    print(f"largest tensor {WIDTH * WIDTH * 4 / 1e6:.0f} MB; {arguments.rounds} rounds, medians\n")
    print(
        "| weights, millions | processes | paccel | own share, MB | save: peak above it, MB | s | CPU s "
        "| restore: peak above it, MB | s | CPU s | load |"
    )
    print("|---:|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for millions in arguments.millions:
        layers = max(1, round(millions * 1e6 / WIDTH**2))
        for processes in arguments.processes:
            found: dict[str, list[list[float]]] = {name: [] for name in pythons}
            for number in range(arguments.rounds):
                for name in list(pythons)[:: 1 if number % 2 else -1]:
                    found[name].append(round_of(pythons[name], layers, processes, arguments.weights_only))
            for name, rounds in found.items():
                share, *figures, load = (statistics.median(column) for column in zip(*rounds, strict=True))
                peak, seconds, cpu, back_peak, back_seconds, back_cpu = figures
                print(
                    f"| {layers * WIDTH**2 / 1e6:.0f} | {processes} | {name} | {share:.0f} | {peak:.0f} | {seconds:.2f} "
                    f"| {cpu:.2f} | {back_peak:.0f} | {back_seconds:.2f} | {back_cpu:.2f} | {load:.1f} |",
                    flush=True,
                )


def round_of(python: str, layers: int, processes: int, weights_only: bool) -> list[float]:
    """Own share; peak, seconds and CPU seconds of a save, and of a restore; the machine's load."""
    folder = Path(tempfile.mkdtemp(dir=Path.cwd()))
    try:
        of_save, of_restore = (
            start(python, folder / "run", layers, what, processes, weights_only) for what in ("save", "restore")
        )
    finally:
        shutil.rmtree(folder)
    saved, save_cpu, save_peak, share = of_save
    restored, restore_cpu, restore_peak, _ = of_restore
    return [share, save_peak, saved, save_cpu, restore_peak, restored, restore_cpu, os.getloadavg()[0]]


if __name__ == "__main__":
    main()
