"""A run: one training from start to end, on whatever the launcher offers."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, Self

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Dataset

from .config import config_to_dict
from .data.loader import Loader
from .data.order import Order
from .data.randomness import at, seeder, stream
from .data.stream import StreamLoader, is_stream
from .errors import AgreementError, ConfigError, Stopped
from .hardware.agreement import Agreement
from .hardware.deepspeed import EngineOptimizer
from .hardware.gradients import add_gradients, clip_grad_norm
from .hardware.prepare import prepare
from .hardware.processes import choose_precision, precision_name, set_up_numerics, start_processes
from .hardware.sharding import ENGINES, is_sharded_model, whole
from .loop.finite import FiniteGuard
from .loop.position import Position
from .loop.step import Step
from .loop.stopping import StopRequest
from .loop.walk import walk_epochs, walk_steps, walk_stream
from .messages import lost_another
from .record import progress
from .record.opening import open_run_dir
from .record.record import Record
from .record.reporting import Reporter, check_trackers
from .storage.background import Background


class Run:
    """A training run: its processes, device and precision, its place in the data, and its record on disk.

    Use it as a context manager. It watches for signals, writes `status.json`, and draws the curves at the end.

    Args:
        config: A dataclass with any of these fields, each off or at its default where missing: `seed` (0), `precision`
            ("auto"), `deterministic` (False), `compile` (False), `run_dir`, `resume` ("never"), `trackers` (),
            `time_limit` (seconds), `skip_non_finite` (0: steps in a row that may be skipped because their gradient is
            not finite, see `FiniteGuard`). All of its fields are saved in `config.json`.
        record: Whether to keep a run directory. Without it, nothing is written, which is what an evaluation wants.

    Attributes:
        accelerator: accelerate's `Accelerator`, for all that this class does not cover.
        device: Where this process computes.
        run_dir: The folder that this run writes; the working directory without a record.

    Raises:
        ConfigError: A setting cannot be used here, or differs from those of the run that it would continue.
    """

    def __init__(self, config: Any, *, record: bool = True) -> None:
        processes = start_processes()
        self.device: torch.device = processes.device
        self._agreement = Agreement(processes.num_processes, processes.process_index)
        self._seed = int(getattr(config, "seed", 0))
        self._compile = bool(getattr(config, "compile", False))
        trackers = tuple(getattr(config, "trackers", ())) if record else ()
        precision, why = choose_precision(getattr(config, "precision", "auto"), self.device)
        check_trackers(trackers)
        self._record: Record | None = None
        self._fork: Path | None = None
        if record:
            self._record, self._fork = open_run_dir(self._agreement, config, config_to_dict(config))
        self.run_dir = Path() if self._record is None else self._record.run_dir
        self.accelerator = Accelerator(
            mixed_precision=precision,
            cpu=self.device.type == "cpu",
            log_with=list(trackers) or None,
            project_dir=self.run_dir,
            step_scheduler_with_optimizer=False,
            rng_types=[],
        )
        set_up_numerics(self.device, bool(getattr(config, "deterministic", False)))
        self._reporter = Reporter(self.accelerator, self._record)
        if trackers:
            self._reporter.start_trackers(trackers, config_to_dict(config))
        if record:
            count = f" with {self._agreement.num_processes} processes" if self._agreement.num_processes > 1 else ""
            chosen = f"{precision_name(precision)} ({why})"
            self._reporter.say(f"training on {self.device.type}{count}, {chosen}, in {self.run_dir}")

        self._position = Position()
        self._epochs: int | None = None
        self._max_steps: int | None = None
        self._logged_step = 0
        self._stop = StopRequest(self._agreement, getattr(config, "time_limit", None))
        self._step_key = stream(self._seed, "step", self._agreement.rank)
        self._in_filler = False
        self._loss_factor = 1
        self._models: list[nn.Module] = []
        self._backgrounds: list[Background] = []
        self._optimizers: list[Any] = []
        self._engine: EngineOptimizer | None = None
        self._parameters: dict[int, list[nn.Parameter]] = {}
        self._training_loader: Loader | None = None
        self._guard = FiniteGuard(self, int(getattr(config, "skip_non_finite", 0)))
        self._plain = self.accelerator.scaler is None and self.accelerator.distributed_type not in ENGINES
        self._seed_all = seeder(self.device)
        self._seed_all(stream(self._seed, "start"))

    # Before the loop

    def loader(
        self,
        dataset: Dataset[Any],
        batch_size: int,
        *,
        shuffle: bool | Order = False,
        drop_last: bool = False,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        limit_batches: int | None = None,
    ) -> Loader:
        """Cut a dataset into batches, the same for any number of processes.

        What a sample draws from the global generators of `random`, NumPy and PyTorch is a function of (seed, epoch,
        index), whichever process fetches it. For generators of its own, a dataset may have `set_sample_seed(seed)`,
        which is called before each sample. A `TensorDataset` is gathered by whole micro-batches.

        Args:
            dataset: Anything with a length and an index, or a stream: see `StreamLoader`.
            batch_size: Samples per step (or per evaluation batch), over all processes and micro-batches.
            shuffle: A new order in each epoch, a function of (seed, epoch). Or one of your own, a function from the epoch
                to the indices of its samples, some of them more than once if you like; the same on all processes.
            drop_last: Leave out an epoch's last, smaller batch.
            num_workers: Processes that fetch, for each process that trains; 0 fetches in the training process.
            collate_fn: From a list of samples to a batch; PyTorch's default otherwise.
            limit_batches: Use only so many batches of each epoch, for a quick try. None is off.
        """
        return (StreamLoader if is_stream(dataset) else Loader)(
            dataset,
            batch_size,
            shuffle=shuffle,
            drop_last=drop_last,
            num_workers=num_workers,
            collate_fn=collate_fn,
            limit=limit_batches,
            seed=self._seed,
            rank=self._agreement.rank,
            num_processes=self._agreement.num_processes,
            device=self.device,
        )

    def prepare(self, *objects: Any) -> Any:
        """Move models to the device, compile them if the config says so, and wrap them for distribution.

        Optimizers come back as they are wherever plain PyTorch is right, else (loss scaling, DeepSpeed, XLA) as
        accelerate's wrappers. Learning-rate schedules are made after this, and are not prepared.

        Returns:
            The objects in the order given; the object itself if there is one.

        Raises:
            ConfigError: DeepSpeed is given other than one model and one optimizer, or cannot be used as configured.
        """
        return ready if len(ready := prepare(self, objects)) > 1 else ready[0]

    # The loop

    def epochs(self, epochs: int | None, max_steps: int | None = None) -> Iterator[int]:
        """Yield the epochs that are left, counted from 1; after a restore, from the restored one on.

        Args:
            epochs: Passes over the data. None is off.
            max_steps: Optimizer updates after which the run ends, whichever comes first. None is off.

        Raises:
            ConfigError: Both are off.
        """
        return walk_epochs(self, epochs, max_steps)

    def steps(
        self,
        loader: Loader,
        accumulate: int = 1,
        *,
        passes: int = 1,
        flops_per_sample: float | None = None,
        peak_flops: float | None = None,
    ) -> Iterator[Step]:
        """Yield the steps of this epoch that are left. Iterate each step for its micro-batches.

        Args:
            loader: The training data.
            accumulate: Micro-batches into which each process cuts its share of a step. The result is the same for
                any number, a smaller micro-batch takes less memory.
            passes: How often each step may be iterated; more than once keeps its micro-batches on the device.
            flops_per_sample: Of a forward and backward pass: the share of the peak (MFU) is logged as `time/mfu`.
            peak_flops: Of one device each second. None is what is known of it in the run's precision.

        Raises:
            ConfigError: `accumulate` or `passes` is below 1, or there is no step.
        """
        for name, number in (("accumulate", accumulate), ("passes", passes)):
            if number < 1:
                raise ConfigError(f"`{name}` must be at least 1: {number}")
        self._training_loader = loader
        self._reporter.measure_flops(flops_per_sample, peak_flops)
        if isinstance(loader, StreamLoader):
            return walk_stream(self, loader, accumulate, passes)
        return walk_steps(self, loader, accumulate, passes)

    def batches(self, loader: Loader) -> Iterator[Any]:
        """Yield this process's batches of one pass in order: each sample once over all processes.

        A pass is never left half-way: asked to stop, the run says so, ends the pass, and stops after the step. Where a
        model is sharded, a batch may be a filler: meters leave it out, others look at `loader.batch_samples`.
        """
        total = loader.limit if isinstance(loader, StreamLoader) else loader.steps_per_epoch
        shown = self.accelerator.is_main_process
        with progress.bar(total, 0, shown=shown, description="evaluating", delay=2.0) as bar:
            for number, (batch, count) in enumerate(loader.evaluation_batches(filler=self._has_shards())):
                loader.batch_samples, self._in_filler = count, count == 0
                self._seed_all(at(~self._step_key, self._position.step << 16 | number))
                if asked := self._stop.announcement():
                    progress.say(f"{asked}: this evaluation is ended first, then the run saves and stops")
                yield batch
                bar.update()
        self._in_filler = False

    @contextmanager
    def evaluating(self, model: nn.Module) -> Iterator[nn.Module]:
        """Switch to evaluation mode without gradients, and afterwards back to each module's own mode.

        Yields:
            The module inside a distributed wrapper, whose forward pass calls no collective, so that processes may see
            different numbers of batches; a sharded model as it is.
        """
        started = perf_counter()
        inner = model if self._has_shards() or self._engine is not None else self.accelerator.unwrap_model(model)
        modes = [(module, module.training) for module in model.modules()]
        model.eval()
        try:
            with torch.no_grad():
                yield inner
        finally:
            for module, training in modes:
                module.training = training
            self._reporter.throughput.other_seconds += perf_counter() - started

    def backward(self, loss: torch.Tensor, count: int | torch.Tensor = 1) -> None:
        """Add the gradients of `loss / count`: of this micro-batch's share of the step.

        Distributed wrappers average over processes where a sum is meant; that is undone here. A filler counts nothing.

        Args:
            loss: A sum over the micro-batch. Shape ().
            count: Samples (or tokens) of the whole step, over all micro-batches and processes.
        """
        if self._plain:
            add_gradients(loss, count, self._loss_factor)
        elif self._engine is not None:
            self._engine.backward(loss / count * self._loss_factor, self.accelerator.sync_gradients)
        else:
            self.accelerator.backward(loss / count * self._loss_factor)

    def clip_grad_norm(self, model: nn.Module, max_norm: float | None) -> torch.Tensor:
        """Scale the gradients so that their norm is at most `max_norm`; None only measures.

        Call it once in a step, after its last micro-batch. DeepSpeed's stages 1 to 3 clip and update at once: there, it
        makes the update of `optimizer.step()` too. A norm that is not finite is an error, or as the config says, the
        update is skipped: the same on all processes.

        Returns:
            The norm before clipping, over all parameters. Shape (), on the device: reading it is a sync.
        """
        parameters = self._parameters.get(id(model))
        if parameters is None:
            parameters = self._parameters[id(model)] = list(model.parameters())
        reads = self._guard.looks_at_once
        if self._engine is not None:
            norm = self._engine.clip_grad_norm(parameters, max_norm, reads=reads)
        elif self._plain and self.accelerator.distributed_type is not DistributedType.FSDP:
            norm = clip_grad_norm(parameters, max_norm, reads=reads)
        else:
            limit = math.inf if max_norm is None else max_norm
            norm = torch.as_tensor(self.accelerator.clip_grad_norm_(parameters, limit))
        norm = whole(norm)
        self._guard.take(norm, parameters)
        return norm

    def log(self, section: str, *groups: Mapping[str, Any], **values: Any) -> None:
        """Add a line to `metrics.jsonl`, show it, and hand it to the trackers. Collective; waits for the device once.

        Args:
            section: What the keys begin with: `train`, `eval`, …
            groups: Values by name, such as what `Meter.read` returns.
            values: More of them; numbers or tensors of shape (). None is left out.

        Raises:
            NonFiniteError: A training loss or a gradient is not finite, and may not be. Raised on all processes.
            OSError: The disk is full or cannot be written; an AgreementError with its words on other processes.
        """
        position = self._position
        found = {name: value for group in (*groups, values) for name, value in group.items() if value is not None}
        numbers = {name: value.item() if isinstance(value, torch.Tensor) else value for name, value in found.items()}
        skipped = self._guard.read_skipped() if section == "train" else 0
        numbers |= {"skipped_updates": skipped} if skipped else {}
        times = self._reporter.times(section)
        self._agreement.on_main(lambda: self._reporter.log(position.step, position.epoch, section, numbers, times))
        if section == "train":
            self._guard.take_loss(numbers.get("loss"), min(self._logged_step + 1, position.step), skipped)
            self._logged_step = position.step

    def stopping(self) -> bool:
        """Whether to save and stop after this step: a signal came or the time limit is reached, on any process.

        Call it once in each step. All processes get the same answer at the same step.
        """
        return self._stop.is_due()

    def stopped(self) -> Stopped:
        """What to raise after saving: leaves the process with exit code 75, and `stopped` in `status.json`."""
        return Stopped(self._stop.reason or "stopped by the loop")

    def finish(self, reason: str) -> None:
        """End the run after this step, as finished: `epochs` and `steps` yield no more. For early stopping."""
        self._position.finished = reason
        self._reporter.say(f"finishing at step {self._position.step}: {reason}")

    # Behind the scenes

    def _begin_micro_batch(self, step: int, number: int, count: int, of: int) -> None:
        """Set what depends on the micro-batch: randomness, whether gradients are exchanged, what its loss counts."""
        self._seed_all(at(self._step_key, step << 16 | number))
        self._in_filler = count == 0
        self._loss_factor = self._agreement.num_processes if count else 0
        if of > 1:
            is_last = number % of == 0  # of this pass over the step
            self.accelerator.gradient_state._set_sync_gradients(is_last)
            for model in self._models:
                if isinstance(model, DistributedDataParallel):
                    model.require_backward_grad_sync = is_last
                elif is_sharded_model(model):
                    model.set_requires_gradient_sync(is_last)

    def _has_shards(self) -> bool:
        """Whether a forward pass is a collective, so that all processes must make as many."""
        if self._engine is not None:
            return self._engine.stage == 3
        by_accelerate = self.accelerator.distributed_type is DistributedType.FSDP
        return by_accelerate or any(map(is_sharded_model, self._models))

    def _loss_scaler(self) -> Any:
        """What scales losses in fp16, with `state_dict` and `load_state_dict`; None where nothing does."""
        return self.accelerator.scaler if self._engine is None else self._engine.scaler

    def _is_over(self) -> bool:
        """Whether no epoch is left to walk: the last is over, the steps are used up, or the loop has said so."""
        position = self._position
        all_epochs = self._epochs is not None and position.epoch >= self._epochs and not position.epoch_is_cut
        out_of_steps = self._max_steps is not None and position.step >= self._max_steps
        return position.finished is not None or (position.epoch_is_over and (all_epochs or out_of_steps))

    def _wait_for_the_end(self, error: BaseException | None) -> BaseException | None:
        """Wait for all that go on and all that is written, collective if in order; returns what the run failed of."""
        ends_in_order = error is None or isinstance(error, Stopped)
        failed = None if ends_in_order else error
        try:
            if error is None:
                self._agreement.gather(None)  # all have got here: nobody is left who may still fail
            for background in self._backgrounds:
                self._agreement.on_main(background.wait) if ends_in_order else background.wait()
        except Exception as lost:
            return failed or lost
        return failed

    def __enter__(self) -> Self:
        self._stop.watch()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._stop.unwatch()
        position, agreement, record = self._position, self._agreement, self._record
        failed = self._wait_for_the_end(error)
        if failed is None:
            reason = error.reason if isinstance(error, Stopped) else position.finished
            self._reporter.close("stopped" if error else "finished", position.step, position.epoch, reason)
        else:
            if record is not None:
                if lost_another(failed) and (reason := record.failure()):
                    raise AgreementError(f"Another process failed: {reason}") from failed
                process = agreement.rank if agreement.num_processes > 1 else None
                record.write_failure(failed, position.step, position.epoch, process)
            if failed is not error:
                raise failed
            if agreement.num_processes > 1:
                return  # to leave the process group in order, the others would have to answer
        agreement.close()
        self.accelerator.state.destroy_process_group()
        AcceleratorState._reset_state(reset_partial_state=True)  # so that a notebook can start another run
