"""Worker processes that fetch batches: started, kept from pass to pass, and ended."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import queues
from multiprocessing.reduction import ForkingPickler
from multiprocessing.util import Finalize
from typing import Any

import numpy as np
import torch
from torch.multiprocessing.reductions import reduce_tensor
from torch.utils.data import DataLoader, Dataset

from ..errors import ConfigError

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_END = object()
_INLINE_BYTES = 1 << 18  # up to this size, sending a tensor through a pipe costs less than shared memory


class Workers:
    """The worker processes of one loader. Overlapping passes have separate workers."""

    def __init__(self) -> None:
        self._idle: list[DataLoader[Any]] = []  # their workers wait for the next pass
        self._running: list[Any] = []  # iterators whose workers may be alive
        Finalize(self, _end, (self._running,), exitpriority=100)  # before the queues are closed, at 10

    def take_idle(self) -> DataLoader[Any] | None:
        """A `DataLoader` whose workers wait for a pass, if there is one."""
        return self._idle.pop() if self._idle else None

    def items(self, workers: DataLoader[Any], *, stay: bool) -> Generator[Any]:
        """What workers fetch in one pass.

        Args:
            workers: From `in_workers` or `take_idle`.
            stay: Whether they then wait for the next pass. They end in any case if the pass fails.
        """
        with _explaining_the_limit(workers.num_workers):
            iterator = _start(workers)  # the same one each time, if they stay
        if iterator not in self._running:
            self._running.append(iterator)
        try:
            while True:
                with _explaining_the_limit(workers.num_workers):
                    item = next(iterator, _END)
                if item is _END:
                    return
                yield item
        except GeneratorExit:  # the loop has left the pass, which is no failure
            raise
        except BaseException:
            stay = False
            raise
        finally:
            if iterator in self._running:  # else closed in the meantime
                if stay:
                    self._idle.append(workers)
                else:
                    self._running.remove(iterator)
                    _end([iterator])

    def close(self) -> None:
        """End all workers. A later pass starts new ones."""
        self._idle.clear()
        _end(self._running)


def in_workers(
    dataset: Dataset[Any], num_workers: int, device: torch.device, options: Mapping[str, Any], sampler: Any = None
) -> DataLoader[Any]:
    """A `DataLoader` whose workers fetch the items of a dataset.

    Args:
        dataset: Its items are batches.
        num_workers: Number of processes.
        device: Where the batches go.
        options: Options of `DataLoader` that do not change the order; None is PyTorch's default.
        sampler: Yields the indices.
    """
    given = {name: value for name, value in options.items() if value is not None}
    defaults = {"persistent_workers": True, "pin_memory": device.type == "cuda"}
    return DataLoader(
        dataset,
        sampler=sampler,
        batch_size=None,  # an item is a batch already
        collate_fn=_unchanged,
        num_workers=num_workers,
        generator=torch.Generator(),  # else every epoch would draw from the global one
        **defaults | given | {"worker_init_fn": _Init(given.get("worker_init_fn"))},
    )


def _unchanged(batch: Any) -> Any:
    return batch


class _Init:
    """What a worker does first. A class, because spawned workers receive it pickled."""

    def __init__(self, init: Callable[[int], None] | None) -> None:
        self.init = init

    def __call__(self, worker: int) -> None:
        # The training process handles signals; one sent to the whole process group must not kill its workers
        for number in (signal.SIGTERM, signal.SIGINT, getattr(signal, "SIGUSR1", signal.SIGINT)):
            signal.signal(number, signal.SIG_IGN)
        torch.set_num_threads(1)
        ForkingPickler.register(torch.Tensor, _reduce_tensor)
        # Python would only print the error, and the training process would wait forever for the batch
        queues.Queue._on_queue_feeder_error = staticmethod(_exit_on_send_error)  # type: ignore[attr-defined]
        if self.init is not None:
            self.init(worker)


def _reduce_tensor(tensor: torch.Tensor) -> tuple[Any, ...]:
    """How a worker pickles a tensor: a small one as its bytes, at a third of the CPU time of shared memory."""
    tensor = tensor.resolve_conj().resolve_neg()  # PyTorch loses both bits when it sends a tensor
    is_plain = tensor.layout is torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    if not is_plain or not tensor.is_contiguous() or tensor.requires_grad or tensor.nbytes > _INLINE_BYTES:
        shared: tuple[Any, ...] = reduce_tensor(tensor)  # type: ignore[no-untyped-call]
        return shared
    return _rebuild_tensor, (tensor.dtype, tensor.shape, tensor.reshape(-1).view(torch.uint8).numpy().tobytes())


def _rebuild_tensor(dtype: torch.dtype, shape: torch.Size, data: bytes) -> torch.Tensor:
    """A tensor in memory that PyTorch allocated and aligned: alignment may change the bits of a sum."""
    tensor = torch.empty(shape, dtype=dtype)
    tensor.view(-1).view(torch.uint8).numpy()[:] = np.frombuffer(data, np.uint8)
    return tensor


def _exit_on_send_error(error: Exception, _batch: Any) -> None:
    """End a worker that cannot send its batch, which the training process notices."""
    sys.stderr.write(f"error: a data worker cannot send its batch: {type(error).__name__}: {error}\n")
    os._exit(1)


def _start(workers: DataLoader[Any]) -> Any:
    """`iter(workers)`. If not all of them can be started, none is left running."""
    before = multiprocessing.active_children()
    try:
        return iter(workers)
    except Exception:
        for process in multiprocessing.active_children():
            if process not in before:
                process.kill()  # they ignore SIGTERM, which Python would send before it waits for them
                process.join()
        raise


def _end(iterators: list[Any]) -> None:
    """End the workers of these iterators, and empty the list. Python would send SIGTERM, which workers ignore."""
    while iterators:
        iterator = iterators.pop()
        iterator._shutdown_workers()


@contextmanager
def _explaining_the_limit(num_workers: int) -> Iterator[None]:
    """Turn errors of several types into one that says that there are too few file descriptors.

    Raises:
        ConfigError: In place of such an error.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        if not any(sign in str(error) for sign in ("Too many open files", "ancdata")):
            raise
        limit = (
            "" if resource is None else f", and this process may open {resource.getrlimit(resource.RLIMIT_NOFILE)[0]}"
        )
        raise ConfigError(
            f"Too many open files: `num_workers={num_workers}` needs some for each worker and each tensor in transit"
            f"{limit}. Raise the limit (`ulimit -n`), or lower `num_workers` or `prefetch_factor`"
        ) from error
