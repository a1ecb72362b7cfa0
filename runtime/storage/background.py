"""Writing files in the background while training continues."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from .encoding import decode, encode
from .shards import copied


class Background:
    """Runs jobs in a thread, in order; at most one job of each kind waits or runs.

    An error in a job drops the jobs after it, and is raised by the next `submit` or `wait`. At exit Python waits for
    the thread, so no job is left half done.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="paccel-writer")
        self._jobs: dict[str, Future[None]] = {}  # the latest of each kind
        self._error: BaseException | None = None

    def submit(self, kind: str, job: Callable[[], None]) -> None:
        """Run `job` in the thread, after waiting here for the previous job of its kind.

        Raises:
            Exception: The error of an earlier job.
        """
        if kind in self._jobs:
            wait([self._jobs[kind]])
        if self._error is not None:
            self.wait()
        self._jobs[kind] = self._thread.submit(self._run, job)

    def wait(self) -> None:
        """Wait until all jobs are done.

        Raises:
            Exception: The error of a job.
        """
        wait(self._jobs.values())  # before the error is cleared, so that no job after the failed one starts
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _run(self, job: Callable[[], None]) -> None:
        if self._error is None:
            try:
                job()
            except BaseException as error:
                self._error = error


def on_host(state: Any) -> Any:
    """A copy of a state with all tensors on the host, which later steps do not change. Tied tensors stay one tensor.

    Raises:
        CheckpointError: A value cannot be stored in a checkpoint; names its place and type.
    """
    tree, tensors = encode(state)
    return decode(tree, copied(tensors))
