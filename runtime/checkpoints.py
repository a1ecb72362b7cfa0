"""Checkpoints of a run: always a valid one, with everything that the loop needs to resume."""

from collections.abc import Collection, Mapping
from time import perf_counter
from typing import Any, Literal

from accelerate.utils import DistributedType
from torch import nn

from .checkpointing.best import BestScores
from .checkpointing.hyperparameters import Hyperparameters
from .checkpointing.replicas import Replicas
from .checkpointing.restore import Restore
from .checkpointing.retention import Retention
from .checkpointing.source import Source
from .checkpointing.tracked import Tracked
from .checkpointing.weights import WeightsFiles
from .checkpointing.writer import Writer
from .ema import EMA
from .errors import ConfigError, quoted
from .hardware.buffers import UnsavedBuffers
from .hardware.frozen import FrozenWeights
from .run import Run
from .settings.limits import check_limits
from .storage.checkpoint import read_metadata
from .storage.weights import MAX_SHARD_SIZE


class Checkpoints:
    """Saves and restores everything that is passed by name, and the run's position in its data.

    A checkpoint is written under a temporary name, hashed and renamed, and only then are older ones removed. On restore
    a torn or corrupted checkpoint is skipped for the one before it. Files are safetensors and JSON only: loading cannot
    run code. Sharded tensors (FSDP2, DeepSpeed's ZeRO) are saved as parts that load on any number of processes.

    Args:
        run: The run; its directory gets `checkpoints/step-<n>/` and `weights/`.
        keep_last: How many of the newest checkpoints to keep. At least 1.
        keep: Steps whose checkpoints are kept as well, if `save` is called at them.
        best: The score that chooses `weights/best.safetensors`: a name among the scores passed to `keep_best`. None is
            off.
        mode: Whether a smaller or a larger score is better.
        keep_best: How many of the best weights to keep. Above 1, each is also as `weights/best-<step>.safetensors`.
        background: Write in a thread while training continues, from a copy on the host. An error in writing is raised
            by the next save or at the end of the run. A save waits until the one before it is on disk.
        weights: What to write under `weights/`, by name: models, each with the average of its tracked EMA, or EMAs. A
            single one, and the one named `model`, is `best.safetensors`, others are `best-<name>.safetensors`. None is
            each tracked `nn.Module` with parameters.
        trainable_only: Leave parameters out of checkpoints that are frozen and still have their initial values. The
            script must load the same ones before it restores; their hashes are checked.
        max_shard_size: Maximum bytes of a file of weights. A larger model becomes a folder of files with a
            `model.safetensors.index.json`, as `transformers` reads it.
        tracked: Everything with state, by name: models, optimizers, schedules, EMA, early stopping, meters.

    Attributes:
        evaluation_is_due: Whether the restored checkpoint was saved before an evaluation of the same step, which the
            loop has to repeat: see `save`.

    Raises:
        ConfigError: An object has no state, a number is too small, two EMAs average one model and `weights` does not
            say which to take, or the model is sharded by FSDP 1, which is not supported.
    """

    def __init__(
        self,
        run: Run,
        /,
        *,
        keep_last: int = 2,
        keep: Collection[int] = (),
        best: str | None = None,
        mode: Literal["min", "max"] = "min",
        keep_best: int = 1,
        background: bool = False,
        weights: Mapping[str, nn.Module | EMA] | None = None,
        trainable_only: bool = False,
        max_shard_size: int = MAX_SHARD_SIZE,
        **tracked: Any,
    ) -> None:
        check_limits({"keep_last": keep_last, "keep_best": keep_best, "max_shard_size": max_shard_size})
        _check_supported(run, trainable_only)
        agreement, prepared, reporter = run.agreement, run.prepared, run.reporter
        self._run, self._agreement, self._reporter = run, agreement, reporter
        self._folder, weights_folder = run.run_dir / "checkpoints", run.run_dir / "weights"
        self._best = BestScores(best, mode, keep_best, agreement, reporter)
        self._tracked = Tracked(tracked, prepared, agreement)
        self._hyperparameters = Hyperparameters(self._tracked)
        models, optimizers = self._tracked.models, self._tracked.optimizers()
        self._replicas = Replicas(models, optimizers, agreement, reporter)
        self._frozen, self._trainable_only = FrozenWeights(models, agreement), trainable_only
        self._unsaved = UnsavedBuffers(models)
        self._unsaved.note()
        self._source = Source(self._folder, run.fork, agreement, reporter)
        self._retention = Retention(self._folder, weights_folder, keep_last, keep)
        self._writer = Writer(agreement, background=background)
        if background:
            run.at_end(self._writer.close)
        self._weights = WeightsFiles(
            weights, self._tracked.objects, weights_folder, max_shard_size, prepared, agreement, self._writer
        )
        self._saved_step: int | None = None
        self.evaluation_is_due = False
        if best is not None and not self._weights:
            reporter.warn("no weights will be written: no model is tracked, and `weights` names none")
        if metrics := self._tracked.metrics_within_models():
            reporter.warn(
                f"no checkpoint holds what {quoted(metrics, 5)} accumulates: also pass metrics to `Checkpoints` by "
                "name, as in `accuracy=model.accuracy`"
            )

    @property
    def step(self) -> int:
        """The step that `restore` will resume from, 0 for the beginning; after `restore`, the run's step. Collective.

        Use it to add param groups or layers that training has added by then: they must be there before `restore`.

        Raises:
            CheckpointError: There are checkpoints and none is valid.
        """
        if self._run.position.step or self._source.path is None:
            return self._run.position.step
        return int(read_metadata(self._source.path)["step"])

    def restore(self) -> int:
        """Load the newest valid checkpoint of the run, if there is one, and set the run's position in its data.

        Hyperparameters that the script has changed since keep the script's values, with a line that says so: learning
        rate, weight decay and other fields of param groups, and the settings of schedules. In a new run from a
        checkpoint, what the checkpoint does not have starts fresh, an EMA from the restored weights.

        Collective. What was logged after the checkpoint is removed, since the run will log it again.

        Returns:
            The run's step; 0 at the beginning.

        Raises:
            CheckpointError: A state cannot be saved, there are checkpoints and none is valid, the newest is of another
                run, or does not fit what is tracked.
        """
        self._hyperparameters.note()
        self._tracked.check_states(self._hyperparameters.initial)
        if self._trainable_only:
            self._frozen.note()
        path = self._source.path
        if path is None:
            self._agreement.on_main(self._cut_back_metrics)  # of a run that was killed before its first checkpoint
            return 0
        restore = Restore(path, self._run, self._tracked, self._hyperparameters, self._frozen, self._best)
        if self._run.accelerator.distributed_type is DistributedType.DEEPSPEED:
            restore.load()  # collective itself
        else:
            self._agreement.on_all(restore.load)
        self.evaluation_is_due = restore.evaluation_is_due
        position = self._run.position
        if self._run.fork is None:  # the folder of a new run does not have the checkpoint of this step yet
            self._saved_step = position.step

        def clean_up() -> None:
            self._cut_back_metrics()
            self._retention.clean_up(path, self._best.steps)

        self._agreement.on_main(clean_up)
        restore.start_fresh()
        self._reporter.say(f"resuming at step {position.step}, epoch {position.epoch}, from {path}")
        for line in restore.notes():
            self._reporter.say(line)
        self._unsaved.note()
        return position.step

    def _cut_back_metrics(self) -> None:
        if self._reporter.record is not None:
            self._reporter.record.metrics.cut_back(self._run.position.step)

    def keep_best(self, scores: Mapping[str, float]) -> bool:
        """If `scores` are the best so far, write `weights/best.safetensors`. Collective.

        The scores of the main process decide. Of equal scores the later, trained longer, is the better one; a NaN is
        never the best.

        Returns:
            Whether they are the best.

        Raises:
            ConfigError: The score to choose by is missing, or is no number.
        """
        self.evaluation_is_due = False
        step = self._run.position.step
        place = self._best.add(scores, step)
        if place is not None and self._best.keep > 1:
            self.save_weights(f"best-{step}")
        if place == 0:
            self.save_weights("best")
        return place == 0

    def check_scores(self, scores: Mapping[str, float]) -> None:
        """Check that `keep_best` can choose by these scores, for example those of `Run.rehearsal`. Collective.

        Raises:
            ConfigError: The score to choose by is missing, or is no number.
        """
        self._best.check(scores)

    def save(self, *, then_evaluate: bool = False) -> None:
        """Save everything as it is after this step; a second call at the same step does nothing.

        Collective. All processes wait until the files are on disk, or copied if they are written in the background. If
        saving fails on one, all raise.

        Args:
            then_evaluate: An evaluation of this step follows. A run that resumes from here has `evaluation_is_due`, so
                that its loop evaluates first, whether or not this run still got to it.

        Raises:
            NonFiniteError: A gradient since the last log point was not finite, and may not be skipped.
            AgreementError: The processes have different learning rates or other fields of param groups.
            OSError: The disk is full or cannot be written; existing checkpoints are unchanged.
        """
        step, epoch = self._run.position.step, self._run.position.epoch
        if self._saved_step == step:
            return
        started = perf_counter()
        self._replicas.check()
        if step and (changed := self._unsaved.take_changed()):
            self._reporter.warn(
                f"training changes {quoted(changed)}, and `persistent=False` keeps it out of checkpoints and weights: "
                "a resumed run starts with its initial value. Register it as a persistent buffer"
            )
        run_state = self._run.state_dict() | {
            "bests": self._best.state_dict(),
            "evaluation_is_due": then_evaluate,
            "given": self._hyperparameters.to_save(),
        }
        objects = {name: self._tracked.state_of(name) for name in self._tracked.objects} | {"run": run_state}
        if self._trainable_only:
            run_state["left_out"] = left_out = self._frozen.unchanged()
            for name, hashes in left_out.items():
                objects[name] = {key: value for key, value in objects[name].items() if key not in hashes}
        best_steps = self._best.steps  # of this step, even if the checkpoint is written later

        def after_write() -> None:
            self._retention.prune(best_steps)
            if self._reporter.record is not None:
                self._reporter.record.write_status("running", step, epoch)

        metadata = {"step": step, "num_processes": self._agreement.num_processes, "settings": self._run.fixed_settings}
        self._writer.write_checkpoint(self._folder / f"step-{step}", objects, metadata, after_write)
        self._saved_step = step
        self._reporter.throughput.other_seconds += perf_counter() - started

    def save_weights(self, name: str) -> None:
        """Write `weights/<name>.safetensors`: the weights to evaluate, averaged by the EMA if one is tracked.

        Of several models, `model` has this file, and each other one `<name>-<model>.safetensors`. Above
        `max_shard_size` it is the folder `weights/<name>`. Sharded weights are gathered and written immediately, one
        tensor at a time, even with `background`. Collective.

        Raises:
            NonFiniteError: A gradient since the last log point was not finite, and may not be skipped.
            OSError: The disk is full or cannot be written.
        """
        self._run.guard.check()
        if not self._weights:
            self._reporter.warn(f"no weights `{name}` are written: no model is tracked, and `weights` names none")
        self._weights.write(name, self._run.position.step)


def _check_supported(run: Run, trainable_only: bool) -> None:
    kind = run.accelerator.distributed_type
    if kind is DistributedType.FSDP and run.accelerator.state.fsdp_plugin.fsdp_version != 2:
        # Its `state_dict` would save the shards of one process as if they were whole
        raise ConfigError("FSDP version 1 is not supported: set `fsdp_version: 2` in accelerate's configuration")
    if kind is DistributedType.DEEPSPEED and trainable_only:
        raise ConfigError("`trainable_only` is not supported under DeepSpeed: use FSDP2")
