"""The end of a run: what is waited for, what is recorded, and which error is raised."""

from collections.abc import Callable
from contextlib import suppress

import torch

from ..errors import AgreementError, NonFiniteError, Stopped, lost_another
from ..hardware.agreement import Agreement
from ..record import progress
from ..record.memory import write_memory_snapshot
from ..record.record import Record
from ..record.reporting import Reporter
from .position import Position


class Ending:
    """Ends a run: waits for what is still under way, and records whether it finished, stopped or failed.

    Args:
        agreement: The processes.
        reporter: Reports the end, and has the record.
        position: Where the run is.
        finds_non_finite: Whether `--find-non-finite` is on, so that an error need not suggest it.
    """

    def __init__(self, agreement: Agreement, reporter: Reporter, position: Position, *, finds_non_finite: bool) -> None:
        self._agreement, self._reporter, self._position = agreement, reporter, position
        self._finds_non_finite = finds_non_finite
        self._waits: list[Callable[[], None]] = []

    def wait_for(self, wait: Callable[[], None]) -> None:
        """Call `wait` before the run ends; see `Run.at_end`."""
        self._waits.append(wait)

    def end(self, error: BaseException | None) -> BaseException | None:
        """Record the end of a run that its loop left with `error`; None if it left it normally. Collective unless it failed.

        Returns:
            The error that the run failed with: `error`, or one that came up here; None if it finished or stopped.

        Raises:
            AgreementError: Another process failed first; says why.
        """
        record = self._reporter.record
        failure = self._wait(error)
        if record is not None:
            record.stop_beating()
        if failure is None:
            failure = self._close(error)
        if failure is not None and record is not None:
            self._record_failure(failure, record)
        return failure

    def _wait(self, error: BaseException | None) -> BaseException | None:
        """Wait for all processes, and for all that is still being written. Returns what the run failed with."""
        has_failed = error is not None and not isinstance(error, Stopped)
        failure = error if has_failed else None
        try:
            if error is None:
                self._agreement.gather(None)  # all processes are here, so none can fail any more
            for wait in self._waits:
                if has_failed:
                    wait()
                else:
                    self._agreement.on_all(wait)
        except Exception as later:
            return failure or later
        return failure

    def _close(self, error: BaseException | None) -> OSError | None:
        """Report that the run finished or stopped. Returns the error if the disk cannot be written."""
        state, reason = "finished", self._position.finished
        if isinstance(error, Stopped):
            state, reason = "stopped", error.reason
        try:
            self._reporter.close(state, self._position.step, self._position.epoch, reason)
        except OSError as problem:
            return problem
        return None

    def _record_failure(self, failure: BaseException, record: Record) -> None:
        """Write why the run failed, and what helps to find the cause."""
        position, rank = self._position, self._agreement.rank
        if isinstance(failure, torch.OutOfMemoryError):
            with suppress(OSError, RuntimeError):  # the user needs to see the out-of-memory error
                for path in write_memory_snapshot(record.run_dir, position.step, rank):
                    progress.say(f"out of memory: wrote what was allocated to {path}")
        if isinstance(failure, NonFiniteError) and not self._finds_non_finite:
            command = f"`paccel verify {record.run_dir} --find-non-finite`"
            failure.add_note(f"{command} names the module and step where it first appears")
        if lost_another(failure) and (reason := record.failure()):
            raise AgreementError(f"Another process failed: {reason}") from failure
        process = rank if self._agreement.num_processes > 1 else None
        record.write_failure(failure, position.step, position.epoch, process)
