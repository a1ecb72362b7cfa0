"""Checkpoints of a run: always a good one, and exactly what the loop needs to go on."""

import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from torch import nn

from .config import config_from_dict
from .ema import EMA
from .errors import CheckpointError, ConfigError
from .record import RUNS, Record
from .storage import (
    list_checkpoints,
    read_checkpoint,
    read_weights,
    remove_checkpoint,
    verify_checkpoint,
    write_checkpoint,
    write_weights,
)

if TYPE_CHECKING:
    from .run import Run

T = TypeVar("T")


class Checkpoints:
    """Saves and restores everything that is named here, and the run's own place in its data.

    A checkpoint is written aside, hashed, renamed, and only then are older ones removed; what is torn or corrupted is
    passed over for the one before it. Safetensors and JSON only: loading cannot run code.

    Args:
        run: The run; its directory gets `checkpoints/step-<n>/` and `weights/`.
        keep_last: How many of the newest checkpoints stay. At least 1.
        best: The score by which `weights/best.safetensors` is chosen, a name in what `keep_best` is given. None is off.
        mode: Whether a smaller or a larger score is better.
        tracked: Everything with state, by name: models, optimizers, schedules, EMA, early stopping, meters.

    Raises:
        ConfigError: Something cannot be tracked, or `keep_last` is too small.
    """

    def __init__(
        self,
        run: "Run",
        *,
        keep_last: int = 2,
        best: str | None = None,
        mode: Literal["min", "max"] = "min",
        **tracked: Any,
    ) -> None:
        if keep_last < 1:
            raise ConfigError(f"`keep_last` must be at least 1: {keep_last}")
        stateless = [n for n, thing in tracked.items() if not hasattr(thing, "state_dict") or n == "run"]
        if stateless:
            raise ConfigError(f"No state to track in {', '.join(f'`{name}`' for name in stateless)}")
        self._run = run
        self._folder = run.run_dir / "checkpoints"
        self._keep_last, self._best, self._mode = keep_last, best, mode
        self._tracked = tracked
        self._models = {name: thing for name, thing in tracked.items() if isinstance(thing, nn.Module)}
        self._best_score: float | None = None
        self._best_step: int | None = None
        self._saved_step: int | None = None

    def restore(self) -> int:
        """Load the newest good checkpoint of the run, if there is one, and set the run's place in its data.

        Collective. What was logged behind the checkpoint is dropped, since the run will log it again.

        Returns:
            The step that the run stands at; 0 at the beginning.

        Raises:
            CheckpointError: There are checkpoints and none is sound, or the objects in it are not those tracked here.
        """
        run = self._run
        path = run._agreement.on_main(self._choose)
        if path is None:
            return 0
        objects, _ = read_checkpoint(path)
        state = objects.pop("run")
        self._check_names(path, set(objects))
        for name, thing in self._tracked.items():
            self._load(path, name, thing, objects[name])
        for name, value in state["position"].items():
            setattr(run._position, name, value)
        run._logged_step = state["logged_step"]
        if run.accelerator.scaler is not None and state["scaler"]:
            run.accelerator.scaler.load_state_dict(state["scaler"])
        run._guard.load_state_dict(state["guard"])
        self._best_score, self._best_step = state["best_score"], state["best_step"]
        if run._fork is None:
            self._saved_step = run._position.step
        run._agreement.on_main(self._cut_back_metrics)
        run._reporter.say(f"resuming at step {run._position.step}, epoch {run._position.epoch}, from {path}")
        return run._position.step

    def keep_best(self, scores: Mapping[str, float]) -> bool:
        """If `scores` are the best so far, write `weights/best.safetensors`. Collective.

        Returns:
            Whether they were.

        Raises:
            ConfigError: The score to choose by is not among them.
        """
        if self._best is None or not self._improves(scores):
            return False
        self.save_weights("best")
        return True

    def save(self) -> None:
        """Save everything as it stands at this step; a second call at the same step does nothing.

        Collective. All processes wait until the files are on disk, and all raise if that failed.

        Raises:
            NonFiniteError: A gradient since the last log point was not finite, and may not be skipped.
            OSError: The disk is full or cannot be written; what was there before still stands.
        """
        run = self._run
        if self._saved_step == run._position.step:
            return
        started = perf_counter()
        run._guard.check()  # what is not finite does not get into a checkpoint
        objects = {name: self._state_of(thing) for name, thing in self._tracked.items()}
        objects["run"] = {
            "position": asdict(run._position),
            "logged_step": run._logged_step,
            "guard": run._guard.state_dict(),
            "best_score": self._best_score,
            "best_step": self._best_step,
            "scaler": run.accelerator.scaler.state_dict() if run.accelerator.scaler is not None else None,
        }

        def write() -> None:
            position = run._position
            metadata = {"step": position.step, "num_processes": run._agreement.num_processes}
            write_checkpoint(self._folder / f"step-{position.step}", objects, metadata)
            for _, path in list_checkpoints(self._folder)[self._keep_last :]:
                remove_checkpoint(path)
            if run._record is not None:
                run._record.write_status("running", position.step, position.epoch)

        run._agreement.on_main(write)
        self._saved_step = run._position.step
        run._reporter.other_seconds += perf_counter() - started

    def save_weights(self, name: str) -> None:
        """Write `weights/<name>.safetensors`: the weights that are evaluated, the EMA's where one is tracked.

        With several models, each has a file, `<name>-<model>.safetensors`. Collective.
        """
        run = self._run
        run._guard.check()
        averages = [thing for thing in self._tracked.values() if isinstance(thing, EMA)]

        def write() -> None:
            for model_name, model in self._models.items():
                file = name if len(self._models) == 1 else f"{name}-{model_name}"
                target = run.run_dir / "weights" / f"{file}.safetensors"
                write_weights(target, run.accelerator.unwrap_model(model), {"step": str(run._position.step)})

        with averages[0].swapped_in() if averages else nullcontext():
            run._agreement.on_main(write)

    def _choose(self) -> Path | None:
        """The newest sound checkpoint, with a line for each that is not. On the main process only."""
        if self._run._fork is not None and not list_checkpoints(self._folder):
            problem = verify_checkpoint(self._run._fork)
            if problem is not None:
                raise CheckpointError(f"`{self._run._fork}` cannot be resumed from: {problem}")
            return self._run._fork
        found = list_checkpoints(self._folder)
        for _, path in found:
            problem = verify_checkpoint(path)
            if problem is None:
                return path
            self._run._reporter.warn(f"{path} is damaged ({problem}): falling back to the checkpoint before it")
        if found:
            raise CheckpointError(f"None of the {len(found)} checkpoints in `{self._folder}` is sound")
        self._cut_back_metrics()  # killed before its first checkpoint: begins anew
        return None

    def _cut_back_metrics(self) -> None:
        if self._run._record is not None:
            self._run._record.cut_back(self._run._position.step)

    def _check_names(self, path: Path, saved: set[str]) -> None:
        problems = []
        if missing := sorted(set(self._tracked) - saved):
            problems.append(f"it has no {', '.join(f'`{name}`' for name in missing)}")
        if unknown := sorted(saved - set(self._tracked)):
            problems.append(f"nothing here takes its {', '.join(f'`{name}`' for name in unknown)}")
        if problems:
            raise CheckpointError(f"`{path}` does not fit what is tracked: {'; '.join(problems)}")

    def _load(self, path: Path, name: str, thing: Any, state: Any) -> None:
        try:
            if isinstance(thing, nn.Module):
                self._run.accelerator.unwrap_model(thing).load_state_dict(state)
            else:
                thing.load_state_dict(state)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"`{name}` in `{path}` does not fit: {error}") from error

    def _state_of(self, thing: Any) -> Any:
        if isinstance(thing, nn.Module):
            thing = self._run.accelerator.unwrap_model(thing)
        return thing.state_dict()

    def _improves(self, scores: Mapping[str, float]) -> bool:
        """Whether this is the best score so far; of equal ones the later, trained longer, is; a NaN never is."""
        assert self._best is not None
        if self._best not in scores:
            raise ConfigError(f"No score `{self._best}` to choose the best by: there are {', '.join(scores)}")
        score = scores[self._best]
        if math.isnan(score):
            return False
        before = self._best_score
        better = before is None or (score <= before if self._mode == "min" else score >= before)
        if better:
            self._best_score, self._best_step = score, self._run._position.step
        return better


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
        raise ConfigError(f"`{run_dir}` is no run directory: it holds no `config.json`")
    return run_dir, config_from_dict(config_class, settings)


def load_weights(path: Path, model: nn.Module) -> None:
    """Load a file of weights into a model that is not wrapped yet.

    Raises:
        CheckpointError: The file is missing or damaged, or its weights are not those of the model; lists them.
    """
    read_weights(path, model)
