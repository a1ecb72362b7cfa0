"""Requests to stop: signals and a time limit, the same for all processes."""

import os
import signal
import threading
import time
from types import FrameType
from typing import Any

from ..hardware.agreement import Agreement, PendingGather
from ..record import supervised

_MOST_STEPS, _MOST_SECONDS = 8, 1.0  # between two gathers
_ECHO_SECONDS = 1.0  # a signal to the process group comes again from the launcher: not a second request

TIME_LIMIT = 0.5  # the code of the time limit, below every signal number


class StopRequest:
    """Watches for signals and a time limit, and has all processes stop at the same step.

    A single process reads a flag. Several share it in an asynchronous gather on the host, started at one step and read at
    the next: every 8 steps, or more often if the slowest process takes longer than a second for them.

    Args:
        agreement: The processes.
        time_limit: Seconds from now. None is off.

    Attributes:
        reason: The signal, or `time limit`, once the run is to stop.
    """

    NAMES = ("SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP")  # the last when a terminal is closed
    SIGNALS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))

    def __init__(self, agreement: Agreement, time_limit: float | None) -> None:
        self._agreement = agreement
        self._deadline = None if time_limit is None else time.monotonic() + time_limit
        self._signal, self._signalled = 0, 0.0
        self._announced = False
        self._previous: dict[int, Any] = {}
        self._shared: PendingGather[tuple[float, float]] | None = None  # code and seconds per step
        self._steps_to_go, self._interval, self._since = 1, 1, time.monotonic()
        self.reason: str | None = None

    def watch(self) -> None:
        """Install the signal handlers, if this is the main thread: Python allows it nowhere else."""
        if threading.current_thread() is threading.main_thread():
            for number in self.SIGNALS:
                if _name(number) != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN:  # `nohup` ignores it
                    self._previous[number] = signal.signal(number, self._on_signal)
            if (received := supervised.watch_for_signals()) is not None:
                self._on_signal(received, None)

    def unwatch(self) -> None:
        """Restore the previous signal handlers."""
        supervised.ignore_signals()
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self._signal:
            self._signal, self._signalled = number, now
        elif now - self._signalled > _ECHO_SECONDS:  # a second request ends the process immediately
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _own(self) -> float:
        """The request of this process: a signal number, `TIME_LIMIT`, or 0."""
        if self._signal:
            return self._signal
        return TIME_LIMIT if self._deadline is not None and time.monotonic() >= self._deadline else 0

    def announcement(self) -> str | None:
        """The name of the request of this process, once; None before it comes and after that."""
        code = 0 if self._announced else self._own()
        self._announced = self._announced or code != 0
        return _name(code) if code else None

    def is_due(self) -> bool:
        """Whether to stop after this step: the same answer on all processes. Call it once in each step."""
        if self.reason is None:
            code = self._own() if self._agreement.group is None else self._agreed()
            if not code:
                return False
            self.reason = _name(code)
        return True

    def exit_code(self) -> int:
        """75 for a run that has stopped; 0 if `torchrun` would take 75 for a failure and restart the run.

        If one of several nodes is leaving, the processes that got no signal exit with 75, to be restarted without it.
        """
        restarts = os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0") != "0"
        was_asked = self._own() != 0 or os.environ.get("GROUP_WORLD_SIZE", "1") == "1"
        is_signal = self.reason in self.NAMES
        return 0 if restarts and (was_asked or not is_signal) else 75

    def _agreed(self) -> float:
        """The request of any process, or 0, on all processes at the same step."""
        if self._shared is not None:
            reason, seconds_per_step = map(max, zip(*self._shared.wait(), strict=True))
            self._shared = None
            if reason:
                return float(reason)
            self._interval = max(1, min(_MOST_STEPS, int(_MOST_SECONDS / max(seconds_per_step, 1e-6))))
            self._steps_to_go = self._interval
        self._steps_to_go -= 1
        if self._steps_to_go == 0:
            now = time.monotonic()
            self._shared = self._agreement.start((self._own(), (now - self._since) / self._interval))
            self._since = now
        return 0


def _name(code: float) -> str:
    return "time limit" if code == TIME_LIMIT else signal.Signals(int(code)).name
