"""Start a launcher, pass signals on to the run, and end with the exit code of the run.

    python -m paccel.runtime.supervise -- torchrun --nproc-per-node=8 train.py --epochs 100

`torchrun`, `accelerate launch` and other launchers turn each exit code of train.py into a 1 or hide it. This one
reads how the run ended from its `status.json`, and ends with 0 (finished), 75 (not finished: start it again) or 1
(failed). A run that was killed without a word counts as not finished if it was asked to stop, or has saved.

SIGTERM, SIGINT, SIGHUP, SIGUSR1 and the like are passed on to the processes that train, not to the launcher, which might
give them too little time to save. Where none is ready for them, as while Python imports, the launcher is ended. A second
signal ends all of it without saving, a third one kills.
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
from types import FrameType
from typing import Any

from .record import supervised
from .record.status import read_status, writer_of

FINISHED, FAILED, UNFINISHED = 0, 1, 75

_UNDERSTOOD = ("SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP")  # by a run, which calls its reason by their name
_OTHERS = ("SIGUSR2", "SIGQUIT", "SIGXCPU")  # of schedulers, and of terminals
_NO_END = ("SIGUSR1", "SIGUSR2")  # that would end a launcher which knows nothing of them
_FOR_TORCHRUN = {
    "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "3600",  # seconds: the scheduler says how long a save may take
    "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",  # else a node that comes back is not told where the others meet (2.15)
}
_ECHO_SECONDS = 1.0  # in which the same request comes twice, from a scheduler that signals all processes
_GRACE = 10.0  # seconds for a launcher to end after the processes that it has started
_LOOK = 0.1  # seconds


class Supervisor:
    """One launcher, in a process group of its own, from start to end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._launched: subprocess.Popen[bytes] | None = None
        self._new: list[int] = []  # signals that have come and have not been looked at
        self._requests = 0
        self._asked = 0.0
        self._at_request: Mapping[str, Any] = {}
        self._deadline: float | None = None  # for the launcher to end, once its processes have

    def run(self, command: Sequence[str]) -> int:
        """Start a launcher, wait for its end and that of all that it has started, and return the exit code."""
        for name in (*_UNDERSTOOD, *_OTHERS):
            number = getattr(signal, name)
            if name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN:  # as `nohup` has it
                signal.signal(number, self._on_signal)
        environment = os.environ | {supervised.VARIABLE: str(self._folder)}
        for name, value in _FOR_TORCHRUN.items():
            environment.setdefault(name, value)
        try:
            self._launched = subprocess.Popen(
                command,
                env=environment,
                process_group=0,
                stdin=subprocess.DEVNULL if sys.stdin is not None and sys.stdin.isatty() else None,
                preexec_fn=_ignore,
            )
        except OSError as error:
            print(f"error: `{command[0]}` cannot be started: {error.strerror}", file=sys.stderr)
            return FAILED
        while self._is_going():
            self._look()
            with suppress(subprocess.TimeoutExpired):
                self._launched.wait(_LOOK)
                time.sleep(_LOOK)  # where processes are left that it has started
        return self._exit_code(self._launched.returncode, self._status())

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._new.append(number)

    def _is_going(self) -> bool:
        assert self._launched is not None
        return self._launched.poll() is None or any(supervised.watching(self._folder))

    def _look(self) -> None:
        while self._new:
            self._pass_on(self._new.pop(0))
        if not self._requests:
            return
        if any(supervised.watching(self._folder)):
            self._deadline = None
        elif self._deadline is None:
            self._deadline = time.monotonic() + _GRACE
        elif time.monotonic() > self._deadline:
            self._signal_launcher(signal.SIGTERM)
            self._deadline = time.monotonic() + _GRACE

    def _pass_on(self, number: int) -> None:
        now = time.monotonic()
        if self._requests and now - self._asked < _ECHO_SECONDS:
            return
        self._requests, self._asked = self._requests + 1, now
        if self._requests == 1:
            self._at_request = self._status()
        known = number if signal.Signals(number).name in _UNDERSTOOD else signal.SIGTERM
        if self._requests > 2:
            known = signal.SIGKILL
        is_heard = supervised.pass_on(self._folder, known)
        if self._requests > 1 or not is_heard:
            self._signal_launcher(signal.SIGKILL if self._requests > 2 else signal.SIGTERM)

    def _signal_launcher(self, number: int) -> None:
        assert self._launched is not None
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._launched.pid, number)

    def _status(self) -> Mapping[str, Any]:
        """How the run is that this launcher has opened last; empty if it has opened none."""
        run_dir = supervised.told_run_dir(self._folder)
        return read_status(run_dir) if run_dir is not None else {}

    def _exit_code(self, code: int, status: Mapping[str, Any]) -> int:
        run_dir = supervised.told_run_dir(self._folder)
        if run_dir is not None and self._requests < 2:
            while status.get("state") == "running" and writer_of(run_dir, status) is not None:  # on another host
                time.sleep(_LOOK)
                status = read_status(run_dir)
        state = status.get("state")
        if state == "stopped" or (state is None and code == UNFINISHED):
            return UNFINISHED
        if state == "finished":
            return FINISHED if code <= 0 or self._requests else FAILED
        if state == "failed" and not (self._requests and status == self._at_request):  # else of an earlier attempt
            return FAILED
        if state is None and code == 0:
            return FINISHED
        return UNFINISHED if self._requests or status.get("step") else FAILED


def _ignore() -> None:
    for name in _NO_END:
        signal.signal(getattr(signal, name), signal.SIG_IGN)


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
        supervisor = Supervisor(Path(folder))
        return supervisor.run(command)


if __name__ == "__main__":
    sys.exit(main())
