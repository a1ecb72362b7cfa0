"""Kill workers under torchrun, one after the other, and check that the run ends as if nothing had happened.

    python benchmarks/lost_workers.py [--kills 50] [--kills-per-run 5] [--seed 0]

Two processes train a small network in float64. Again and again one of them is killed by SIGKILL, at a random time after its
start: during imports, the rendezvous, a step or a save. torchrun restarts them with `--max-restarts`. A run ended correctly
if torchrun exits with 0, each process saw the samples of an undisturbed run in the same steps, and the weights have the same
bytes.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

STEPS, SAVE_EVERY = 60, 5
SECONDS_PER_STEP = float(os.environ.get("SECONDS_PER_STEP", "0.03"))


@dataclass
class Config:
    """Settings of the run."""

    run_dir: Path
    seed: int = 3
    resume: str = "auto"


def train(run_dir: Path) -> None:
    """The script under torchrun: each process writes the samples of its steps to its own file."""
    import torch
    from torch import nn
    from torch.utils.data import TensorDataset

    from paccel.runtime import Checkpoints, Run, exit_with_message

    with exit_with_message(), Run(Config(run_dir)) as run:
        data = TensorDataset(torch.linspace(-1, 1, 43, dtype=torch.float64)[:, None])
        loader, model = run.loader(data, 8, shuffle=True), nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))
        model, optimizer = run.prepare(model.double(), torch.optim.Adam(model.parameters(), lr=0.01))
        checkpoints = Checkpoints(run, model=model, optimizer=optimizer)
        checkpoints.restore()
        for _ in run.epochs(None, STEPS):
            for step in run.steps(loader):
                for (inputs,) in step:
                    run.backward((model(inputs) - inputs.sin()).square().sum(), step.num_samples)
                    with (run.run_dir / f"samples-{run.accelerator.process_index}.jsonl").open("a") as file:
                        file.write(
                            json.dumps([step.number, run.accelerator.num_processes, inputs.flatten().tolist()]) + "\n"
                        )
                optimizer.step()
                optimizer.zero_grad()
                time.sleep(SECONDS_PER_STEP)
                if run.stopping() or step.due(SAVE_EVERY):
                    checkpoints.save()
                    if run.stopping():
                        raise run.stopped()
        checkpoints.save_weights("final")


def torchrun(run_dir: Path, restarts: int) -> "subprocess.Popen[str]":
    launcher = ["torch.distributed.run", "--standalone", "--local-addr=127.0.0.1", "--nproc-per-node=2"]
    command = [sys.executable, "-m", *launcher, f"--max-restarts={restarts}", __file__, "--train", str(run_dir)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def workers(launcher: psutil.Process, before: set[int]) -> list[psutil.Process]:
    try:
        return [process for process in launcher.children() if process.pid not in before]
    except psutil.NoSuchProcess:
        return []


def kill_some(launched: "subprocess.Popen[str]", kills: int, seconds: float, draw: random.Random) -> list[str]:
    """Kill one of two workers, `kills` times, each at a random time after their start. Returns what each was doing."""
    launcher, before, done = psutil.Process(launched.pid), set[int](), []
    for _ in range(kills):
        while len(started := workers(launcher, before)) < 2 and launched.poll() is None:
            time.sleep(0.01)
        if launched.poll() is not None:
            break
        time.sleep(draw.uniform(0, 0.7 * seconds))  # a restarted run has less to do
        victim = draw.choice(started)
        try:
            done.append(f"after {time.time() - victim.create_time():.1f} s")
            victim.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:  # the run has finished
            done.pop()
            break
        before |= {process.pid for process in started}
    return done


def samples(run_dir: Path) -> dict[int, list[list[float]]]:
    """The samples of each step by process; for a repeated step, those of the last time."""
    notes: dict[tuple[int, int], tuple[int, list[float]]] = {}
    for path in run_dir.glob("samples-*.jsonl"):
        for step, size, values in map(json.loads, path.read_text().splitlines()):
            notes[step, int(path.stem.partition("-")[2])] = size, values
    return {step: [notes[step, other][1] for other in range(notes[step, 0][0])] for step, rank in notes if rank == 0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--kills-per-run", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train:
        train(arguments.train)
        return
    draw, right, wrong, killed, runs = random.Random(arguments.seed), 0, 0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        straight = Path(folder, "straight")
        began = time.monotonic()
        with torchrun(straight, 0) as launched:
            assert launched.wait(600) == 0, launched.communicate()[0]
        seconds = time.monotonic() - began
        while killed < arguments.kills:
            runs += 1
            run_dir = Path(folder, f"killed-{runs}")
            kills = min(arguments.kills_per_run, arguments.kills - killed)
            with torchrun(run_dir, kills) as launched:
                moments = kill_some(launched, kills, seconds, draw)
                out, _ = launched.communicate(timeout=600)
            killed += len(moments)
            weights = [path / "weights" / "final.safetensors" for path in (run_dir, straight)]
            is_right = (
                launched.returncode == 0
                and weights[0].read_bytes() == weights[1].read_bytes()
                and samples(run_dir) == samples(straight)
            )
            right, wrong = right + is_right, wrong + (not is_right)
            print(
                f"run {runs}: {len(moments)} killed ({', '.join(moments)}): {'right' if is_right else 'WRONG'}",
                flush=True,
            )
            if not is_right:
                print(out, flush=True)
    print(f"{killed} workers killed in {runs} runs of {seconds:.0f} s: {right} runs ended right, {wrong} wrong")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
