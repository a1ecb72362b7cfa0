"""Throughput: samples and tokens per second, fraction of time spent waiting for data, peak memory, and MFU.

Between log points, nothing here synchronises the device: token counts stay on it until they are read.
"""

import sys
from collections.abc import Callable
from time import perf_counter

import torch
from torch import Tensor

from .peak_flops import known_peak_flops


class Throughput:
    """Counts samples and time between two log points, and computes the throughput.

    Attributes:
        started: When this start of the run began, by `perf_counter`.
        samples: Samples trained since the last log point, over all processes.
        data_seconds: Seconds that this process has waited for data since then.
        other_seconds: Seconds of evaluations and checkpoints since then, which do not count as training.
    """

    def __init__(self, device: torch.device, num_processes: int) -> None:
        self.started = perf_counter()
        self._restart(self.started)
        self._device, self._num_processes = device, num_processes
        self._flops_per_sample: float | None = None
        self._peak: float | None = None
        self._warned = False

    def _restart(self, now: float) -> None:
        self._since = now
        self.samples, self.data_seconds, self.other_seconds = 0, 0.0, 0.0
        self._counted: dict[str, Tensor] = {}

    def add(self, unit: str, total: Tensor) -> None:
        """Count the tokens, or another unit, of a step, over all processes. Shape (), stays on its device."""
        self._counted[unit] = self._counted[unit] + total if unit in self._counted else total.clone()

    def measure_flops(self, per_sample: float, peak: float | None, precision: str, say: Callable[[str], None]) -> None:
        """Also report MFU.

        Args:
            per_sample: FLOPs of a forward and backward pass.
            peak: Peak FLOPS of one device. None looks it up for this one.
            precision: accelerate's name of the precision.
            say: Prints, once, that the peak is unknown.
        """
        self._flops_per_sample, self._peak = per_sample, peak
        if peak is None and self._device.type == "cuda":
            tf32 = torch.get_float32_matmul_precision() != "highest"
            self._peak = known_peak_flops(torch.cuda.get_device_name(self._device), precision, tf32=tf32)
        if self._peak is None and not self._warned:
            self._warned = True
            say(
                "the peak FLOPS of this device are unknown, so `time/mfu` is not logged: pass `peak_flops` to `run.steps`"
            )

    def read(self) -> dict[str, float]:
        """The throughput since the last call. Synchronises the device if a unit such as tokens was counted."""
        now = perf_counter()
        seconds = max(now - self._since - self.other_seconds, 1e-9)
        speed = self.samples / seconds
        times = {"samples_per_second": speed} if self.samples else {}
        for unit, total in self._counted.items():
            times[f"{unit}_per_second"] = total.item() / seconds
        times["data_wait_share"] = self.data_seconds / seconds
        if (peak := _peak_memory(self._device)) is not None:
            times["peak_memory_gib"] = peak / 2**30
        if self._flops_per_sample is not None and self._peak is not None:
            times["mfu"] = speed * self._flops_per_sample / (self._peak * self._num_processes)
        self._restart(now)
        return times


def _peak_memory(device: torch.device) -> int | None:
    """The peak memory of this process in bytes: on the GPU, or on the host without one; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type != "cpu" or sys.platform == "win32":
        return None
    import resource  # does not exist on Windows

    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else size * 1024
