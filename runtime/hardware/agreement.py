"""What all processes must agree on, over a separate group on the host, so that no device waits for it."""

import inspect
import pickle
import struct
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
import torch.distributed as dist

from ..errors import AgreementError

T = TypeVar("T")

_PATIENCE = timedelta(seconds=30)  # that a process waits for the others before it says so
_ROUND = timedelta(seconds=1)  # in which those that have waited for as long say so, too
_HEAD = struct.Struct("!HQ")  # bytes of the name of a call, and of a value
_SIZE = 512  # bytes of a message; a longer value follows in a second one
_PACKAGE = __name__.removesuffix(".hardware.agreement")
_NAMES = {  # of calls that the user's script makes under another name
    "Evaluation.batches": "Run.batches",
    "Walk.steps": "Run.steps",
    "Run.__init__": "Run(…)",
    "Run.__exit__": "the end of `with Run(…)`",
}


class Agreement:
    """Small host-side collectives over all processes; with one process each is a plain function call.

    Each sends along which call of the user's script it belongs to. So where processes are at different calls, all of
    them raise an error that names both; and one that waits for half a minute says where, and for which others.

    Args:
        num_processes: How many there are.
        rank: Which one this is.
        timeout: How long a process waits for the others. None is as long as PyTorch's default group does.
        is_for_thread: Whether it is one more of a run, for a thread that goes on at a pace of its own.
    """

    def __init__(
        self, num_processes: int, rank: int, timeout: timedelta | None = None, *, is_for_thread: bool = False
    ) -> None:
        self.num_processes = num_processes
        self.rank = rank
        self.group: dist.ProcessGroup | None = None
        self._numbers = count()  # of the exchanges: the same on all processes
        if num_processes > 1:
            group = dist.new_group(backend="gloo", timeout=timeout or _timeout_of_default_group())
            assert isinstance(group, dist.ProcessGroup), "every process is in it"
            self.group = group
        if not is_for_thread:
            _current[:] = [self]

    def close(self) -> None:
        """Let go of the group, so that its threads end now: one that is busy when Python ends aborts the process."""
        self.group = None

    def start(self, value: T) -> "Exchange[T]":
        """Begin a `gather` whose values are read later. Collective."""
        return Exchange(self, value, next(self._numbers))

    def gather(self, value: T) -> list[T]:
        """The values of all processes in rank order, on every process. Collective.

        Raises:
            AgreementError: Other processes are at other calls, or do not come in time.
        """
        return [value] if self.group is None else self.start(value).wait()

    def from_main(self, value: T) -> T:
        """What the main process passes, on every process. Collective."""
        return self.gather(value if self.rank == 0 else None)[0]  # type: ignore[return-value]

    def on_main(self, function: Callable[[], T]) -> T:
        """Run `function` on the main process and return its result on every process. Collective.

        Raises:
            AgreementError: It failed there; raised on the other processes, while the main one raises the original.
        """
        if self.group is None:
            return function()
        result: T | None = None
        error: Exception | None = None
        if self.rank == 0:
            try:
                result = function()
            except Exception as caught:
                error = caught
        result, reason = self.from_main((result, None if error is None else f"{type(error).__name__}: {error}"))
        if error is not None:
            raise error
        if reason is not None:
            raise AgreementError(f"The main process failed: {reason}")
        return result  # type: ignore[return-value]

    def on_all(self, function: Callable[[], T]) -> list[T]:
        """Run `function` on each process; its results in rank order, on every process. Collective.

        Raises:
            AgreementError: It failed on another process; those on which it failed raise the original.
        """
        result: T | None = None
        error: Exception | None = None
        try:
            result = function()
        except Exception as caught:
            if self.group is None:
                raise
            error = caught
        found = self.gather((result, None if error is None else f"{type(error).__name__}: {error}"))
        if error is not None:
            raise error
        for rank, (_, reason) in enumerate(found):
            if reason is not None:
                raise AgreementError(f"{'The main process' if rank == 0 else f'Process {rank}'} failed: {reason}")
        return [value for value, _ in found]  # type: ignore[misc]


_current: list[Agreement] = []  # of the run that was started last


def from_main(value: T) -> T:
    """`Agreement.from_main` in the run of this process, for what decides without being given one."""
    return _current[0].from_main(value) if _current else value


