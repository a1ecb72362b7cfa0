"""A run: one training from start to end, on whatever the launcher offers."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext, suppress
from datetime import timedelta
from functools import partial
from math import inf
from pathlib import Path
from time import perf_counter
from typing import Any, Self
from weakref import WeakSet

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn
from torch.utils.data import Dataset

from .config import RunSettings, compare_settings, config_to_dict, fixed_settings
from .data.indexed import IndexedLoader
from .data.loader import Loader
from .data.order import Cut, Order
from .data.randomness import key, seeder
from .data.split import is_split, joined
from .data.stream import StreamLoader, is_stream
from .errors import (
    AgreementError,
    ConfigError,
    DataError,
    NonFiniteError,
    Stopped,
    lost_another,
    show_uncaught_messages,
)
from .hardware.agreement import Agreement
from .hardware.buffers import kept
from .hardware.exchange import gather_rows
from .hardware.gradients import is_mean
from .hardware.prepare import prepared_for
from .hardware.processes import choose_precision, precision_name, set_up_numerics, start_processes
from .hardware.sharding import check_launched_parallelism
from .limits import check_limits
from .loop.finder import NonFiniteFinder, is_wanted
from .loop.finite import FiniteGuard
from .loop.position import Position
from .loop.same import added_up, same_on_all
from .loop.step import MicroBatch, Step
from .loop.stopping import StopRequest
from .loop.walk import Walk
from .record import progress
from .record.memory import write_memory_snapshot
from .record.numbers import NOTHING, as_numbers
from .record.opening import draw_seed, open_run_dir
from .record.record import Record
from .record.reporting import Reporter, check_trackers
from .record.terminal import survive_lost_output
from .replay import read_replay

_STEPS_LOOKED_AT = 3  # for a loss that is a mean


class Run:
    """A training run: its processes, device and precision, its place in the data, and its record on disk.

    Use it as a context manager. It watches for signals, writes `status.json`, and draws the curves at the end. From when
    it is made, an uncaught error that its reader can mend is shown without a traceback, as `exit_with_message` does it.

    Args:
        config: A dataclass. A run reads the fields that `RunSettings` names: `seed`, `precision`, `deterministic`,
            `compile`, `run_dir`, `resume`, `trackers`, `time_limit`, `process_timeout`, `skip_non_finite`. All of its fields are
            saved in `config.json`.
        record: Whether to keep a run directory. Without it, nothing is written, which is what an evaluation wants.

    Attributes:
        accelerator: accelerate's `Accelerator`, for all that this class does not cover.
        device: Where this process computes.
        run_dir: The folder that this run writes; the working directory without a record.
        seed: The seed of the config, or the one that was drawn where that is None.

    Raises:
        ConfigError: A setting cannot be used here, or differs from those of the run that it would continue.
    """

    def __init__(self, config: Any, *, record: bool = True) -> None:
        show_uncaught_messages()
        survive_lost_output()
        settings = RunSettings.of(config, trains=record)
        replay = read_replay() if record else None
        if replay is not None:
            settings = replay.applied_to(settings)
        processes = start_processes(settings.process_timeout)
        self.device: torch.device = processes.device
        precision, why = choose_precision(settings.precision, self.device)
        trackers = settings.trackers if record else ()
        check_trackers(trackers)

        # The parts of a run, public for what takes a `Run`: `Checkpoints`, `Meter`, `find_learning_rate`
        timeout = None if settings.process_timeout is None else timedelta(seconds=settings.process_timeout)
        self.agreement = Agreement(processes.num_processes, processes.process_index, timeout)
        opened: Record | None = None
        seed = self.agreement.from_main(draw_seed()) if settings.seed is None else settings.seed
        self.fork: Path | None = None  # the checkpoint of another run that this one starts from
        self.settings = config_to_dict(config)
        self.compare_settings = partial(compare_settings, type(config))
        if record:
            found = open_run_dir(
                self.agreement,
                settings,
                self.settings,
                precision_name(precision),
                self.compare_settings,
                self.device.type,
            )
            opened, self.fork, seed = found.record, found.fork, found.seed
        self.settings |= {"seed": seed} if settings.seed is None else {}
        self.fixed_settings = fixed_settings(type(config), self.settings)
        self.run_dir = Path() if opened is None else opened.run_dir
        check_launched_parallelism()
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
            self.reporter.start_trackers(trackers, self.settings)
        if record:
            count = f" with {self.agreement.num_processes} processes" if self.agreement.num_processes > 1 else ""
            chosen = f"{precision_name(precision)} ({why})"
            drawn = f", seed {seed}" if settings.seed is None else ""
            self.reporter.say(f"training on {self.device.type}{count}, {chosen}{drawn}, in {self.run_dir}")
        self.position = Position(replay_until=inf if replay is None else replay.until)
        self.prepared = prepared_for(self.accelerator, self.reporter.say, compile=settings.compile)
        self.guard = FiniteGuard(
            self.position,
            self.prepared,
            self.reporter.warn,
            settings.skip_non_finite,
            reads=self.device.type == "cpu",
        )
        self._finder = NonFiniteFinder(self.position) if is_wanted() else None
        self.micro_batch = MicroBatch(seed, self.agreement.rank, self.prepared)
        self.walk = Walk(
            self.position,
            self.micro_batch,
            self.guard,
            self.reporter,
            self.agreement,
            is_fork=self.fork is not None,
        )
        seeder(self.device)(key(seed, "start"))  # the first weights are a function of the seed

        self.seed: int = seed
        self._loaders: WeakSet[Loader] = WeakSet()
        self._evaluated: list[nn.Module] = []  # within `evaluating`, the innermost last
        self._looks_for_means = True
        self._rehearses = False
        self._replay_saves = replay is not None and replay.saves
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
        prefetch_factor: int | None = None,
        timeout: float | None = None,
        worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: Any = None,
        pin_memory: bool | None = None,
        persistent_workers: bool | None = None,
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
            prefetch_factor: This and what follows are PyTorch's options of a `DataLoader`, which change no order. They
                say nothing without workers.
            timeout: Seconds to wait for a batch from a worker.
            worker_init_fn: Called in each worker with its number.
            multiprocessing_context: How workers are started: `fork`, `spawn`, `forkserver`, or a context.
            pin_memory: None is where batches go to a CUDA device.
            persistent_workers: Whether workers stay from pass to pass, and so do not see a dataset that changes in
                between. None is True.

        Raises:
            ConfigError: The dataset is no data for a loader, or an option is wrong.
        """
        worker_options = {
            "prefetch_factor": prefetch_factor,
            "timeout": timeout,
            "worker_init_fn": worker_init_fn,
            "multiprocessing_context": multiprocessing_context,
            "pin_memory": pin_memory,
            "persistent_workers": persistent_workers,
        }
        check_limits({"batch_size": batch_size, "num_workers": num_workers, "limit_batches": limit_batches})
        options = (int(batch_size), shuffle, drop_last, num_workers, collate_fn, limit_batches)
        processes = self.agreement.rank, self.agreement.num_processes
        alone, place = self.agreement.group is None, self.position
        compare = None if alone else partial(same_on_all, self.agreement)
        add_up = None if alone else partial(added_up, self.agreement)
        cut = Cut(*options, self.seed, *processes, self.device, worker_options, compare, add_up, lambda: place.order)
        loader: Loader = (StreamLoader if is_stream(dataset) else IndexedLoader)(dataset, cut)
        self.walk.name(loader)
        self._loaders.add(loader)
        return loader

    def prepare(self, *objects: Any, find_unused_parameters: bool = False) -> Any:
        """Move models to the device, compile them if the config says so, and wrap them for distribution.

        Optimizers come back as they are wherever plain PyTorch is right, else (loss scaling, DeepSpeed, XLA) as
        accelerate's wrappers. Learning-rate schedules are made after this, and are not prepared. A module without a
        trainable parameter, such as a teacher, is moved and not wrapped. Collective: DDP compares the models of all
        processes.

        Args:
            objects: Models and optimizers; models when they are complete, as DDP does not know parameters that come later.
            find_unused_parameters: For DDP, where the loss of a micro-batch does not depend on every parameter.

        Returns:
            The objects in the order given; the object itself if there is one.

        Raises:
            ConfigError: DeepSpeed is given other than one model and one optimizer, or cannot be used as configured.
        """
        if not objects:
            raise ConfigError("`run.prepare` was given nothing to prepare")
        self.agreement.gather(None)  # names the call where a process does not make it; what follows would wait
        ready = self.prepared.prepare(objects, find_unused_parameters=find_unused_parameters)
        if self._finder is not None:
            for model in [thing for thing in ready if isinstance(thing, nn.Module)]:
                self._finder.watch(self.prepared.unwrapped(model))
        return tuple(ready) if len(ready) > 1 else ready[0]

    # The loop

    def epochs(self, epochs: int | None, max_steps: int | None = None) -> Iterator[int]:
        """Yield the epochs that are left, counted from 1; after a restore, from the restored one on.

        Args:
            epochs: Passes over the data. None is off.
            max_steps: Optimizer updates after which the run ends, whichever comes first. None is off.

        Raises:
            ConfigError: Both are off, or one is below 1.
        """
        if epochs is None and max_steps is None:
            raise ConfigError("`epochs` and `max_steps` are both off: the run would never end")
        check_limits({"epochs": epochs, "max_steps": max_steps})
        self.position.epochs, self.position.max_steps = epochs, max_steps
        return self.walk.epochs()

    def steps(
        self,
        loader: Loader,
        accumulate: int = 1,
        *,
        micro_batch_size: int | None = None,
        passes: int = 1,
        flops_per_sample: float | None = None,
        peak_flops: float | None = None,
    ) -> Iterator[Step]:
        """Yield the steps of this epoch that are left. Iterate each step for its micro-batches, as often as you like.

        Call it again in the same epoch, after its steps, for those of another loader. Collective at its first step.

        Args:
            loader: The training data, from `Run.loader`.
            accumulate: Gradient accumulation: micro-batches per step on each process. The result is the same for any
                number, a smaller micro-batch takes less memory.
            micro_batch_size: Samples that a process takes at once, at most; `accumulate` follows from it, on any number
                of processes. None is off.
            passes: Keep the micro-batches from the first step on, for another iteration. More than 1 saves fetching
                those of the first step again; after that they are kept anyway.
            flops_per_sample: Of a forward and backward pass: the share of the peak (MFU) is logged as `time/mfu`.
            peak_flops: Of one device each second. None is what is known of it in the run's precision.

        Raises:
            ConfigError: This is no loader, a number is below 1, both ways to cut a step are given, there is no step, or
                steps of another loader are under way.
            DataError: The data differs from that of the checkpoint, or between processes.
        """
        _check_is_loader("run.steps", loader)
        check_limits({"accumulate": accumulate, "micro_batch_size": micro_batch_size, "passes": passes})
        if micro_batch_size is not None:
            if accumulate != 1:
                raise ConfigError(
                    f"`accumulate` ({accumulate}) and `micro_batch_size` ({micro_batch_size}) both say how a step is "
                    "cut: pass one of them"
                )
            accumulate = -(-loader.batch_size // (micro_batch_size * self.agreement.num_processes))
        self.reporter.measure_flops(flops_per_sample, peak_flops)
        return self.walk.steps(loader, accumulate, passes)

    def updates(self, number: int, *, num_samples: int = 0) -> Iterator[Step]:
        """Yield the steps that are left of `number`, without data: for loops that make their own, as in reinforcement learning.

        What a step draws at random is a function of (seed, step, process). It has a number, and says what is `due`, and
        a resumed run goes on after the last one that was saved. Call it outside of `epochs`.

        Args:
            number: Steps of the whole run.
            num_samples: Samples of each step over all processes, for the throughput that is logged.
        """
        return self.walk.updates(number, num_samples)

    def batches(self, loader: Loader) -> Iterator[Any]:
        """Yield this process's batches of one pass in order: each sample once over all processes.

        A pass always runs to its end: asked to stop, the run says so, finishes the pass, and stops after the step. Where
        a model is sharded, a batch may be a filler: meters leave it out, others look at `loader.batch_samples`.

        It begins with one model on all processes, that of the main one, which is saved: prepared models, and those of
        `evaluating`, get its buffers, such as running statistics. Collective, at the beginning.

        Raises:
            ConfigError: This is no loader.
            DataError: The processes are given different data.
        """
        _check_is_loader("run.batches", loader)
        return self._batches(loader)

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        """Within, `batches` yields the first batch only: to try an evaluation before the first step.

        Buffers that an evaluation changes, such as those of observers, are put back.

        Raises:
            DataError: The loader of an evaluation has no samples.
        """
        self._rehearses = True
        try:
            yield
        finally:
            self._rehearses = False

    def _batches(self, loader: Loader) -> Iterator[Any]:
        if self._rehearses and loader.known_steps == 0:
            raise DataError(f"`{type(loader.dataset).__name__}` has no samples to evaluate on")
        self.walk.look_at(loader, trains=False)
        self.prepared.take_buffers_from_main(self._evaluated)
        shown = self.accelerator.is_main_process
        with (
            progress.bar(loader.known_steps, 0, shown=shown, description="evaluating", delay=2.0) as bar,
            closing(loader.evaluate(filler=self.prepared.has_shards())) as batches,
        ):
            for number, (batch, samples) in enumerate(batches):
                self.micro_batch.begin_evaluation(self.position.step, number, samples)
                if request := self._stop.announcement():
                    progress.say(f"{request} received: finishing this evaluation, then saving and stopping")
                yield batch
                bar.update()
                if self._rehearses:
                    break
        self.micro_batch.end()

    def gather(self, rows: torch.Tensor) -> torch.Tensor:
        """The rows of all processes, in rank order, however many each has. A filler has none. Collective.

        Where gradients are enabled, they flow back to each process's own rows, summed over the losses of all processes,
        as `backward` sums them: for losses over all samples of a micro-batch, such as contrastive ones.

        Args:
            rows: Shape (rows, …), on the run's device; all but the first dimension the same on all processes.

        Raises:
            ConfigError: The rows of the processes differ in shape or type; on all of them.
        """
        own = rows[:0] if self.micro_batch.is_filler else rows
        if self.agreement.num_processes == 1:
            return own
        return gather_rows(own, self.agreement)

    @contextmanager
    def evaluating(self, model: nn.Module) -> Iterator[nn.Module]:
        """Switch to evaluation mode without gradients, and afterwards back to each module's own mode.

        Yields:
            The module inside a distributed wrapper, whose forward pass calls no collective, so that processes may see
            different numbers of batches; a sharded model as it is. Its buffers become those of the main process when
            `batches` begins a pass.
        """
        started = perf_counter()
        self._evaluated.append(model)
        modes = [(module, module.training) for module in model.modules()]
        model.eval()
        try:
            with torch.no_grad(), kept(model) if self._rehearses else nullcontext():
                yield self.prepared.for_evaluation(model)
        finally:
            self._evaluated.pop()
            for module, training in modes:
                module.training = training
            self.reporter.throughput.other_seconds += perf_counter() - started

    def backward(
        self,
        loss: torch.Tensor,
        count: int | torch.Tensor = 1,
        *,
        mean_of: int | torch.Tensor | None = None,
        retain_graph: bool = False,
        create_graph: bool = False,
        inputs: Iterable[torch.Tensor] | None = None,
    ) -> None:
        """Add the gradients of `loss / count`: of this micro-batch's share of the step.

        Distributed wrappers average over processes where a sum is meant; that is undone here. A filler counts nothing.
        Collective in DDP and FSDP2, on the last micro-batch of a step.

        Args:
            loss: A sum over the micro-batch. Shape ().
            count: Samples (or tokens) of the whole step, over all micro-batches and processes. 0 adds nothing.
            mean_of: The loss is a mean over so many samples (or tokens) of this micro-batch, such as
                `step.micro_batch_samples`. None: it is a sum.
            retain_graph: Keep the graph for another backward pass, on any number of processes. This and what follows
                are PyTorch's.
            create_graph: Make gradients that can be differentiated. One process only.
            inputs: Add gradients to these tensors only; None is all leaves.

        Raises:
            ConfigError: An option cannot be had with DeepSpeed, or `create_graph` on several processes.
        """
        if self._finder is not None:
            self._finder.look_at_loss(loss)
        if self._looks_for_means and mean_of is None:
            self._look_for_mean(loss, count)
        factor = self.micro_batch.loss_factor if mean_of is None else self.micro_batch.loss_factor * mean_of
        self.prepared.backward(loss, count, factor, retain_graph=retain_graph, create_graph=create_graph, inputs=inputs)

    def _look_for_mean(self, loss: torch.Tensor, count: int | torch.Tensor) -> None:
        """Say in the first steps that a loss looks like a mean, which the count would divide once more."""
        self._looks_for_means = self.position.step < _STEPS_LOOKED_AT
        is_divided = not isinstance(count, int) or count > 1
        if is_divided and is_mean(loss):
            self._looks_for_means = False
            divisor = count if isinstance(count, int) else "a count"
            self.reporter.warn(
                f"the loss is a mean, and `run.backward` divides it by {divisor} once more: sum it over the micro-batch "
                '(`reduction="sum"`), or pass `mean_of=step.micro_batch_samples`'
            )

    def clip_grad_norm(self, model: nn.Module | Iterable[nn.Parameter], max_norm: float | None) -> torch.Tensor:
        """Scale the gradients of a module's parameters, as it is now, to a norm of at most `max_norm`; None only measures.

        Instead of a module, parameters may be given: those of several, or some of one.

        Call it once in a step, after its last micro-batch. DeepSpeed's stages 1 to 3 clip and update in one: there, it
        makes the update of `optimizer.step()` too. A norm that is not finite is an error, or as the config says, the
        update is skipped: the same on all processes. Collective where the model is sharded.

        Returns:
            The norm before clipping, over all parameters. Shape (), on the device: reading it is a sync.

        Raises:
            ConfigError: `max_norm` is not above 0.
        """
        if not (isinstance(max_norm, float) and max_norm > 0):  # the table is read only where there may be a fault
            check_limits({"max_grad_norm": max_norm})
        if self._finder is not None and isinstance(model, nn.Module):
            self._finder.look_at_gradients(self.prepared.unwrapped(model))
        parameters = self.prepared.parameters(model)
        norm = self.prepared.clip_grad_norm(parameters, max_norm, reads=self.guard.reads)
        self.guard.take(norm, parameters)
        return norm

    def log(self, section: str, *groups: Mapping[str, Any], **values: Any) -> None:
        """Add a line to `metrics.jsonl`, show it, and hand it to the trackers. Collective; waits for the device once.

        Args:
            section: What the keys begin with: `train`, `eval`, …
            groups: Values by name, such as what `Meter.read` returns.
            values: More of them. A value is a number, or has one: a tensor, an array, a Decimal. Several, in a tensor, an
                array, a list or a dict, are logged as `name/0`, `name/1`, … None is left out.

        Raises:
            ConfigError: A value is no number, or too large for a float; names it. Nothing of the line is written.
            NonFiniteError: A training loss or a gradient is not finite, and may not be. Raised on all processes.
            OSError: The disk is full or cannot be written; an AgreementError with its words on other processes.
        """
        position = self.position
        found = {name: value for group in (*groups, values) for name, value in group.items() if value is not None}
        numbers = as_numbers(section, found)
        skipped = self.guard.read_skipped() if section == "train" else 0
        if skipped:
            numbers["skipped_updates"] = skipped
        times = self.reporter.times(section)
        self.agreement.on_main(lambda: self.reporter.log(position.step, position.epoch, section, numbers, times))
        if section == "train":
            # where no label was counted, nothing diverged
            loss = None if found.get("loss") is NOTHING else numbers.get("loss")
            self.guard.take_loss(loss, min(self._logged_step + 1, position.step), skipped)
            self._logged_step = position.step

    def stopping(self) -> bool:
        """Whether to save and stop after this step: a signal came or the time limit is reached, on any process.

        Call it once in each step. All processes get the same answer at the same step.
        """
        return self._stop.is_due() or (self._replay_saves and self.position.step >= self.position.replay_until)

    def stopped(self) -> Stopped:
        """What to raise after saving: leaves the process with exit code 75, and `stopped` in `status.json`.

        Where `torchrun --max-restarts` would start the run again, the exit code is 0: `paccel.runtime.supervise` says 75.
        """
        return Stopped(self._stop.reason or "stopped by the loop", self._stop.exit_code())

    def finish(self, reason: str) -> None:
        """End the run after this step, as finished: `epochs` and `steps` yield no more. For early stopping.

        Collective: a process that finishes while another goes on is an error on both.
        """
        self.position.finished = self.agreement.from_main(reason)
        self.reporter.say(f"finishing at step {self.position.step}: {self.position.finished}")

    # Saving and ending

    def state_dict(self) -> dict[str, Any]:
        """The run's place and what goes with it; `Checkpoints` saves it. Collective where a stream is split by shard.

        Raises:
            NonFiniteError: A gradient since the last log point was not finite, and may not be skipped.
        """
        self.guard.check()  # what is not finite does not get into a checkpoint
        scaler, position = self.prepared.loss_scaler, self.position.state_dict()
        if is_split(position["stream"]):
            position["stream"] = joined(self.agreement.gather(position["stream"]))
        return {
            "position": position,
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
        """Call `wait` before the run ends, on each process; what it raises on one, the run fails of on all."""
        self._at_end.append(wait)

    def _wait_for_the_end(self, error: BaseException | None) -> BaseException | None:
        """Wait for all that go on and all that is written, collective if in order; returns what the run failed of."""
        ends_in_order = error is None or isinstance(error, Stopped)
        failed = None if ends_in_order else error
        try:
            if error is None:
                self.agreement.gather(None)  # all have got here: nobody is left who may still fail
            for wait in self._at_end:
                self.agreement.on_all(wait) if ends_in_order else wait()
        except Exception as lost:
            return failed or lost
        return failed

    def __enter__(self) -> Self:
        self._stop.watch()
        if self.reporter.record is not None and self.accelerator.is_main_process:
            self.reporter.record.beat()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._stop.unwatch()
        for loader in self._loaders:
            loader.close()
        position, record = self.position, self.reporter.record
        failed = self._wait_for_the_end(error)
        if record is not None:
            record.stop_beating()
            self._explain(failed, record)
        if failed is None:
            reason = error.reason if isinstance(error, Stopped) else position.finished
            try:
                self.reporter.close("stopped" if error else "finished", position.step, position.epoch, reason)
            except OSError as lost:
                failed = lost
        if failed is not None:
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

    def _explain(self, error: BaseException | None, record: Record) -> None:
        """Write down, or say below the error, what helps to find its cause."""
        step, process = self.position.step, self.agreement.rank
        if isinstance(error, torch.OutOfMemoryError):
            with suppress(OSError, RuntimeError):  # the error itself is to be seen
                for path in write_memory_snapshot(record.run_dir, step, process):
                    progress.say(f"out of memory: what the memory held is in {path}")
        if isinstance(error, NonFiniteError) and self._finder is None:
            where = f"`paccel verify {record.run_dir} --find-non-finite`"
            error.add_note(f"{where} names the module and step where it first appears")


def _check_is_loader(call: str, thing: Any) -> None:
    if not isinstance(thing, Loader):
        raise ConfigError(
            f"`{call}` takes what `run.loader` returns, not a `{type(thing).__name__}`: make it by "
            "`loader = run.loader(dataset, batch_size, shuffle=True)`"
        )
