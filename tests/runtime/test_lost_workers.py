"""Workers that are killed under torchrun: the run goes on by itself and ends as if nothing had happened."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file
from support.sampled import every_third_day
from support.slurm import free_port

from paccel.runtime.record.status import read_status

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import lost_workers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

SCRIPT = Path(lost_workers.__file__)
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--local-addr=127.0.0.1"]
SUPERVISED = [sys.executable, "-m", "paccel.runtime.supervise", "--", *TORCHRUN]
LIMIT = 400  # seconds


def launch(run_dir: Path, command: list[str], *options: str, seconds_per_step: float) -> "subprocess.Popen[bytes]":
    environment = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "SECONDS_PER_STEP": str(seconds_per_step)}
    with run_dir.with_suffix(f".{time.monotonic_ns()}.log").open("wb") as log:
        return subprocess.Popen(
            [*command, *options, str(SCRIPT), "--train", str(run_dir)],
            env=os.environ | environment,
            stdout=log,
            stderr=log,
        )


def status(run_dir: Path) -> dict:
    return {"step": 0} | read_status(run_dir)


def processes(run_dir: Path) -> int:
    path = run_dir / "config.json"
    return json.loads(path.read_text())["num_processes"] if path.exists() else 0


def await_that(is_so: Callable[[], bool], launched: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + LIMIT
    while not is_so():
        assert launched.poll() is None, f"it ended with {launched.returncode}"
        assert time.monotonic() < deadline
        time.sleep(0.1)


def is_open(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def kill_all(launched: "subprocess.Popen[bytes]") -> None:
    """A launcher and what it has started, as when their node is lost."""
    if launched.poll() is None:
        lost = [psutil.Process(launched.pid), *psutil.Process(launched.pid).children(recursive=True)]
        for process in lost:
            process.kill()
    launched.wait(60)


def samples(run_dir: Path) -> dict[int, list[float]]:
    """The samples of each step, over all processes."""
    return {
        step: [value for values in shares for value in values] for step, shares in lost_workers.samples(run_dir).items()
    }


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("straight") / "run"
    launched = launch(run_dir, TORCHRUN, "--standalone", "--nproc-per-node=2", seconds_per_step=0)
    assert launched.wait(LIMIT) == 0
    return run_dir


@every_third_day(2)
def test_workers_that_are_killed_are_replaced_and_the_run_ends_with_the_same_bytes() -> None:
    command = [sys.executable, str(SCRIPT), "--kills=2", "--kills-per-run=2", "--seed=4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stdout
    assert "workers killed" in done.stdout


@every_third_day(1)
def test_a_node_is_lost_and_comes_back_and_the_samples_of_each_step_stay_the_same(
    straight: Path, tmp_path: Path
) -> None:
    run_dir, port = tmp_path / "run", free_port()
    options = ["--nnodes=1:2", "--max-restarts=5", "--rdzv-backend=c10d", "--rdzv-id=job"]
    options += [f"--rdzv-endpoint=127.0.0.1:{port}", "--rdzv-conf=last_call_timeout=5"]
    nodes = []

    def start_node() -> "subprocess.Popen[bytes]":
        nodes.append(launch(run_dir, SUPERVISED, *options, seconds_per_step=0.5))
        return nodes[-1]

    try:
        first = start_node()
        await_that(lambda: is_open(port), first)  # it has the store
        second = start_node()
        await_that(lambda: processes(run_dir) == 2 and status(run_dir)["step"] >= 5, first)
        kill_all(second)
        await_that(lambda: processes(run_dir) == 1 and status(run_dir)["step"] >= 10, first)
        second = start_node()
        await_that(lambda: processes(run_dir) == 2, first)
        assert [first.wait(LIMIT), second.wait(LIMIT)] == [0, 0]
    finally:
        for node in nodes:
            kill_all(node)
    ours, theirs = (load_file(path / "weights" / "final.safetensors") for path in (run_dir, straight))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    assert samples(run_dir) == samples(straight)


@every_third_day(2)
def test_a_stopped_run_is_not_restarted_by_torchrun_and_the_supervisor_says_75(straight: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    options = ["--standalone", "--nproc-per-node=2", "--max-restarts=3"]
    launched = launch(run_dir, SUPERVISED, *options, seconds_per_step=0.3)
    try:
        await_that(lambda: status(run_dir)["step"] >= 5, launched)
        launched.send_signal(signal.SIGUSR1)
        assert launched.wait(LIMIT) == 75
        stopped = status(run_dir)
        assert (stopped["state"], stopped["reason"]) == ("stopped", "SIGUSR1")
        launched = launch(run_dir, SUPERVISED, *options, seconds_per_step=0)
        assert launched.wait(LIMIT) == 0
    finally:
        kill_all(launched)
    ours, theirs = ((path / "weights" / "final.safetensors").read_bytes() for path in (run_dir, straight))
    assert ours == theirs
    assert samples(run_dir) == samples(straight)