class Exchange(Generic[T]):
    """A value from each process, under way. All messages have one form, so that any two calls can be told apart."""

    def __init__(self, agreement: Agreement, value: T, number: int) -> None:
        self._agreement, self._number = agreement, number
        self._own = value
        if agreement.group is None:
            return
        self._call, self._place = _calling()
        self._value = pickle.dumps(value)
        call = f"{self._call}\n{self._place}".encode()[: _SIZE // 2]
        message = _HEAD.pack(len(call), len(self._value)) + call
        self._work, self._found = self._send((message + self._value)[:_SIZE], _SIZE)

    def _send(self, content: bytes, size: int) -> tuple[Any, list[bytearray]]:
        found = [bytearray(size) for _ in range(self._agreement.num_processes)]
        own, *others = (torch.frombuffer(b, dtype=torch.uint8) for b in (bytearray(content.ljust(size, b"\0")), *found))
        return dist.all_gather(others, own, group=self._agreement.group, async_op=True), found

    def wait(self) -> list[T]:
        """The values in rank order; `Agreement.gather` says what it raises."""
        if self._agreement.group is None:
            return [self._own]
        self._await()
        calls, sizes, values = [], [], []
        for message in map(bytes, self._found):
            length, size = _HEAD.unpack_from(message)
            start = _HEAD.size + length
            calls.append(message[_HEAD.size : start].decode(errors="replace").split("\n"))
            sizes.append(size)
            values.append(message[start : start + size])
        if len({call for call, *_ in calls}) > 1:
            raise AgreementError(_different(calls))
        if any(size > len(value) for size, value in zip(sizes, values, strict=True)):
            self._work, self._found = self._send(self._value, max(sizes))
            self._await()
            values = list(map(bytes, self._found))
        return [pickle.loads(value) for value in values]  # what follows a pickle is not read

    def _await(self) -> None:
        for patience in (_PATIENCE, _ROUND, None):
            try:
                self._work.wait(patience) if patience else self._work.wait()
                return
            except RuntimeError as error:
                if self._work.is_completed():
                    if "Timed out" not in str(error):
                        raise
                    where = f"{self._call}{_at(self._place)}"
                    raise AgreementError(
                        f"Process {self._agreement.rank} waited in {where} for other processes, and they did not come "
                        f"in time: {error}\n`process_timeout` sets how many seconds they wait"
                    ) from error
            with suppress(RuntimeError):  # the process that holds the store has ended
                self._say_who_is_missing(first=patience is _PATIENCE)

    def _say_who_is_missing(self, *, first: bool) -> None:
        """Leave word that this process waits; a round later, the first of those that wait says who does not."""
        agreement = self._agreement
        assert agreement.group is not None
        store, name = agreement.group.get_group_store(), f"waits-{self._number}"
        if first:
            store.set(f"{name}-{agreement.rank}", "")
            return
        waiting = [rank for rank in range(agreement.num_processes) if store.check([f"{name}-{rank}"])]
        missing = [rank for rank in range(agreement.num_processes) if rank not in waiting]
        if missing and agreement.rank == min(waiting):
            text = f"{_processes(waiting)} in {self._call}{_at(self._place)} for {_processes(missing, wait=None)}"
            print(f"warning: {text}", file=sys.stderr, flush=True)


def _calling() -> tuple[str, str]:
    """The call of this package that the user's code is at, and the line of it."""
    frame, call = inspect.currentframe(), ""
    while frame is not None and frame.f_globals.get("__name__", "").startswith(_PACKAGE):
        call, frame = frame.f_code.co_qualname, frame.f_back
    place = "" if frame is None else f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
    return _NAMES.get(call, call), place


def _at(place: str) -> str:
    return f" ({place})" if place else ""


def _different(calls: Sequence[Sequence[str]]) -> str:
    ranks: dict[tuple[str, ...], list[int]] = {}
    for rank, call in enumerate(calls):
        ranks.setdefault(tuple(call), []).append(rank)
    where = ", ".join(
        f"{_processes(found, wait=None)} in {call}{_at(''.join(p))}" for (call, *p), found in ranks.items()
    )
    return f"The processes are at different calls: {where}. Each is for all processes: take it out of the `if`"


def _processes(ranks: list[int], wait: str | None = "wait") -> str:
    some = ", ".join(map(str, ranks[:8])) + (", …" if len(ranks) > 8 else "")
    words = f"process {some}" if len(ranks) == 1 else f"processes {some}"
    return words if wait is None else f"{words} {wait}{'s' if len(ranks) == 1 else ''}"


def _timeout_of_default_group() -> timedelta | None:
    """How long its collectives wait, as accelerate's users set it; PyTorch has no public word for it. None: unknown."""
    group = dist.group.WORLD
    assert group is not None
    device = torch.accelerator.current_accelerator() if "gloo" not in dist.get_backend(group) else None
    with suppress(AttributeError, RuntimeError):  # of a backend that has none
        backend: Any = group._get_backend(device or torch.device("cpu"))
        timeout: timedelta = backend.options._timeout
        return timeout
    return None
