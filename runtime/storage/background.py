"""Writing files while training goes on."""

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class Background:
    """Runs jobs in a thread, in order; of each kind, at most one waits or runs.

    An error in a job drops the jobs after it, and is raised by the next `submit` or `wait`. A process that ends leaves
    no job half done: Python waits for the thread.
    """

    def __init__(self) -> None:
        self._jobs: list[tuple[str, Callable[[], None]]] = []
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()
        self._error: BaseException | None = None

    def submit(self, kind: str, job: Callable[[], None]) -> None:
        """Run `job` in the thread, after waiting here for the previous job of its kind.

        Raises:
            Exception: The error of an earlier job.
        """
        with self._changed:
            self._changed.wait_for(lambda: all(waiting != kind for waiting, _ in self._jobs))
            self._raise()
            self._jobs.append((kind, job))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="paccel-writer")
                self._thread.start()

    def wait(self) -> None:
        """Wait until all jobs are done.

        Raises:
            Exception: The error of a job.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._jobs)
            self._raise()

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _work(self) -> None:
        """The thread: it ends when no job is left, so nobody has to end it."""
        while True:
            with self._changed:
                if not self._jobs:
                    self._thread = None
                    return
                job = self._jobs[0][1]
            error: BaseException | None = None
            try:
                job()
            except BaseException as caught:
                error = caught
            with self._changed:  # in one block: a job submitted in between would be dropped without an error
                if error is None:
                    del self._jobs[0]
                else:
                    self._error = error
                    self._jobs.clear()
                self._changed.notify_all()


def on_host(state: Any) -> Any:
    """A copy of a state, with its tensors on the host, that no later step changes. Tied tensors stay one."""
    return _copy(state, {})


def _copy(state: Any, copied: dict[Any, Tensor]) -> Any:
    if isinstance(state, dict):
        return {key: _copy(value, copied) for key, value in state.items()}
    if type(state) in (list, tuple):
        return type(state)(_copy(value, copied) for value in state)
    if not isinstance(state, Tensor):
        return state.copy() if hasattr(state, "dtype") and hasattr(state, "copy") else state  # NumPy's
    tensor = state.detach()
    identity = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
    if tensor.numel() == 0 or identity not in copied:
        copied[identity] = tensor.to("cpu", copy=True, memory_format=torch.preserve_format)
    return copied[identity]
