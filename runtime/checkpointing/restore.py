"""Restoring a run from a checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ..ema import EMA
from ..errors import AgreementError, CheckpointError, quoted
from ..hardware.frozen import FrozenWeights
from ..hardware.param_groups import has_groups
from ..run import Run
from ..schedules import Schedule
from ..storage.checkpoint import read_checkpoint
from ..storage.stored import in_memory
from .best import BestScores
from .hyperparameters import Hyperparameters, changes, load_scheduler, optimizer_state, replaced_class
from .tracked import Tracked


class Restore:
    """Loads one checkpoint into everything that is tracked, and into the run.

    In a new run from a checkpoint, the tracked objects may differ from those in the checkpoint.

    Args:
        path: The checkpoint, which is valid.
        run: The run.
        tracked: The objects to load.
        hyperparameters: What the script has set on them.
        frozen: The weights that the checkpoint may leave out.
        best: Receives the best scores so far.

    Attributes:
        evaluation_is_due: Whether the checkpoint was saved before an evaluation of the same step.
    """

    def __init__(
        self,
        path: Path,
        run: Run,
        tracked: Tracked,
        hyperparameters: Hyperparameters,
        frozen: FrozenWeights,
        best: BestScores,
    ) -> None:
        self._path, self._run, self._tracked = path, run, tracked
        self._hyperparameters, self._frozen, self._best = hyperparameters, frozen, best
        self._is_new_run = run.fork is not None
        self._saved: dict[str, Any] = {}  # state by name
        self._run_state: dict[str, Any] = {}
        self._fresh: set[str] = set()  # names of tracked objects that are not in the checkpoint
        self._keeps_types = True  # whether parameters have the types with which they were saved
        self.evaluation_is_due = False

    def load(self) -> None:
        """Load everything. Collective if DeepSpeed shards the models, or if frozen weights were left out.

        Raises:
            CheckpointError: The checkpoint is of another run, or does not fit what is tracked.
        """
        self._saved, metadata = read_checkpoint(self._path, lazily=True)
        self._run_state = in_memory(self._saved.pop("run", None))
        if not isinstance(self._run_state, dict):
            raise CheckpointError(f"`{self._path}` has no state of a run")
        if not self._is_new_run:
            self._check_settings(metadata)
        self._check_names()
        self._fill_in_frozen_weights()
        self._keeps_types = not any(map(self._has_other_types, self._tracked.models))
        for name in self._in_loading_order():
            if name not in self._fresh:
                self._load(name)
        self._load_run(metadata)

    def start_fresh(self) -> None:
        """Start the EMAs that the checkpoint does not have from the restored weights."""
        for name in sorted(self._fresh):
            if isinstance(thing := self._tracked.objects[name], EMA):
                thing.restart()

    def notes(self) -> list[str]:
        """A line for each object that does not resume exactly as it was saved."""
        return [*self._replaced_optimizers(), *self._fresh_objects(), *self._changed_hyperparameters()]

    # Whether the checkpoint fits

    def _check_settings(self, metadata: Mapping[str, Any]) -> None:
        """Refuse a checkpoint of other settings: of another run, or of this one, if its `config.json` was lost."""
        saved = metadata.get("settings")
        if not isinstance(saved, dict):  # of paccel 0.1
            return
        _, may_not = self._run.compare_settings(self._run.fixed_settings, saved, {"precision"})
        if may_not:
            lines = "".join(f"  {line}\n" for line in may_not)
            raise CheckpointError(
                f"`{self._path}` was saved with other settings:\n{lines}"
                f"For a new run from it, pass `--resume {self._path}` and another `--run-dir`"
            )

    def _check_names(self) -> None:
        """Compare the names in the checkpoint with the tracked ones. In a new run, missing objects start fresh."""
        missing = sorted(self._tracked.objects.keys() - self._saved.keys())
        unknown = sorted(self._saved.keys() - self._tracked.objects.keys())
        problems = [f"the checkpoint has no {quoted(missing)}"] if missing else []
        if unknown:
            problems.append(f"the checkpoint has {quoted(unknown)}, not passed to `Checkpoints`")
        has_none = len(missing) == len(self._tracked.objects)
        if problems and (not self._is_new_run or has_none):
            raise CheckpointError(
                f"`{self._path}` does not fit what is tracked: {'; '.join(problems)}. A new run from it may differ: "
                f"pass `--resume {self._path}` and another `--run-dir`"
            )
        if unknown:
            self._run.reporter.say(problems[-1])
        self._fresh = set(missing)

    def _has_other_types(self, name: str) -> bool:
        """Whether parameters of a model have other types than they were saved with."""
        saved = self._saved.get(name, {})
        parameters = self._tracked.models[name].named_parameters()
        return any(getattr(saved.get(key), "dtype", p.dtype) != p.dtype for key, p in parameters)

    # Loading

    def _fill_in_frozen_weights(self) -> None:
        """Complete the states from which `trainable_only` left out frozen weights. Collective if there are any."""
        left_out = self._run_state.get("left_out", {})
        left_out = {name: keys for name, keys in left_out.items() if keys and name in self._tracked.objects}
        if left_out:
            self._frozen.note(left_out)
        for name, hashes in left_out.items():
            if name not in self._fresh:
                self._saved[name] = self._frozen.fill_in(name, self._saved[name], hashes)

    def _in_loading_order(self) -> list[str]:
        """Models and optimizers first, then the rest, as schedulers set the groups of loaded optimizers."""
        objects = self._tracked.objects
        return sorted(objects, key=lambda name: not (isinstance(objects[name], nn.Module) or has_groups(objects[name])))

    def _load(self, name: str) -> None:
        """Load one object. Collective if DeepSpeed shards it."""
        thing, saved, prepared = self._tracked.objects[name], self._saved[name], self._run.prepared
        try:
            before, now = self._hyperparameters_of(name)
            if has_groups(thing):
                state = optimizer_state(saved, before, now, is_new_run=self._is_new_run)
                prepared.load(thing, state, keeps_types=self._keeps_types)
            elif now is not None:
                load_scheduler(
                    thing,
                    in_memory(saved),
                    before,
                    now,
                    self._hyperparameters.groups_of(thing),
                    is_new_run=self._is_new_run,
                    step=self._run_state["position"]["step"],
                    epoch=self._run_state["position"]["epoch"],
                )
            else:
                prepared.load(thing, saved if isinstance(thing, nn.Module | EMA) else in_memory(saved))
        except AgreementError:
            raise
        except Exception as error:  # any object may load its state in its own way
            what = str(error) if isinstance(error, ValueError | RuntimeError) else f"{type(error).__name__}: {error}"
            raise CheckpointError(
                f"`{name}` in `{self._path}` does not fit: {what.rstrip('.')}. Param groups or layers that are added "
                "during training must be there before `restore`: `checkpoints.step` is the step it resumes from"
            ) from error

    def _load_run(self, metadata: Mapping[str, Any]) -> None:
        state, position = self._run_state, self._run.position
        try:
            self._run.load_state_dict(state)
            if type(position.step) is not int or position.step != metadata.get("step"):
                raise ValueError(f"its step is {position.step!r}, but {metadata.get('step')!r} in its manifest")
            self._best.load_state_dict([] if self._is_new_run else state["bests"])
            self.evaluation_is_due = bool(state.get("evaluation_is_due", False))
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(f"`run` in `{self._path}` does not fit: {type(error).__name__}: {error}") from error

    def _hyperparameters_of(self, name: str) -> tuple[Any, Any]:
        """The hyperparameters of an object when the run of the checkpoint started, and in this run."""
        return self._run_state.get("given", {}).get(name), self._hyperparameters.initial.get(name)

    # What to tell the user

    def _replaced_optimizers(self) -> list[str]:
        lines = []
        for name in self._tracked.optimizers():
            before, now = self._hyperparameters_of(name)
            if was := replaced_class(before, now):
                lines.append(f"`{name}` was `{was}`, and starts fresh as `{now['class']}`")
        return lines

    def _fresh_objects(self) -> list[str]:
        return [
            f"`{name}` is not in the checkpoint: it starts "
            + ("from the restored weights" if isinstance(self._tracked.objects[name], EMA) else "fresh")
            for name in sorted(self._fresh)
        ]

    def _changed_hyperparameters(self) -> list[str]:
        lines: list[str] = []
        explained: set[str] = set()  # fields that a changed schedule sets
        loaded = {name: thing for name, thing in self._tracked.objects.items() if name not in self._fresh}
        for name, thing in loaded.items():
            if isinstance(thing, Schedule) and (line := thing.change_since(self._saved[name])):
                lines.append(line)
                explained |= thing.curves.keys()
        for name, thing in loaded.items():
            if has_groups(thing) and isinstance(self._saved[name], dict):
                text = changes(self._saved[name].get("param_groups", ()), thing.param_groups, explained)
                lines += [f"`{name}` resumes with other settings than in the checkpoint: {text}"] if text else []
        return lines
