"""Run a function of a test in several processes, like a launcher, with a time limit."""

import importlib.util
import inspect
import multiprocessing
import os
import pickle
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(["support.warm"])  # imported once, not in each of hundreds of processes


def new_process(target: Callable[..., Any], *args: Any) -> Any:
    """A process forked from one that has imported what every run imports."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])  # Python 3.11 looks for `support` nowhere else
    try:
        forkserver.ensure_running()
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before
    return _server.Process(target=target, args=args)


def free_ports(count: int) -> list[int]:
    """Ports for several runs, one after the other: the first run's port stays in use as long as its models live."""
    with ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [server.getsockname()[1] for server in servers]


def together(function: Callable[..., Any], folder: Path, *args: Any, processes: int = 2, timeout: float = 90) -> list:
    """Call `function(*args)` in each process, in `folder`, and return the results in rank order.

    Raises:
        AssertionError: A process failed or hung; with the standard error of all.
    """
    world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_ports(1)[0]), "WORLD_SIZE": str(processes)}
    started = []
    for rank in range(processes):
        environment = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        if processes > 1:
            environment |= world | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        where = inspect.getsourcefile(function), function.__name__
        started.append(new_process(_call, *where, args, environment, folder, rank))
        started[-1].start()
    deadline = time.monotonic() + timeout
    for process in started:
        process.join(max(0.0, deadline - time.monotonic()))
    late = [process for process in started if process.is_alive()]
    for process in late:
        process.kill()
        process.join(10)
    errors = "".join((folder / f"{rank}.err").read_text() for rank in range(processes))
    assert not late, f"hung for {timeout} seconds:\n{errors}"
    assert [process.exitcode for process in started] == [0] * processes, errors
    return [pickle.loads((folder / f"{rank}.result").read_bytes()) for rank in range(processes)]


def _call(file: str, name: str, args: Any, environment: dict[str, str], folder: Path, rank: int) -> None:
    import torch

    os.environ.update(environment)
    os.chdir(folder)
    os.dup2(os.open(folder / f"{rank}.out", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
    os.dup2(os.open(folder / f"{rank}.err", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    torch.set_num_threads(1)
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (folder / f"{rank}.result").write_bytes(pickle.dumps(getattr(module, name)(*args)))
