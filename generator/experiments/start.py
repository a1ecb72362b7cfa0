"""Start and end a project's training script, in the project's own Python, with the settings of a run."""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from ..errors import PreconditionError
from ..project.interpreter import find_interpreter
from ..runs.folder import RunFolder

STOPPED = 75
"""The exit code of a script that saved and stopped."""
SECONDS_TO_END = 20.0
"""How long a script may take to save after SIGTERM."""

_OF_A_LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "GROUP_RANK")


def settings_file(settings: Mapping[str, Any]) -> str:
    """Return settings as TOML for `--config`; None becomes the string `None`."""
    return "".join(f"{_key(name)} = {_toml(value)}\n" for name, value in settings.items())


def _key(name: str) -> str:
    return name if name.isascii() and name.isidentifier() else json.dumps(name, ensure_ascii=False)


def _toml(value: Any) -> str:
    if value is None:
        return '"None"'
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(name)} = {_toml(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def script_command(root: Path, program: str, processes: int = 1) -> list[str]:
    """Return the command that starts a project's script, with a number of processes on this machine."""
    python = find_interpreter(root).path
    if processes == 1:
        return [python, program]
    return [python, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), program]


def script_environment(run: RunFolder, **variables: str) -> dict[str, str]:
    """Return this environment without a launcher's variables, but with the threads and accelerate options of the run."""
    environment = {name: value for name, value in os.environ.items() if name not in _OF_A_LAUNCHER}
    launch = run.environment.get("launch")
    environment |= {str(k): str(v) for k, v in launch.items()} if isinstance(launch, Mapping) else {}
    threads = run.environment.get("threads")
    if isinstance(threads, int):
        environment.setdefault("OMP_NUM_THREADS", str(threads))
    return environment | {"MPLBACKEND": "Agg", "PYTHONUNBUFFERED": "1"} | variables


def num_processes(run: RunFolder) -> int:
    count = run.environment.get("num_processes")
    return count if isinstance(count, int) and count > 0 else 1


@contextlib.contextmanager
def started(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], output: IO[bytes]
) -> Iterator["subprocess.Popen[bytes]"]:
    """Start a process in a new session. When the block ends, it and its children are ended if they still run.

    Raises:
        PreconditionError: It cannot be started.
    """
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise PreconditionError(f"`{command[0]}` cannot be started: {error.strerror}") from error
    try:
        yield process
    finally:
        end(process)


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a process of `started` and its children: SIGTERM, on which it saves, then SIGKILL."""
    if process.poll() is not None:
        return  # its process id may belong to another process by now
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(SECONDS_TO_END)
    with contextlib.suppress(OSError):  # no process of its session is left
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()


def last_lines(output: Path, count: int = 3) -> str:
    """Return the last lines that a script printed, without progress bars; if one is an `error:`, from there on."""
    text = output.read_bytes()[-20_000:].decode("utf-8", "replace")
    lines = [line.rpartition("\r")[2].strip() for line in text.splitlines()]
    lines = [line for line in lines if line and "%|" not in line][-count:]
    first = next((number for number, line in enumerate(lines) if line.startswith("error: ")), 0)
    return "\n  ".join(lines[first:])
