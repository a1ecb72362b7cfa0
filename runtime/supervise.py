"""Start a launcher, pass signals on to the run, and exit with the code of the run.

    python -m paccel.runtime.supervise -- torchrun --nproc-per-node=8 train.py --epochs 100

`torchrun`, `accelerate launch` and other launchers replace the exit code of train.py by 1 or hide it. The supervisor
reads how the run ended from its `status.json`, and exits with 0 (finished), 75 (not finished: start it again) or 1
(failed). A run that was killed counts as not finished if it was asked to stop, or has saved.

SIGTERM, SIGINT, SIGHUP, SIGUSR1 and the like go to the processes that train. The launcher does not get them, since it
might kill these processes before they have saved. It is stopped only while no process is ready for signals, as during
imports. A second signal ends everything without saving, a third one kills it.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from .record import supervised
from .record.status import read_status, writer_of

FINISHED, FAILED, UNFINISHED = 0, 1, 75

_UNDERSTOOD = ("SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP")  # a run handles these and records their name as its reason
_OTHERS = ("SIGUSR2", "SIGQUIT", "SIGXCPU")  # from schedulers and terminals; passed on as SIGTERM
_IGNORED_BY_LAUNCHER = ("SIGUSR1", "SIGUSR2")  # would kill a launcher without a handler
_FOR_TORCHRUN = {
    "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "3600",  # seconds: the scheduler decides how long a save may take
    "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",  # or a node that rejoins does not learn where the others meet (2.15)
}
_ECHO_SECONDS = 1.0  # a scheduler that signals all processes may send the same request twice within this time
_GRACE = 10.0  # seconds for a launcher to exit after the processes that it has started
_POLL = 0.1  # seconds


def supervise(command: Sequence[str], folder: Path) -> int:
    """Start a launcher, wait until it and all that it has started have exited, and return the exit code.

    Args:
        command: The launcher and its arguments.
        folder: An empty folder, through which the run and its supervisor communicate.
    """
    received: list[int] = []
    for name in (*_UNDERSTOOD, *_OTHERS):
        number = getattr(signal, name)
        if name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN:  # `nohup` ignores it
            signal.signal(number, lambda number, _frame: received.append(number))
    try:
        launcher = subprocess.Popen(
            command,
            env=_FOR_TORCHRUN | os.environ | {supervised.VARIABLE: str(folder)},
            process_group=0,
            stdin=subprocess.DEVNULL if sys.stdin is not None and sys.stdin.isatty() else None,
            preexec_fn=_ignore_signals,
        )
    except OSError as error:
        print(f"error: `{command[0]}` cannot be started: {error.strerror}", file=sys.stderr)
        return FAILED
    return Supervisor(folder, launcher, received).wait()


def _ignore_signals() -> None:
    for name in _IGNORED_BY_LAUNCHER:
        signal.signal(getattr(signal, name), signal.SIG_IGN)


class Supervisor:
    """Watches one launcher, which runs in its own process group, until it exits.

    Args:
        folder: Where the run and its supervisor communicate.
        launcher: The launcher.
        received: Signals that arrived and were not passed on yet; the signal handler appends to it.
    """

    def __init__(self, folder: Path, launcher: "subprocess.Popen[bytes]", received: list[int]) -> None:
        self._folder, self._launcher, self._received = folder, launcher, received
        self._requests = 0  # to stop
        self._last_request = 0.0
        self._status_at_request: Mapping[str, Any] = {}  # the first one
        self._deadline: float | None = None  # for the launcher to exit, once its processes have

    def wait(self) -> int:
        """Pass on signals until everything has exited. Returns the exit code."""
        while self._launcher.poll() is None or any(supervised.watching(self._folder)):
            while self._received:
                self._pass_on(self._received.pop(0))
            if self._requests:
                self._end_idle_launcher()
            with suppress(subprocess.TimeoutExpired):
                self._launcher.wait(_POLL)
                time.sleep(_POLL)  # the launcher has exited, but not all the processes that it started
        return self._exit_code()

    def _pass_on(self, number: int) -> None:
        now = time.monotonic()
        if self._requests and now - self._last_request < _ECHO_SECONDS:
            return
        self._requests, self._last_request = self._requests + 1, now
        if self._requests == 1:
            self._status_at_request = self._status()
        if self._requests > 2:
            number = signal.SIGKILL
        elif signal.Signals(number).name not in _UNDERSTOOD:
            number = signal.SIGTERM
        is_handled = supervised.pass_on(self._folder, number)
        if self._requests > 1 or not is_handled:
            self._signal_launcher(signal.SIGKILL if self._requests > 2 else signal.SIGTERM)

    def _end_idle_launcher(self) -> None:
        """End a launcher that keeps running after its processes have exited."""
        if any(supervised.watching(self._folder)):
            self._deadline = None
        elif self._deadline is None:
            self._deadline = time.monotonic() + _GRACE
        elif time.monotonic() > self._deadline:
            self._signal_launcher(signal.SIGTERM)
            self._deadline = time.monotonic() + _GRACE

    def _signal_launcher(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._launcher.pid, number)

    def _status(self) -> Mapping[str, Any]:
        """The status of the last run that was opened under this launcher; empty if there is none."""
        run_dir = supervised.told_run_dir(self._folder)
        return read_status(run_dir) if run_dir is not None else {}

    def _exit_code(self) -> int:
        code, status = self._launcher.returncode, self._status()
        run_dir = supervised.told_run_dir(self._folder)
        if run_dir is not None and self._requests < 2:
            while status.get("state") == "running" and writer_of(run_dir, status) is not None:  # on another host
                time.sleep(_POLL)
                status = read_status(run_dir)
        state = status.get("state")
        if state == "stopped" or (state is None and code == UNFINISHED):
            return UNFINISHED
        if state == "finished":
            return FINISHED if code <= 0 or self._requests else FAILED
        if state == "failed" and not (self._requests and status == self._status_at_request):  # an earlier attempt's
            return FAILED
        if state is None and code == 0:
            return FINISHED
        return UNFINISHED if self._requests or status.get("step") else FAILED


def main(arguments: Sequence[str] | None = None) -> int:
    usage = "python -m paccel.runtime.supervise -- torchrun … train.py …"
    parser = argparse.ArgumentParser(
        usage=usage, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the launcher and its arguments")
    command = parser.parse_args(arguments).command
    command = command[1:] if command[:1] == ["--"] else command
    if not command:
        parser.error("which command? Put it after `--`, such as `-- torchrun train.py`")
    with tempfile.TemporaryDirectory(prefix="paccel-supervise-", ignore_cleanup_errors=True) as folder:
        return supervise(command, Path(folder))


if __name__ == "__main__":
    sys.exit(main())
