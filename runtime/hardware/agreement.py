"""What all processes must agree on, over a separate group on the host, so that no device waits for it."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed as dist

from ..errors import AgreementError

T = TypeVar("T")


class Agreement:
    """Small host-side collectives over all processes; with one process each is a plain function call."""

    def __init__(self, num_processes: int, rank: int) -> None:
        self.num_processes = num_processes
        self.rank = rank
        self.group: dist.ProcessGroup | None = None
        if num_processes > 1:
            group = dist.new_group(backend="gloo")
            assert isinstance(group, dist.ProcessGroup), "every process is in it"
            self.group = group

    def close(self) -> None:
        """Let go of the group, so that its threads end now: one that is busy when Python ends aborts the process."""
        self.group = None

    def from_main(self, value: T) -> T:
        """What the main process passes, on every process. Collective."""
        if self.group is None:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self.group)
        return values[0]

    def gather(self, value: T) -> list[T]:
        """The values of all processes in rank order, on every process. Collective."""
        if self.group is None:
            return [value]
        values: list[Any] = [None] * self.num_processes
        dist.all_gather_object(values, value, group=self.group)
        return values

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
