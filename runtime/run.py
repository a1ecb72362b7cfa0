"""A training run from start to end, on any hardware and any number of processes."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, Self
from weakref import WeakSet

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import Dataset

from .data.indexed import IndexedLoader
from .data.loader import Loader
from .data.order import Cut, Order
from .data.randomness import key, seeder
from .data.split import is_split, joined
from .data.stream import StreamLoader, is_stream
from .errors import ConfigError, Stopped, show_uncaught_messages
from .hardware.agreement import Agreement
from .hardware.exchange import gather_rows
from .hardware.prepare import prepared_for
from .hardware.processes import (
    check_launched_parallelism,
    choose_precision,
    leave_processes,
    precision_name,
    set_up_numerics,
    start_processes,
)
from .loop.data_check import DataCheck
from .loop.ending import Ending
from .loop.evaluation import Evaluation
from .loop.finder import NonFiniteFinder, is_wanted
from .loop.finite import FiniteGuard
from .loop.mean_loss import warn_of_mean
from .loop.micro_batch import MicroBatch
from .loop.position import Position
from .loop.step import Step
from .loop.stopping import StopRequest
from .loop.stream_agreement import same_on_all, summed
from .loop.walk import Walk
from .record.numbers import NOTHING, as_numbers
from .record.opening import draw_seed, open_run_dir
from .record.record import Record
from .record.reporting import Reporter
from .record.terminal import survive_lost_output
from .record.trackers import check_trackers
from .settings.changes import compare_settings, fixed_settings
from .settings.limits import check_limits
from .settings.plain import config_to_dict
from .settings.replay import read_replay
from .settings.run_settings import RunSettings

_STEPS_CHECKED_FOR_MEAN = 3  # of a loss


class Run:
    """A training run: its processes, device and precision, its position in the data, and its run directory.

    Use it as a context manager. It watches for signals, writes `status.json`, and draws the curves at the end. Once it is
    created, uncaught errors that the user can fix are shown without a traceback, as in `exit_with_message`.

    Args:
        config: A dataclass. A run reads the fields of `RunSettings`: `seed`, `precision`, `deterministic`, `compile`,
            `run_dir`, `resume`, `trackers`, `time_limit`, `process_timeout`, `skip_non_finite`. All fields are saved in
            `config.json`.
        record: Whether to write a run directory. Pass False for an evaluation.

    Attributes:
        accelerator: accelerate's `Accelerator`, for everything that this class does not cover.
        device: Where this process computes.
        run_dir: The directory that this run writes; the working directory if `record` is False.
        seed: The seed of the config, or the one that was drawn if that is None.

    Raises:
        ConfigError: A setting cannot be used here, or differs from those of the run to be resumed.
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

        # The parts are public for classes that take a `Run`, such as `Checkpoints` and `Meter`
        timeout = None if settings.process_timeout is None else timedelta(seconds=settings.process_timeout)
        self.agreement = Agreement(processes.num_processes, processes.process_index, timeout)
        seed = self.agreement.from_main(draw_seed()) if settings.seed is None else settings.seed
        self.settings = config_to_dict(config)
        self.compare_settings = partial(compare_settings, type(config))
        opened: Record | None = None
        self.fork: Path | None = None  # the checkpoint of another run that this one starts from
        if record:
            found = open_run_dir(
                self.agreement,
                settings,
                type(config),
                self.settings,
                precision_name(precision),
                self.device.type,
            )
            opened, self.fork, seed = found.record, found.fork, found.seed
        self.seed: int = seed
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
            self.reporter.trackers.start(trackers, self.settings)
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
        self.micro_batch = MicroBatch(seed, self.agreement.rank, self.prepared)
        is_fork = self.fork is not None
        data_check = DataCheck(self.position, self.reporter, self.agreement, is_fork=is_fork)
        self.walk = Walk(self.position, self.micro_batch, self.guard, self.reporter, data_check, is_fork=is_fork)
        self._stop = StopRequest(self.agreement, settings.time_limit)
        self._evaluation = Evaluation(
            self.prepared, self.micro_batch, self.position, data_check, self._stop, self.reporter
        )
        self._finder = NonFiniteFinder(self.position) if is_wanted() else None
        finds_non_finite = self._finder is not None
        self._ending = Ending(self.agreement, self.reporter, self.position, finds_non_finite=finds_non_finite)
        seeder(self.device)(key(seed, "start"))  # so that initial weights depend on the seed alone

        self._loaders: WeakSet[Loader] = WeakSet()
        self._checks_for_mean = True
        self._replay_saves = replay is not None and replay.saves

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
        """Make a loader of a dataset. Its batches are the same for any number of processes.

        The random numbers that a sample draws from the global generators of `random`, NumPy and PyTorch are a function of
        (seed, epoch, index), whichever process loads it. A dataset with its own generators may define `set_sample_seed(seed)`,
        which is called before each sample. The rows of a `TensorDataset` are gathered a micro-batch at a time.

        Args:
            dataset: A map-style dataset (length and index), or a stream: see `StreamLoader`.
            batch_size: Samples per step (or evaluation batch), over all processes and micro-batches.
            shuffle: True for a new order in each epoch, a function of (seed, epoch). Or a custom order: a function from
                the epoch to the indices of its samples, which may repeat; the same on all processes.
            drop_last: Drop the last batch of an epoch if it is smaller.
            num_workers: DataLoader workers per process; 0 loads data in the training process.
            collate_fn: From a list of samples to a batch. None is PyTorch's default.
            limit_batches: Use only this many batches of each epoch, for a quick try. None is off.
            prefetch_factor: This and the options below are those of PyTorch's `DataLoader`. They do not change the
                order, and have no effect without workers.
            timeout: Seconds to wait for a batch from a worker.
            worker_init_fn: Called in each worker with its number.
            multiprocessing_context: How workers are started: `fork`, `spawn`, `forkserver`, or a context.
            pin_memory: None is True for batches that go to a CUDA device.
            persistent_workers: Whether workers stay from pass to pass; they do not see later changes of the dataset.
                None is True.

        Raises:
            ConfigError: The dataset has no index and cannot be iterated, or an option is wrong.
        """
        check_limits({"batch_size": batch_size, "num_workers": num_workers, "limit_batches": limit_batches})
        is_alone, position = self.agreement.group is None, self.position
        cut = Cut(
            batch_size=int(batch_size),
            shuffle=shuffle,
            drop_last=drop_last,
            num_workers=num_workers,
            collate_fn=collate_fn,
            limit=limit_batches,
            seed=self.seed,
            rank=self.agreement.rank,
            num_processes=self.agreement.num_processes,
            device=self.device,
            worker_options={
                "prefetch_factor": prefetch_factor,
                "timeout": timeout,
                "worker_init_fn": worker_init_fn,
                "multiprocessing_context": multiprocessing_context,
                "pin_memory": pin_memory,
                "persistent_workers": persistent_workers,
            },
            compare=None if is_alone else partial(same_on_all, self.agreement),
            add_up=None if is_alone else partial(summed, self.agreement),
            order_version=lambda: position.order,
        )
        loader: Loader = (StreamLoader if is_stream(dataset) else IndexedLoader)(dataset, cut)
        self.walk.name(loader)
        self._loaders.add(loader)
        return loader

    def prepare(self, *objects: Any, find_unused_parameters: bool = False) -> Any:
        """Move models to the device, compile them if the config says so, and wrap them for distribution.

        Optimizers are returned unwrapped if plain PyTorch is enough; otherwise (loss scaling, DeepSpeed, XLA) as
        accelerate's wrappers. Create learning-rate schedules after this; they are not prepared. A module without
        trainable parameters, such as a teacher, is moved to the device but not wrapped. Collective: DDP compares the
        models of all processes.

        Args:
            objects: Models and optimizers. Models must be complete: DDP does not see parameters that are added later.
            find_unused_parameters: For DDP, if the loss of a micro-batch does not depend on every parameter.

        Returns:
            The objects in the order given; a single object by itself.

        Raises:
            ConfigError: An object is no model or optimizer, a model is sharded in a way that is not supported, or
                DeepSpeed gets anything but one model and one optimizer, or a configuration that is not supported.
        """
        if not objects:
            raise ConfigError("`run.prepare` was given nothing to prepare")
        self.agreement.gather(None)  # an error if a process is at another call, where DDP would wait forever
        ready = self.prepared.prepare(objects, find_unused_parameters=find_unused_parameters)
        if self._finder is not None:
            for thing in ready:
                if isinstance(thing, nn.Module):
                    self._finder.watch(self.prepared.unwrapped(thing))
        return tuple(ready) if len(ready) > 1 else ready[0]

    # The loop

    def epochs(self, epochs: int | None, max_steps: int | None = None) -> Iterator[int]:
        """Yield the remaining epochs, counted from 1; after a restore, from the restored epoch on.

        Args:
            epochs: Passes over the data. None is off.
            max_steps: Optimizer updates. None is off. With both, the run ends at whichever comes first.

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
        """Yield the remaining steps of this epoch. Iterate each step for its micro-batches, as often as you like.

        Call it again in the same epoch, after its last step, to train on another loader. Collective at its first step.

        Args:
            loader: The training data, from `Run.loader`.
            accumulate: Gradient accumulation: micro-batches per step on each process. It changes memory use, not the
                result.
            micro_batch_size: At most this many samples per micro-batch of a process, instead of `accumulate`, which is
                computed from it for any number of processes. None is off.
            passes: How often each step is iterated. With 1, a step that is iterated again loads its micro-batches again
                if it is the first one; later steps keep them. With more, the first step keeps them, too.
            flops_per_sample: FLOPs of a forward and backward pass, to log model FLOPs utilization as `time/mfu`.
            peak_flops: FLOPs per second of one device. None looks it up for the device and the run's precision.

        Raises:
            ConfigError: `loader` is not from `Run.loader`, a number is below 1, both `accumulate` and
                `micro_batch_size` are set, there is no step, or the call is inside another loop over steps.
            DataError: The data differs from that of the checkpoint, or between processes.
        """
        _check_is_loader("run.steps", loader)
        check_limits({"accumulate": accumulate, "micro_batch_size": micro_batch_size, "passes": passes})
        if micro_batch_size is not None:
            if accumulate != 1:
                raise ConfigError(
                    f"`accumulate` ({accumulate}) and `micro_batch_size` ({micro_batch_size}) both set the micro-batches "
                    "of a step: pass one of them"
                )
            accumulate = -(-loader.batch_size // (micro_batch_size * self.agreement.num_processes))
        self.reporter.measure_flops(flops_per_sample, peak_flops)
        return self.walk.steps(loader, accumulate, passes)

    def updates(self, number: int, *, num_samples: int = 0) -> Iterator[Step]:
        """Yield the remaining steps of a run without a loader, for loops that make their own data (reinforcement learning).

        Random draws in a step are a function of (seed, step, process). A resumed run continues after the last saved
        step. `Step.every` and `Step.due` work; there are no batches. Call it outside of `epochs`.

        Args:
            number: Steps of the whole run.
            num_samples: Samples per step over all processes, for the logged throughput.
        """
        return self.walk.updates(number, num_samples)

    def batches(self, loader: Loader) -> Iterator[Any]:
        """Yield this process's batches of one pass in order: each sample once over all processes.

        A pass always runs to its end: after a request to stop, the run finishes the pass and stops after the step. If a
        model is sharded, a batch may be a filler: meters ignore it, other code checks `loader.batch_samples`.

        At the beginning, prepared models and those of `evaluating` get the buffers (running statistics) of the main
        process, so that all processes evaluate the model that is saved. Collective at the beginning.

        Raises:
            ConfigError: `loader` is not from `Run.loader`.
            DataError: The processes have different data, or the loader has no samples in a `rehearsal`.
        """
        _check_is_loader("run.batches", loader)
        return self._evaluation.batches(loader)

    def rehearsal(self) -> AbstractContextManager[None]:
        """A context in which `batches` yields only its first batch: to try an evaluation before the first step.

        Buffers that change in the evaluation, such as those of observers, are restored.
        """
        return self._evaluation.rehearsal()

    def gather(self, rows: torch.Tensor) -> torch.Tensor:
        """Gather the rows of all processes in rank order; their numbers may differ. A filler has none. Collective.

        For losses over all samples of a micro-batch, such as contrastive losses: gradients flow back to each process's
        own rows, summed over the losses of all processes, as `backward` sums them.

        Args:
            rows: Shape (rows, …), on the run's device. All but the first dimension must be the same on all processes.

        Raises:
            ConfigError: Shape or dtype differ between processes; raised on all of them.
        """
        own = rows[:0] if self.micro_batch.is_filler else rows
        if self.agreement.num_processes == 1:
            return own
        return gather_rows(own, self.agreement)

    def evaluating(self, model: nn.Module) -> AbstractContextManager[nn.Module]:
        """A context with the model in evaluation mode, without gradients. Restores each module's mode afterwards.

        Yields:
            The module inside a distributed wrapper, whose forward pass calls no collective, so that processes may have
            different numbers of batches; a sharded model as it is. Its buffers become those of the main process when
            `batches` begins a pass.
        """
        return self._evaluation.evaluating(model)

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
        """Add the gradients of `loss / count`, this micro-batch's share of the step.

        Distributed wrappers average gradients over processes; this multiplies them back to a sum. A filler adds nothing.
        Collective in DDP and FSDP2, on the last micro-batch of a step.

        Args:
            loss: A sum over the micro-batch. Shape ().
            count: Samples (or tokens) of the whole step, over all micro-batches and processes. 0 adds nothing.
            mean_of: Pass it if the loss is a mean: over how many samples (or tokens) of this micro-batch, such as
                `step.micro_batch_samples`. None is a sum.
            retain_graph: Keep the graph for another backward pass, on any number of processes. This and the options
                below are PyTorch's.
            create_graph: Make gradients that can be differentiated. One process only.
            inputs: Add gradients to these tensors only. None is all leaves.

        Raises:
            ConfigError: DeepSpeed does not support an option, or `create_graph` is set on several processes.
        """
        if self._finder is not None:
            self._finder.check_loss(loss)
        if self._checks_for_mean and mean_of is None:
            is_mean = warn_of_mean(loss, count, self.reporter.warn)
            self._checks_for_mean = not is_mean and self.position.step < _STEPS_CHECKED_FOR_MEAN
        factor = self.micro_batch.loss_factor if mean_of is None else self.micro_batch.loss_factor * mean_of
        self.prepared.backward(loss, count, factor, retain_graph=retain_graph, create_graph=create_graph, inputs=inputs)

    def clip_grad_norm(self, model: nn.Module | Iterable[nn.Parameter], max_norm: float | None) -> torch.Tensor:
        """Clip the gradients of a module, or of some parameters, to a norm of at most `max_norm`; None only measures it.

        Call it once in a step, after its last micro-batch. DeepSpeed's stages 1 to 3 clip and update in one call: there,
        it also makes the update of `optimizer.step()`. If the norm is not finite, the run fails, or skips the update if
        `skip_non_finite` allows it, on all processes. Collective if the model is sharded.

        Returns:
            The norm before clipping, over all parameters. Shape (), on the device: reading it waits for the device.

        Raises:
            ConfigError: `max_norm` is not above 0.
        """
        if not (isinstance(max_norm, float) and max_norm > 0):  # skips the table of limits in the usual case
            check_limits({"max_grad_norm": max_norm})
        if self._finder is not None and isinstance(model, nn.Module):
            self._finder.check_gradients(self.prepared.unwrapped(model))
        parameters = self.prepared.parameters(model)
        norm = self.prepared.clip_grad_norm(parameters, max_norm, reads=self.guard.reads)
        self.guard.check_norm(norm, parameters)
        return norm

    def log(self, section: str, *groups: Mapping[str, Any], **values: Any) -> None:
        """Write a line to `metrics.jsonl`, the terminal and the trackers. Collective; waits for the device once.

        Args:
            section: The prefix of the keys: `train`, `eval`, …
            groups: Values by name, such as `Meter.read` returns.
            values: More values. Each is a number, or a tensor, array or Decimal that holds one. Several, in a tensor,
                array, list or dict, are logged as `name/0`, `name/1`, … None is left out.

        Raises:
            ConfigError: A value is not a number, or too large for a float; names it. Nothing is written.
            NonFiniteError: A training loss or a gradient is not finite, more often than allowed. Raised on all processes.
            OSError: The disk is full or cannot be written. Other processes raise an AgreementError with its message.
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
            loss = None if found.get("loss") is NOTHING else numbers.get("loss")  # a mean over no labels is fine
            self.guard.check_loss(loss, skipped)

    def stopping(self) -> bool:
        """Whether to save and stop after this step: a signal came or the time limit is reached, on any process.

        Call it once in each step. All processes get the same answer at the same step.
        """
        return self._stop.is_due() or (self._replay_saves and self.position.step >= self.position.replay_until)

    def stopped(self) -> Stopped:
        """The exception to raise after saving: exits with code 75, and writes `stopped` to `status.json`.

        The exit code is 0 if `torchrun --max-restarts` would restart the run; `paccel.runtime.supervise` then exits with
        75.
        """
        return Stopped(self._stop.reason or "stopped by the loop", self._stop.exit_code())

    def finish(self, reason: str) -> None:
        """End the run after this step, as finished: `epochs` and `steps` stop. For early stopping.

        Collective: it is an error if some processes call it and others do not.
        """
        self.position.finished = self.agreement.from_main(reason)
        self.reporter.say(f"finishing at step {self.position.step}: {self.position.finished}")

    # Saving and ending

    def state_dict(self) -> dict[str, Any]:
        """The run's position, loss scaler, and counts of skipped updates, for `Checkpoints`.

        Collective if the shards of a stream are divided over processes.

        Raises:
            NonFiniteError: A gradient since the last log point was not finite, and its update may not be skipped.
        """
        self.guard.check()  # before weights that are not finite are saved
        scaler, position = self.prepared.loss_scaler, self.position.state_dict()
        if is_split(position["stream"]):
            position["stream"] = joined(self.agreement.gather(position["stream"]))
        return {
            "position": position,
            "logged_step": self.guard.logged_step,
            "guard": self.guard.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.position.load_state_dict(state["position"])
        self.guard.logged_step = state["logged_step"]
        self.guard.load_state_dict(state["guard"])
        scaler = self.prepared.loss_scaler
        if scaler is not None and state["scaler"]:
            scaler.load_state_dict(state["scaler"])

    def at_end(self, wait: Callable[[], None]) -> None:
        """Call `wait` on each process before the run ends. An error in it fails the run on all processes."""
        self._ending.wait_for(wait)

    def __enter__(self) -> Self:
        self._stop.watch()
        if self.reporter.record is not None and self.accelerator.is_main_process:
            self.reporter.record.beat()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._stop.unwatch()
        for loader in self._loaders:
            loader.close()
        failure = self._ending.end(error)
        if failure is not None and failure is not error:
            raise failure
        if failure is not None and self.agreement.num_processes > 1:
            return  # leaving the process group in order needs the other processes
        self.agreement.close()
        leave_processes(self.accelerator)


def _check_is_loader(call: str, loader: Any) -> None:
    if not isinstance(loader, Loader):
        raise ConfigError(
            f"`{call}` takes a loader of `run.loader`, not a `{type(loader).__name__}`: make one with "
            "`loader = run.loader(dataset, batch_size, shuffle=True)`"
        )
