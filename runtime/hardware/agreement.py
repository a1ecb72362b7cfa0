"""Collectives of small Python values, over a process group on the host, so that no device waits for them."""

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

_PATIENCE = timedelta(seconds=30)  # before a process notes that it is waiting
_ROUND = timedelta(seconds=1)  # for the others to note the same, before one of them prints who is missing
_HEAD = struct.Struct("!HQ")  # number of bytes of the call's name, and of the value
_SIZE = 512  # bytes of a message; a longer value is sent in a second one
_PACKAGE = __name__.removesuffix(".hardware.agreement")
_NAMES = {  # methods that a script calls under another name
    "Evaluation.batches": "Run.batches",
    "Walk.steps": "Run.steps",
    "Run.__init__": "Run(…)",
    "Run.__exit__": "the end of `with Run(…)`",
}


class Agreement:
    """Collectives of small values over all processes, on the host. With one process, each is a plain function call.

    Each value is sent with the name and line of the call in the user's script. If processes are at different calls, all
    of them raise an error that names both. A process that waits for half a minute prints where, and for which others.

    Args:
        num_processes: How many there are.
        rank: The rank of this one.
        timeout: How long a process waits for the others. None is the timeout of PyTorch's default group.
        is_for_thread: Whether it is a second one for a background thread, which does not wait for the loop.
    """

    def __init__(
        self, num_processes: int, rank: int, timeout: timedelta | None = None, *, is_for_thread: bool = False
    ) -> None:
        self.num_processes = num_processes
        self.rank = rank
        self.group: dist.ProcessGroup | None = None
        self._numbers = count()  # of the gathers, the same on all processes
        if num_processes > 1:
            group = dist.new_group(backend="gloo", timeout=timeout or _timeout_of_default_group())
            assert isinstance(group, dist.ProcessGroup), "every process is in it"
            self.group = group
        if not is_for_thread:
            _current[:] = [self]

    def close(self) -> None:
        """Release the group, so that its threads end now: a thread that still works when Python exits aborts the process."""
        self.group = None

    def start(self, value: T) -> "PendingGather[T]":
        """Start a `gather` between several processes, and wait for it later. Collective."""
        return PendingGather(self, value, next(self._numbers))

    def gather(self, value: T) -> list[T]:
        """The values of all processes in rank order, on every process. Collective.

        Raises:
            AgreementError: Other processes are at another call, or this one timed out.
        """
        return [value] if self.group is None else self.start(value).wait()

    def from_main(self, value: T) -> T:
        """The value of the main process, on every process. Collective."""
        return self.gather(value if self.rank == 0 else None)[0]  # type: ignore[return-value]

    def on_main(self, function: Callable[[], T]) -> T:
        """Run `function` on the main process and return its result on every process. Collective.

        Raises:
            AgreementError: It failed; raised on the other processes. The main process raises the original error.
        """
        return self.on_all(function if self.rank == 0 else lambda: None)[0]  # type: ignore[return-value]

    def on_all(self, function: Callable[[], T]) -> list[T]:
        """Run `function` on each process and return all results in rank order, on every process. Collective.

        Raises:
            AgreementError: It failed on another process. Those on which it failed raise the original error.
        """
        if self.group is None:
            return [function()]
        result: T | None = None
        error: Exception | None = None
        try:
            result = function()
        except Exception as caught:
            error = caught
        found = self.gather((result, None if error is None else f"{type(error).__name__}: {error}"))
        if error is not None:
            raise error
        for rank, (_, reason) in enumerate(found):
            if reason is not None:
                raise AgreementError(f"{'The main process' if rank == 0 else f'Process {rank}'} failed: {reason}")
        return [value for value, _ in found]  # type: ignore[misc]


_current: list[Agreement] = []  # that of the newest run


def from_main(value: T) -> T:
    """`Agreement.from_main` in the newest run of this process, for objects that are made without a run."""
    return _current[0].from_main(value) if _current else value


class PendingGather(Generic[T]):
    """A gather that was started. All messages have the same form, so that different calls are noticed."""

    def __init__(self, agreement: Agreement, value: T, number: int) -> None:
        self._agreement, self._number = agreement, number
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
        """Wait for the values, in rank order. Raises the same errors as `Agreement.gather`."""
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
        return [pickle.loads(value) for value in values]  # ignores the padding after a pickle

    def _await(self) -> None:
        """Wait for the messages of all processes. After a while, print which ones are missing."""
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
                        f"in time: {error}\n`process_timeout` sets the limit, in seconds"
                    ) from error
            with suppress(RuntimeError):  # if the process that holds the store has ended
                if patience is _PATIENCE:
                    self._note_waiting()
                else:
                    self._say_who_is_missing()

    def _note_waiting(self) -> None:
        self._store.set(self._key(self._agreement.rank), "")

    def _say_who_is_missing(self) -> None:
        """On the first of the processes that wait, print for which others."""
        everyone = range(self._agreement.num_processes)
        waiting = [rank for rank in everyone if self._store.check([self._key(rank)])]
        missing = [rank for rank in everyone if rank not in waiting]
        if missing and self._agreement.rank == min(waiting):
            verb = "waits" if len(waiting) == 1 else "wait"
            place = f"{self._call}{_at(self._place)}"
            text = f"{_processes(waiting)} {verb} in {place} for {_processes(missing)}"
            print(f"warning: {text}", file=sys.stderr, flush=True)

    @property
    def _store(self) -> Any:
        assert self._agreement.group is not None
        return self._agreement.group.get_group_store()

    def _key(self, rank: int) -> str:
        return f"waits-{self._number}-{rank}"


def _calling() -> tuple[str, str]:
    """The call of this package in the user's script, and its file and line."""
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
    where = ", ".join(f"{_processes(found)} in {call}{_at(''.join(place))}" for (call, *place), found in ranks.items())
    return f"The processes are at different calls: {where}. All processes must make the same calls: move them out of the `if`"


def _processes(ranks: list[int]) -> str:
    some = ", ".join(map(str, ranks[:8])) + (", …" if len(ranks) > 8 else "")
    return f"process {some}" if len(ranks) == 1 else f"processes {some}"


def _timeout_of_default_group() -> timedelta | None:
    """The timeout of its collectives, which users of accelerate may set; None if unknown. PyTorch has no public name for it."""
    group = dist.group.WORLD
    assert group is not None
    device = torch.accelerator.current_accelerator() if "gloo" not in dist.get_backend(group) else None
    with suppress(AttributeError, RuntimeError):  # the backend has none
        backend: Any = group._get_backend(device or torch.device("cpu"))
        timeout: timedelta = backend.options._timeout
        return timeout
    return None
