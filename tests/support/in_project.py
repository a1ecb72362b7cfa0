"""Run Python modules in generated projects, in processes that have already imported torch, with a time limit."""

import os
import runpy
import sys
from pathlib import Path

import pytest

from support.together import new_process


def run_module(command: list[str], folder: Path, environment: dict[str, str], output: Path) -> None:
    """The work of such a process: `python -m` a module in a folder."""
    for stream in (1, 2):
        os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    os.environ.update(environment)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    sys.argv = command
    try:
        runpy.run_module(command[0], run_name="__main__", alter_sys=True)
    except Exception:
        sys.excepthook(*sys.exc_info())  # ends like a script, unlike a process of multiprocessing
        sys.exit(1)


def run_in(folder: Path, *command: str, timeout: float = 300, code: int = 0, **environment: str) -> str:
    """Run a Python module in a project and return its output; fail with that output unless it exits with `code`."""
    output = folder.parent / f"{folder.name}-output.txt"
    output.write_text("")
    common = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    process = new_process(run_module, list(command), folder, common | environment, output)
    process.start()
    process.join(timeout)
    if process.is_alive():
        process.kill()
        process.join(10)
        pytest.fail(f"{' '.join(command)} took more than {timeout} seconds:\n{output.read_text()}")
    assert process.exitcode == code, f"{' '.join(command)}\n{output.read_text()}"
    return output.read_text()
