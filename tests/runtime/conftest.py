"""Helpers that start runs in processes of their own, as a launcher does, under a time limit."""

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.tiny_train import run_as_process
from support.together import new_process


@dataclass(frozen=True)
class Done:
    """How a run ended: the first exit code that is not 0, and what all processes wrote."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture(scope="module", autouse=True)
def without_sources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A working directory without sources: each run records those that are there, and paccel's own take 0.1 s and git."""
    with contextlib.chdir(tmp_path_factory.mktemp("nothing")):
        yield


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Done]:
    """Run `tiny_train.py` with settings in 1 or more processes, and wait; where one fails, the others are ended."""

    def run(run_dir: Path, *, processes: int = 1, timeout: float = 120, fault: str = "", **settings: Any) -> Done:
        arguments = [f"--run-dir={run_dir}"]
        for name, value in settings.items():
            arguments.append(f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}"))
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)}
        common = {"FAULT": fault, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        outputs = [tmp_path / f"{time.monotonic_ns()}-{rank}" for rank in range(processes)]
        started = []
        for rank, output in enumerate(outputs):
            environment = common | (world | {"RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {})
            process = new_process(run_as_process, arguments, environment, output)
            process.start()
            started.append(process)
        deadline = time.monotonic() + timeout
        try:
            while any(process.is_alive() for process in started) and time.monotonic() < deadline:
                if any(process.exitcode for process in started):
                    deadline = min(deadline, time.monotonic() + 10)
                time.sleep(0.02)
        finally:
            late = [process for process in started if process.is_alive()]
            for process in late:
                process.kill()
                process.join(10)
        codes = [process.exitcode for process in started if process not in late]
        texts = ["".join(o.with_suffix(end).read_text() for o in outputs) for end in (".out", ".err")]
        if not codes or (late and not any(codes)):
            pytest.fail(f"a run hung for {timeout} seconds:\n{texts[1]}")
        return Done(next((code for code in codes if code), 0), *texts)

    return run


@pytest.fixture
def metrics() -> Callable[[Path], list[dict[str, Any]]]:
    """Read what a run logged, but for the wall-clock figures."""

    def read(run_dir: Path) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
        return [{key: value for key, value in line.items() if not key.startswith("time/")} for line in lines]

    return read


@pytest.fixture
def order() -> Callable[[Path], dict[int, list[int]]]:
    """Read the samples of each step, in the order in which they were dealt to micro-batches and processes."""

    def read(run_dir: Path) -> dict[int, list[int]]:
        by_rank = []
        for path in sorted(run_dir.glob("order-*.jsonl")):
            by_rank.append([json.loads(line) for line in path.read_text().splitlines()])
        steps: dict[int, list[int]] = {}
        for parts in zip(*by_rank, strict=True):
            for number, indices in parts:
                steps.setdefault(number, []).extend(indices)
        return steps

    return read
