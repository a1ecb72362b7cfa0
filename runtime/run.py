"""A run: one training from start to end, on whatever the launcher offers."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, Self

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn
from torch.utils.data import Dataset

from .config import RunSettings, config_to_dict
from .data.loader import IndexedLoader, Loader
from .data.order import Cut, Order
from .data.randomness import key, seeder
from .data.stream import StreamLoader, is_stream
from .errors import AgreementError, ConfigError, Stopped, lost_another, show_uncaught_messages
from .hardware.agreement import Agreement
from .hardware.prepare import prepared_for
from .hardware.processes import choose_precision, precision_name, set_up_numerics, start_processes
from .loop.finite import FiniteGuard
from .loop.position import Position
from .loop.step import MicroBatch, Step
from .loop.stopping import StopRequest
from .loop.walk import walk_epochs, walk_steps
from .record import progress
from .record.opening import open_run_dir
from .record.record import Record
from .record.reporting import Reporter, check_trackers


class Run:
    """A training run: its processes, device and precision, its place in the data, and its record on disk.

    Use it as a context manager. It watches for signals, writes `status.json`, and draws the curves at the end. From when
    it is made, an uncaught error that its reader can mend is shown without a traceback, as `exit_with_message` does it.

    Args:
        config: A dataclass. A run reads the fields that `RunSettings` names: `seed`, `precision`, `deterministic`,
            `compile`, `run_dir`, `resume`, `trackers`, `time_limit`, `skip_non_finite`. All of its fields are saved in
            `config.json`.
        record: Whether to keep a run directory. Without it, nothing is written, which is what an evaluation wants.

    Attributes:
        accelerator: accelerate's `Accelerator`, for all that this class does not cover.
        device: Where this process computes.
        run_dir: The folder that this run writes; the working directory without a record.

    Raises:
        ConfigError: A setting cannot be used here, or differs from those of the run that it would continue.
    """

    def __init__(self, config: Any, *, record: bool = True) -> None:
        show_uncaught_messages()
        settings = RunSettings.of(config)
        processes = start_processes()
        self.device: torch.device = processes.device
        precision, why = choose_precision(settings.precision, self.device)
        trackers = settings.trackers if record else ()
        check_trackers(trackers)

        # The parts of a run, public for what takes a `Run`: `Checkpoints`, `Meter`, `find_learning_rate`
        self.agreement = Agreement(processes.num_processes, processes.process_index)
        opened: Record | None = None
        self.fork: Path | None = None  # the checkpoint of another run that this one starts from
        if record:
            opened, self.fork = open_run_dir(self.agreement, settings, config_to_dict(config))
        self.run_dir = Path() if opened is None else opened.run_dir
        self.accelerator = Accelerator(
            mixed_precision=precision,
            cpu=self.device.type == "cpu",
            log_with=list(trackers) or None,
            project_dir=self.run_dir,
            step_scheduler_with_optimizer=False,
            rng_types=[],
        )
        set_up_numerics(self.device, settings.deterministic)
        self.reporter = Reporter(self.accelerator, opened)
        if trackers:
            self.reporter.start_trackers(trackers, config_to_dict(config))
        if record:
            count = f" with {self.agreement.num_processes} processes" if self.agreement.num_processes > 1 else ""
            chosen = f"{precision_name(precision)} ({why})"
            self.reporter.say(f"training on {self.device.type}{count}, {chosen}, in {self.run_dir}")
        self.position = Position()
        self.prepared = prepared_for(self.accelerator, self.reporter.say, compile=settings.compile)
        self.guard = FiniteGuard(
            self.position,
            self.prepared,
            self.reporter.warn,
            settings.skip_non_finite,
            reads=self.device.type == "cpu",
        )
        self.micro_batch = MicroBatch(settings.seed, self.agreement.rank, self.prepared)
        seeder(self.device)(key(settings.seed, "start"))  # the first weights are a function of the seed

        self._seed = settings.seed
        self._stop = StopRequest(self.agreement, settings.time_limit)
        self._logged_step = 0
        self._at_end: list[Callable[[], None]] = []

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
            shuffle: A new order in each epoch, a function of (seed, epoch). Or a custom one: a function from the epoch to
                the indices of its samples, some of them more than once if you like; the same on all processes.
            drop_last: Leave out an epoch's last, smaller batch.
            num_workers: DataLoader workers per process; 0 fetches in the training process.
            collate_fn: From a list of samples to a batch; PyTorch's default otherwise.
            limit_batches: Use only so many batches of each epoch, for a quick try. None is off.
        """
        options = (batch_size, shuffle, drop_last, num_workers, collate_fn, limit_batches)
        cut = Cut(*options, self._seed, self.agreement.rank, self.agreement.num_processes, self.device)
        return (StreamLoader if is_stream(dataset) else IndexedLoader)(dataset, cut)

    def prepare(self, *objects: Any) -> Any:
        """Move models to the device, compile them if the config says so, and wrap them for distribution.

        Optimizers come back as they are wherever plain PyTorch is right, else (loss scaling, DeepSpeed, XLA) as
        accelerate's wrappers. Learning-rate schedules are made after this, and are not prepared. Collective: DDP
        compares the models of all processes.

        Returns:
            The objects in the order given; the object itself if there is one.

        Raises:
            ConfigError: DeepSpeed is given other than one model and one optimizer, or cannot be used as configured.
        """
        ready = self.prepared.prepare(objects)
        return tuple(ready) if len(ready) > 1 else ready[0]

    # The loop

    def epochs(self, epochs: int | None, max_steps: int | None = None) -> Iterator[int]:
        """Yield the epochs that are left, counted from 1; after a restore, from the restored one on.

        Args:
            epochs: Passes over the data. None is off.
            max_steps: Optimizer updates after which the run ends, whichever comes first. None is off.

        Raises:
            ConfigError: Both are off.
        """
        if epochs is None and max_steps is None:
            raise ConfigError("`epochs` and `max_steps` are both off: the run would never end")
        self.position.epochs, self.position.max_steps = epochs, max_steps
        return walk_epochs(self.position)

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
            accumulate: Gradient accumulation: micro-batches per step on each process. The result is the same for any
                number, a smaller micro-batch takes less memory.
            passes: How often each step may be iterated; more than once keeps its micro-batches on the device.
            flops_per_sample: Of a forward and backward pass: the share of the peak (MFU) is logged as `time/mfu`.
            peak_flops: Of one device each second. None is what is known of it in the run's precision.

        Raises:
            ConfigError: `accumulate` or `passes` is below 1, or there is no step.
        """
        for name, number in (("accumulate", accumulate), ("passes", passes)):
            if number < 1:
                raise ConfigError(f"`{name}` must be at least 1: {number}")
        self.guard.loader = loader
        self.reporter.measure_flops(flops_per_sample, peak_flops)
        return walk_steps(loader, accumulate, passes, self.position, self.micro_batch, self.reporter)

    def batches(self, loader: Loader) -> Iterator[Any]:
        """Yield this process's batches of one pass in order: each sample once over all processes.

        A pass always runs to its end: asked to stop, the run says so, finishes the pass, and stops after the step. Where
        a model is sharded, a batch may be a filler: meters leave it out, others look at `loader.batch_samples`.
        """
        shown = self.accelerator.is_main_process
        with progress.bar(loader.known_steps, 0, shown=shown, description="evaluating", delay=2.0) as bar:
            for number, (batch, samples) in enumerate(loader.evaluate(filler=self.prepared.has_shards())):
                self.micro_batch.begin_evaluation(self.position.step, number, samples)
                if request := self._stop.announcement():
                    progress.say(f"{request} received: finishing this evaluation, then saving and stopping")
                yield batch
                bar.update()
        self.micro_batch.end()

    @contextmanager
    def evaluating(self, model: nn.Module) -> Iterator[nn.Module]:
        """Switch to evaluation mode without gradients, and afterwards back to each module's own mode.

        Yields:
            The module inside a distributed wrapper, whose forward pass calls no collective, so that processes may see
            different numbers of batches; a sharded model as it is.
        """
        started = perf_counter()
        modes = [(module, module.training) for module in model.modules()]
        model.eval()
        try:
            with torch.no_grad():
                yield self.prepared.for_evaluation(model)
        finally:
            for module, training in modes:
                module.training = training
            self.reporter.throughput.other_seconds += perf_counter() - started

    def backward(self, loss: torch.Tensor, count: int | torch.Tensor = 1) -> None:
        """Add the gradients of `loss / count`: of this micro-batch's share of the step.

        Distributed wrappers average over processes where a sum is meant; that is undone here. A filler counts nothing.
        Collective in DDP and FSDP2, on the last micro-batch of a step.

        Args:
            loss: A sum over the micro-batch. Shape ().
            count: Samples (or tokens) of the whole step, over all micro-batches and processes.
        """
        self.prepared.backward(loss, count, self.micro_batch.loss_factor)

    def clip_grad_norm(self, model: nn.Module, max_norm: float | None) -> torch.Tensor:
        """Scale the gradients so that their norm is at most `max_norm`; None only measures.

        Call it once in a step, after its last micro-batch. DeepSpeed's stages 1 to 3 clip and update in one: there, it
        makes the update of `optimizer.step()` too. A norm that is not finite is an error, or as the config says, the
        update is skipped: the same on all processes. Collective where the model is sharded.

        Returns:
            The norm before clipping, over all parameters. Shape (), on the device: reading it is a sync.
        """
        norm = self.prepared.clip_grad_norm(model, max_norm, reads=self.guard.reads)
        self.guard.take(norm, self.prepared.parameters(model))
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
        position = self.position
        found = {name: value for group in (*groups, values) for name, value in group.items() if value is not None}
        numbers = {name: value.item() if isinstance(value, torch.Tensor) else value for name, value in found.items()}
        skipped = self.guard.read_skipped() if section == "train" else 0
        if skipped:
            numbers["skipped_updates"] = skipped
        times = self.reporter.times(section)
        self.agreement.on_main(lambda: self.reporter.log(position.step, position.epoch, section, numbers, times))
        if section == "train":
            self.guard.take_loss(numbers.get("loss"), min(self._logged_step + 1, position.step), skipped)
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
        self.position.finished = reason
        self.reporter.say(f"finishing at step {self.position.step}: {reason}")

    # Saving and ending

    def state_dict(self) -> dict[str, Any]:
        """The run's place and what goes with it; `Checkpoints` saves it.

        Raises:
            NonFiniteError: A gradient since the last log point was not finite, and may not be skipped.
        """
        self.guard.check()  # what is not finite does not get into a checkpoint
        scaler = self.prepared.loss_scaler
        return {
            "position": self.position.state_dict(),
            "logged_step": self._logged_step,
            "guard": self.guard.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.position.load_state_dict(state["position"])
        self._logged_step = state["logged_step"]
        self.guard.load_state_dict(state["guard"])
        scaler = self.prepared.loss_scaler
        if scaler is not None and state["scaler"]:
            scaler.load_state_dict(state["scaler"])

    def at_end(self, wait: Callable[[], None]) -> None:
        """Call `wait` before the run ends, on the main process; what it raises, the run fails of."""
        self._at_end.append(wait)

    def _wait_for_the_end(self, error: BaseException | None) -> BaseException | None:
        """Wait for all that go on and all that is written, collective if in order; returns what the run failed of."""
        ends_in_order = error is None or isinstance(error, Stopped)
        failed = None if ends_in_order else error
        try:
            if error is None:
                self.agreement.gather(None)  # all have got here: nobody is left who may still fail
            for wait in self._at_end:
                self.agreement.on_main(wait) if ends_in_order else wait()
        except Exception as lost:
            return failed or lost
        return failed

    def __enter__(self) -> Self:
        self._stop.watch()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._stop.unwatch()
        position, record = self.position, self.reporter.record
        failed = self._wait_for_the_end(error)
        if failed is None:
            reason = error.reason if isinstance(error, Stopped) else position.finished
            self.reporter.close("stopped" if error else "finished", position.step, position.epoch, reason)
        else:
            if record is not None:
                if lost_another(failed) and (reason := record.failure()):
                    raise AgreementError(f"Another process failed: {reason}") from failed
                process = self.agreement.rank if self.agreement.num_processes > 1 else None
                record.write_failure(failed, position.step, position.epoch, process)
            if failed is not error:
                raise failed
            if self.agreement.num_processes > 1:
                return  # to leave the process group in order, the others would have to answer
        self.agreement.close()
        self.accelerator.state.destroy_process_group()
        AcceleratorState._reset_state(reset_partial_state=True)  # so that a notebook can start another run
