"""Evaluation: passes over a loader, with models in evaluation mode."""

from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from time import perf_counter
from typing import Any

import torch
from torch import nn

from ..data.loader import Loader
from ..errors import DataError
from ..hardware.buffers import kept
from ..hardware.prepare import Prepared
from ..record import progress
from ..record.reporting import Reporter
from .data_check import DataCheck
from .micro_batch import MicroBatch
from .position import Position
from .stopping import StopRequest


class Evaluation:
    """Yields the batches of evaluations, and switches models to evaluation mode and back.

    Args:
        prepared: The models of the run.
        micro_batch: Seeds each batch.
        position: Where the run is.
        data_check: Compares the data of each loader, at its first pass.
        stop: Is reported when it comes during an evaluation.
        reporter: Leaves the time of evaluations out of the throughput of training.
    """

    def __init__(
        self,
        prepared: Prepared,
        micro_batch: MicroBatch,
        position: Position,
        data_check: DataCheck,
        stop: StopRequest,
        reporter: Reporter,
    ) -> None:
        self._prepared, self._micro_batch, self._position = prepared, micro_batch, position
        self._data_check, self._stop, self._reporter = data_check, stop, reporter
        self._models: list[nn.Module] = []  # in evaluation mode now
        self._rehearses = False

    def batches(self, loader: Loader) -> Iterator[Any]:
        """Yield this process's batches of one pass; see `Run.batches`."""
        if self._rehearses and loader.known_steps == 0:
            raise DataError(f"`{type(loader.dataset).__name__}` has no samples to evaluate on")
        self._data_check.check(loader, trains=False)
        self._prepared.take_buffers_from_main(self._models)
        shown = self._reporter.accelerator.is_main_process
        with (
            progress.bar(loader.known_steps, 0, shown=shown, description="evaluating", delay=2.0) as bar,
            closing(loader.evaluate(filler=self._prepared.has_shards())) as batches,
        ):
            for number, (batch, samples) in enumerate(batches):
                self._micro_batch.begin_evaluation(self._position.step, number, samples)
                if request := self._stop.announcement():
                    progress.say(f"{request} received: finishing this evaluation, then saving and stopping")
                yield batch
                bar.update()
                if self._rehearses:
                    break
        self._micro_batch.end()

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        """A context in which passes end after their first batch; see `Run.rehearsal`."""
        self._rehearses = True
        try:
            yield
        finally:
            self._rehearses = False

    @contextmanager
    def evaluating(self, model: nn.Module) -> Iterator[nn.Module]:
        """A context in which a model is in evaluation mode, without gradients; see `Run.evaluating`."""
        started = perf_counter()
        self._models.append(model)
        modes = [(module, module.training) for module in model.modules()]
        model.eval()
        try:
            with torch.no_grad(), kept(model) if self._rehearses else nullcontext():
                yield self._prepared.for_evaluation(model)
        finally:
            self._models.pop()
            for module, training in modes:
                module.training = training
            self._reporter.throughput.other_seconds += perf_counter() - started
