"""Checkpoints of a run: always a good one, and exactly what the loop needs to go on."""

import math
import re
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, TypeVar

from accelerate.utils import DistributedType
from torch import nn

from .config import config_from_dict
from .ema import EMA
from .errors import CheckpointError, ConfigError
from .record.record import Record
from .record.status import RUNS
from .run import Run
from .storage.background import Background, on_host
from .storage.checkpoint import (
    list_checkpoints,
    read_checkpoint,
    remove_checkpoint,
    remove_leftovers,
    verify_checkpoint,
    write_checkpoint,
)
from .storage.weights import read_weights, write_weights

T = TypeVar("T")

_OF_THE_BEST = re.compile(r"best-(\d+)(-.*)?\.safetensors")


class Checkpoints:
    """Saves and restores everything that is named here, and the run's own place in its data.

    A checkpoint is written aside, hashed, renamed, and only then are older ones removed; one that is torn or corrupted
    is passed over for the one before it. Safetensors and JSON only: loading cannot run code. Sharded tensors (FSDP2,
    DeepSpeed's ZeRO) are saved whole, so a run goes on with any number of processes.

    Args:
        run: The run; its directory gets `checkpoints/step-<n>/` and `weights/`.
        keep_last: How many of the newest checkpoints stay. At least 1.
        keep: Steps whose checkpoints stay besides, once `save` was called at them.
        best: The score by which `weights/best.safetensors` is chosen, a name in what `keep_best` is given. None is off.
        mode: Whether a smaller or a larger score is better.
        keep_best: How many of the best weights stay. More than 1 keeps each as `weights/best-<step>.safetensors` too.
        background: Write in a thread while training goes on, from a copy on the host. An error in writing is raised by
            the next save or at the end of the run. A save waits where the one before it is not on disk yet.
        tracked: Everything with state, by name: models, optimizers, schedules, EMA, early stopping, meters.

    Raises:
        ConfigError: Something cannot be tracked, a number is too small, or the processes hold shards that cannot be
            put together here (FSDP 1).
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
        **tracked: Any,
    ) -> None:
        for name, number in (("keep_last", keep_last), ("keep_best", keep_best)):
            if number < 1:
                raise ConfigError(f"`{name}` must be at least 1: {number}")
        plugin = run.accelerator.state.fsdp_plugin if run.accelerator.distributed_type is DistributedType.FSDP else None
        if plugin is not None and plugin.fsdp_version != 2:  # would save one process's shards as if they were the whole
            raise ConfigError("FSDP version 1 is not supported: set `fsdp_version: 2` in accelerate's configuration")
        if "run" in tracked:
            raise ConfigError("`run` is the name of the run's own state in a checkpoint: track this under another name")
        if stateless := [name for name, thing in tracked.items() if not hasattr(thing, "state_dict")]:
            raise ConfigError(f"No state to track in {', '.join(f'`{name}`' for name in stateless)}")
        self._run = run
        self._agreement, self._position, self._prepared = run.agreement, run.position, run.prepared
        self._reporter, self._record = run.reporter, run.reporter.record
        self._folder = run.run_dir / "checkpoints"
        self._weights = run.run_dir / "weights"
        self._keep_last, self._keep, self._num_best = keep_last, frozenset(keep), keep_best
        self._best, self._mode = best, mode
        self._tracked = tracked
        self._models = {name: thing for name, thing in tracked.items() if isinstance(thing, nn.Module)}
        self._bests: list[tuple[float, int]] = []  # scores and their steps, the best first
        self._saved_step: int | None = None
        self._background = Background() if background else None
        if self._background is not None:
            run.at_end(self._background.wait)

    def restore(self) -> int:
        """Load the newest good checkpoint of the run, if there is one, and set the run's place in its data.

        Collective. What was logged after the checkpoint is dropped, since the run will log it again.

        Returns:
            The step that the run stands at; 0 at the beginning.

        Raises:
            CheckpointError: There are checkpoints and none is good, or the objects in it are not those tracked here.
        """
        path = self._agreement.on_main(self._choose)
        if path is None:
            return 0
        objects, _ = read_checkpoint(path)
        state = objects.pop("run")
        self._check_names(path, set(objects))
        for name, thing in self._tracked.items():
            try:
                self._prepared.load(thing, objects[name])
            except (KeyError, TypeError, ValueError, RuntimeError) as error:
                raise CheckpointError(f"`{name}` in `{path}` does not fit: {error}") from error
        self._run.load_state_dict(state)
        if self._run.fork is None:  # the weights and the checkpoint of another run are not in this one's folder
            self._bests = [(score, step) for score, step in state["bests"]]
            self._saved_step = self._position.step
        self._agreement.on_main(lambda: self._tidy_up(path))
        self._reporter.say(f"resuming at step {self._position.step}, epoch {self._position.epoch}, from {path}")
        return self._position.step

    def keep_best(self, scores: Mapping[str, float]) -> bool:
        """If `scores` are the best so far, write `weights/best.safetensors`. Collective.

        Of equal scores the later, trained longer, is the better one; a NaN is never the best.

        Returns:
            Whether they were.

        Raises:
            ConfigError: The score to choose by is not among them.
        """
        if self._best is None:
            return False
        if self._best not in scores:
            raise ConfigError(f"No score `{self._best}` to choose the best by: there are {', '.join(scores)}")
        score, step = float(scores[self._best]), self._position.step
        if math.isnan(score):
            return False
        sign = 1 if self._mode == "min" else -1
        found = sorted([*self._bests, (score, step)], key=lambda best: (sign * best[0], -best[1]))
        self._bests = found[: self._num_best]
        if self._num_best > 1 and (score, step) in self._bests:
            self.save_weights(f"best-{step}")
        is_best = self._bests[0] == (score, step)
        if is_best:
            self.save_weights("best")
        return is_best

    def save(self) -> None:
        """Save everything as it stands at this step; a second call at the same step does nothing.

        Collective. All processes wait until the files are on disk, or copied where they are written in the background,
        and all raise if that failed.

        Raises:
            NonFiniteError: A gradient since the last log point was not finite, and may not be skipped.
            OSError: The disk is full or cannot be written; what was there before still stands.
        """
        step, epoch = self._position.step, self._position.epoch
        if self._saved_step == step:
            return
        started = perf_counter()
        run_state = self._run.state_dict() | {"bests": [list(best) for best in self._bests]}
        objects = {name: self._state_of(thing) for name, thing in self._tracked.items()} | {"run": run_state}
        best_steps = {step for _, step in self._bests}

        def write(objects: dict[str, Any]) -> None:
            metadata = {"step": step, "num_processes": self._agreement.num_processes}
            write_checkpoint(self._folder / f"step-{step}", objects, metadata)
            self._prune(best_steps)
            if self._record is not None:
                self._record.write_status("running", step, epoch)

        self._write("checkpoint", objects, write)
        self._saved_step = step
        self._reporter.throughput.other_seconds += perf_counter() - started

    def save_weights(self, name: str) -> None:
        """Write `weights/<name>.safetensors`: the weights that are evaluated, the EMA's where one is tracked.

        With several models, each has a file, `<name>-<model>.safetensors`. Collective.

        Raises:
            NonFiniteError: A gradient since the last log point was not finite, and may not be skipped.
            OSError: The disk is full or cannot be written.
        """
        self._run.guard.check()
        averages = [thing for thing in self._tracked.values() if isinstance(thing, EMA)]
        metadata = {"step": str(self._position.step)}

        def write(states: dict[str, Any]) -> None:
            for model, state in states.items():
                file = name if len(states) == 1 else f"{name}-{model}"
                write_weights(self._weights / f"{file}.safetensors", state, metadata)

        with averages[0].swapped_in() if averages else nullcontext():
            self._write("weights", {name: self._state_of(model) for name, model in self._models.items()}, write)

    def _state_of(self, thing: Any) -> Any:
        return self._prepared.state_of(thing, keep=self._agreement.rank == 0)

    def _write(self, kind: str, state: dict[str, Any], write: Callable[[dict[str, Any]], None]) -> None:
        """Let the main process write, now or in the background. Collective."""

        def submit() -> None:
            if self._background is None:
                write(state)
            else:
                copy = on_host(state)
                self._background.submit(kind, lambda: write(copy))

        self._agreement.on_main(submit)

    def _choose(self) -> Path | None:
        """The newest good checkpoint, with a warning for each that is not. On the main process only."""
        found = list_checkpoints(self._folder)
        for _, path in found:
            problem = verify_checkpoint(path)
            if problem is None:
                return path
            self._reporter.warn(f"{path} is damaged ({problem}): falling back to the checkpoint before it")
        if found:
            raise CheckpointError(f"All {len(found)} checkpoints in `{self._folder}` are damaged")
        origin = self._run.fork
        if origin is None:
            self._cut_back_metrics()  # killed before its first checkpoint: starts again
        elif problem := verify_checkpoint(origin):
            raise CheckpointError(f"`{origin}` cannot be resumed from: {problem}")
        return origin

    def _prune(self, best_steps: set[int]) -> None:
        """Remove what is neither among the last, nor among the best, nor to be kept."""
        for step, path in list_checkpoints(self._folder)[self._keep_last :]:
            if step not in self._keep:
                remove_checkpoint(path)
        for path in self._weights.glob("best-*"):
            match = _OF_THE_BEST.fullmatch(path.name)
            if match and int(match[1]) not in best_steps:
                path.unlink()  # last, as a run that goes on from an older checkpoint finds its best again

    def _tidy_up(self, restored: Path) -> None:
        """Drop what was logged after the checkpoint, and end the pruning in which the run may have been killed."""
        self._cut_back_metrics()
        if self._run.fork is None:
            for folder in (self._folder, self._weights):
                remove_leftovers(folder)
        found = list_checkpoints(self._folder)
        if found and found[0][1] == restored:  # nothing is damaged, so nothing older is needed
            self._prune({step for _, step in self._bests})

    def _cut_back_metrics(self) -> None:
        if self._record is not None:
            self._record.cut_back(self._position.step)

    def _check_names(self, path: Path, saved: set[str]) -> None:
        problems = []
        if missing := sorted(set(self._tracked) - saved):
            problems.append(f"the checkpoint has no {', '.join(f'`{name}`' for name in missing)}")
        if unknown := sorted(saved - set(self._tracked)):
            names = ", ".join(f"`{name}`" for name in unknown)
            problems.append(f"the checkpoint has {names}, not passed to `Checkpoints`")
        if problems:
            raise CheckpointError(f"`{path}` does not fit what is tracked: {'; '.join(problems)}")


def load_run(config_class: type[T], run_dir: Path | None = None) -> tuple[Path, T]:
    """The settings of a run, as an instance of its `Config`.

    Args:
        config_class: The dataclass that the run was started with.
        run_dir: The run; None is the newest one under `runs/` that has weights.

    Raises:
        ConfigError: There is no such run, or its settings do not fit the dataclass.
    """
    if run_dir is None:
        runs = sorted(RUNS.glob("*/weights/*.safetensors"), key=lambda path: path.stat().st_mtime)
        if not runs:
            raise ConfigError(f"No run with weights under `{RUNS}`: train one first, or pass `--run-dir`")
        run_dir = runs[-1].parent.parent
    settings = Record(run_dir).settings()
    if settings is None:
        raise ConfigError(f"`{run_dir}` is not a run directory: it has no `config.json`")
    return run_dir, config_from_dict(config_class, settings)


def load_weights(path: Path, model: nn.Module) -> None:
    """Load a file of weights into a model that is not wrapped yet.

    Raises:
        CheckpointError: The file is missing or damaged, or its weights are not those of the model; lists them.
    """
    read_weights(path, model)
