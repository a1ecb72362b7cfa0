"""Checkpoints of a run: always a good one, and exactly what the loop needs to go on."""

import math
import os
import re
import sys
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, TypeVar

import torch
from accelerate.utils import DistributedType
from torch import nn
from torch.nn.parameter import is_lazy

from .checkpointing.hyperparameters import changes, class_before, given, has_groups, load_scheduler, optimizer_state
from .config import compare_settings, config_from_dict, config_to_dict
from .ema import EMA
from .errors import AgreementError, CheckpointError, ConfigError, local_rank
from .hardware.agreement import Agreement
from .hardware.buffers import UnsavedBuffers
from .hardware.frozen import FrozenWeights
from .hardware.metrics import MetricState, is_metric
from .hardware.sharding import is_sharded
from .limits import check_limits
from .record import progress
from .record.record import Record
from .record.status import RUNS
from .run import Run
from .schedules import Schedule
from .storage.background import Background, on_host
from .storage.checkpoint import (
    Encoded,
    encode_objects,
    list_checkpoints,
    read_checkpoint,
    read_metadata,
    remove_checkpoint,
    remove_leftovers,
    verify_checkpoint,
    write_encoded,
    write_sharded,
)
from .storage.shards import Shard, copied
from .storage.stored import in_memory
from .storage.weights import MAX_SHARD_SIZE, has_hash, read_weights, remove_weights, write_weights

T = TypeVar("T")

_OF_THE_BEST = re.compile(r"best-(\d+)(-.*)?(\.safetensors)?")


class Checkpoints:
    """Saves and restores everything that is named here, and the run's own place in its data.

    A checkpoint is written aside, hashed, renamed, and only then are older ones removed; one that is torn or corrupted
    is passed over for the one before it. Safetensors and JSON only: loading cannot run code. Sharded tensors (FSDP2,
    DeepSpeed's ZeRO) are saved in parts that fit any number of processes.

    Args:
        run: The run; its directory gets `checkpoints/step-<n>/` and `weights/`.
        keep_last: How many of the newest checkpoints stay. At least 1.
        keep: Steps whose checkpoints stay besides, once `save` was called at them.
        best: The score by which `weights/best.safetensors` is chosen, a name in what `keep_best` is given. None is off.
        mode: Whether a smaller or a larger score is better.
        keep_best: How many of the best weights stay. More than 1 keeps each as `weights/best-<step>.safetensors` too.
        background: Write in a thread while training goes on, from a copy on the host. An error in writing is raised by
            the next save or at the end of the run. A save waits where the one before it is not on disk yet.
        weights: What becomes a file under `weights/`, by name: models, each with the average of the EMA that is tracked
            of it, or EMAs. `model`, and what is alone, is `best.safetensors`, others are `best-<name>.safetensors`.
            None is each tracked `nn.Module` with parameters.
        trainable_only: Leave parameters that are frozen, and have the values with which the run began, out of
            checkpoints. At a restore the script must have loaded the same ones, which is checked by their hashes.
        max_shard_size: Bytes of a model's weights above which `save_weights` makes a folder, with files of at most so
            many bytes and a `model.safetensors.index.json`, as `transformers` reads them.
        tracked: Everything with state, by name: models, optimizers, schedules, EMA, early stopping, meters.

    Attributes:
        evaluation_is_due: Whether the restored checkpoint was saved before an evaluation of the same step, which is to
            be made again: see `save`.

    Raises:
        ConfigError: Something cannot be tracked, a number is too small, two EMAs average one model and `weights` does
            not say which is meant, or the processes hold shards that cannot be put together here (FSDP 1).
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
        if mode not in ("min", "max"):
            raise ConfigError(f"`mode` must be `min` or `max`: {mode!r}")
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
        self._weights_folder = run.run_dir / "weights"
        self._keep_last, self._keep, self._num_best = keep_last, frozenset(keep), keep_best
        self._best, self._mode, self._max_shard_size = best, mode, max_shard_size
        tracked = {n: MetricState(thing, run.agreement) if is_metric(thing) else thing for n, thing in tracked.items()}
        self._tracked = tracked
        self._weights = _choose_weights(weights, tracked)
        if best is not None and not self._weights:
            self._reporter.warn("no weights will be written: no model is tracked, and `weights` names none")
        if trainable_only and run.accelerator.distributed_type is DistributedType.DEEPSPEED:
            raise ConfigError("`trainable_only` is not supported under DeepSpeed: use FSDP2")
        models = {n: self._prepared.unwrapped(thing) for n, thing in tracked.items() if isinstance(thing, nn.Module)}
        self._frozen, self._trainable_only = FrozenWeights(models, self._agreement), trainable_only
        self._others: list[str] = []  # optimizers of another class than in the checkpoint
        self._models, self._has_compared, self._keeps_types = models, False, True
        self._unsaved = UnsavedBuffers(models)
        self._unsaved.note()
        self._warn_of_metrics(models)
        self._given = self._given_now()
        self._chosen: tuple[Path | None] | None = None  # what `restore` goes on from, once it is known
        self._bests: list[tuple[float, int]] = []  # scores and their steps, the best first
        self._note_best()
        self._saved_step: int | None = None
        self.evaluation_is_due = False
        self._background = Background() if background else None
        self._writers = self._agreement  # those that write a checkpoint, in the background at a pace of their own
        if self._background is not None:
            processes = self._agreement.num_processes, self._agreement.rank
            self._writers = Agreement(*processes, is_for_thread=True)
            run.at_end(self._end_writing)

    def _warn_of_metrics(self, models: Mapping[str, nn.Module]) -> None:
        """Say of metrics within models that no checkpoint has what they add up: it is not of the model's state."""
        names = [f"{key}.{path}" for key, model in models.items() for path, m in model.named_modules() if is_metric(m)]
        if names:
            self._reporter.warn(
                f"what {', '.join(f'`{name}`' for name in names[:5])} adds up is in no checkpoint: pass metrics to "
                "`Checkpoints` by a name of their own, as in `accuracy=model.accuracy`"
            )

    def _end_writing(self) -> None:
        assert self._background is not None
        try:
            self._background.wait()
        finally:
            self._writers.close()

    @property
    def step(self) -> int:
        """The step that `restore` goes on from, before it does: 0 at the beginning. Afterwards, the run's step.

        For what is added on the way, such as param groups and layers, which must be there before `restore`. Collective.

        Raises:
            CheckpointError: There are checkpoints and none is good.
        """
        path = None if self._position.step else self._path()
        return self._position.step if path is None else int(read_metadata(path)["step"])

    def restore(self) -> int:
        """Load the newest good checkpoint of the run, if there is one, and set the run's place in its data.

        What the script gives otherwise than when the checkpoint's run was started stays as the script has it, with a line
        that says so: rates, decay and other fields of param groups, and the settings of schedules. In a new run from a
        checkpoint, what is not in the checkpoint starts fresh, an EMA from the restored weights.

        Collective. What was logged after the checkpoint is dropped, since the run will log it again.

        Returns:
            The step that the run stands at; 0 at the beginning.

        Raises:
            CheckpointError: A state cannot be saved, there are checkpoints and none is good, the newest is of another
                run, or the objects in it are not those tracked here.
        """
        self._given = self._given_now()
        self._check_states()
        if self._trainable_only:
            self._frozen.note()
        path = self._path()
        if path is None:
            return 0
        found: list[tuple[dict[str, Any], set[str]]] = []
        if self._run.accelerator.distributed_type is DistributedType.DEEPSPEED:  # whose loading is collective itself
            found.append(self._load_all(path))
        else:
            self._agreement.on_all(lambda: found.append(self._load_all(path)))
        objects, fresh = found[0]
        if self._run.fork is None:  # the weights and the checkpoint of another run are not in this one's folder
            self._saved_step = self._position.step
        self._agreement.on_main(lambda: self._tidy_up(path))
        self._reporter.say(f"resuming at step {self._position.step}, epoch {self._position.epoch}, from {path}")
        for line in [*self._start(fresh), *self._changes(objects, fresh)]:
            self._reporter.say(line)
        self._unsaved.note()
        return self._position.step

    def _load_all(self, path: Path) -> tuple[dict[str, Any], set[str]]:
        """Load a checkpoint; returns its objects and what of those tracked is not in it."""
        objects, metadata = read_checkpoint(path, lazily=True)
        state = objects.pop("run", None)
        state = in_memory(state)
        if not isinstance(state, dict):
            raise CheckpointError(f"`{path}` has no state of a run")
        if self._run.fork is None:
            self._check_settings(path, metadata)
        fresh = self._check_names(path, set(objects))
        left_out = {name: keys for name, keys in state.get("left_out", {}).items() if keys and name in self._tracked}
        if left_out:
            self._frozen.note(left_out)
        self._keeps_types = not any(self._has_other_types(name, objects.get(name, {})) for name in self._models)
        for name in self._in_loading_order():
            if name not in fresh:
                if name in left_out:
                    objects[name] = self._frozen.fill_in(name, objects[name], left_out[name])
                self._load(path, name, objects[name], state)
        try:
            self._run.load_state_dict(state)
            if type(self._position.step) is not int or self._position.step != metadata.get("step"):
                raise ValueError(f"its step is {self._position.step!r}, and its manifest's {metadata.get('step')!r}")
            self._bests = [] if self._run.fork else [(float(score), int(step)) for score, step in state["bests"]]
            self.evaluation_is_due = bool(state.get("evaluation_is_due", False))
            self._note_best()
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(f"`run` in `{path}` does not fit: {type(error).__name__}: {error}") from error
        return objects, fresh

    def keep_best(self, scores: Mapping[str, float]) -> bool:
        """If `scores` are the best so far, write `weights/best.safetensors`. The main process's decide. Collective.

        Of equal scores the later, trained longer, is the better one; a NaN is never the best.

        Returns:
            Whether they were.

        Raises:
            ConfigError: The score to choose by is not among them, or is no number.
        """
        self.evaluation_is_due = False
        if self._best is None:
            return False
        score = self._agreed_score(scores, self._best)
        if math.isnan(score):
            self._reporter.warn(
                f"the score `{self._best}` is nan: the weights of step {self._position.step} are not the best"
            )
            return False
        step, sign = self._position.step, 1 if self._mode == "min" else -1
        found = sorted([*self._bests, (score, step)], key=lambda best: (sign * best[0], -best[1]))
        self._bests = found[: self._num_best]
        self._note_best()
        if self._num_best > 1 and (score, step) in self._bests:
            self.save_weights(f"best-{step}")
        is_best = self._bests[0] == (score, step)
        if is_best:
            self.save_weights("best")
        return is_best

    def _note_best(self) -> None:
        """Have the status say by which score the best weights are chosen, and its best value so far."""
        if self._record is not None and self._best is not None:
            score, step = self._bests[0] if self._bests else (None, None)
            finite = score if score is None or math.isfinite(score) else None
            self._record.best = {"score": self._best, "mode": self._mode, "value": finite, "step": step}

    def check_scores(self, scores: Mapping[str, float]) -> None:
        """Check that `keep_best` can choose by these scores, of `Run.rehearsal` for example. Collective.

        Raises:
            ConfigError: The score to choose by is not among them, or is no number.
        """
        if self._best is not None:
            self._agreed_score(scores, self._best)

    def _agreed_score(self, scores: Mapping[str, Any], name: str) -> float:
        """The main process's score, with a warning where another process has another one. Collective."""
        own, problem = float("nan"), None
        if name not in scores:
            others = f"there are {', '.join(scores)}" if scores else "there are none, as the evaluation saw no sample"
            problem = f"No score `{name}` to choose the best by: {others}"
        else:
            try:
                own = float(scores[name])
            except (TypeError, ValueError, RuntimeError):
                problem = f"The score `{name}` to choose the best by is no number: {scores[name]!r}"
        found = self._agreement.gather((own, problem))
        score, problem = found[0]
        if problem:
            raise ConfigError(problem)
        if len({repr(other) for other, _ in found}) > 1:
            values = ", ".join(f"{other:g}" for other, _ in found[:8])
            self._reporter.warn(f"the processes have different scores `{name}` ({values}): that of process 0 counts")
        return score

    def save(self, *, then_evaluate: bool = False) -> None:
        """Save everything as it stands at this step; a second call at the same step does nothing.

        Collective. All processes wait until the files are on disk, or copied where they are written in the background,
        and all raise if that failed.

        Args:
            then_evaluate: An evaluation of this step follows. A run that goes on from here has `evaluation_is_due`, so
                that its loop makes the evaluation first, whether or not it was made before.

        Raises:
            NonFiniteError: A gradient since the last log point was not finite, and may not be skipped.
            AgreementError: The processes have different learning rates or other fields of param groups.
            OSError: The disk is full or cannot be written; what was there before still stands.
        """
        step, epoch = self._position.step, self._position.epoch
        if self._saved_step == step:
            return
        started = perf_counter()
        self._check_rates()
        self._compare_weights()
        if step and (changed := self._unsaved.take_changed()):
            self._reporter.warn(
                f"training changes {', '.join(f'`{name}`' for name in changed)}, and `persistent=False` keeps it out of "
                "checkpoints and weights: a resumed run begins it afresh. Register it as a persistent buffer"
            )
        run_state = self._run.state_dict() | {
            "bests": [list(best) for best in self._bests],
            "evaluation_is_due": then_evaluate,
            "given": self._given | self._names_now(),
        }
        objects = {name: self._state_of(thing) for name, thing in self._tracked.items()} | {"run": run_state}
        if self._trainable_only:
            run_state["left_out"] = left_out = self._frozen.unchanged()
            for name, hashes in left_out.items():
                objects[name] = {key: value for key, value in objects[name].items() if key not in hashes}
        best_steps = {step for _, step in self._bests}
        metadata = {"step": step, "num_processes": self._agreement.num_processes, "settings": self._run.fixed_settings}

        final, encoded = self._folder / f"step-{step}", self._encoded(objects)
        is_sharded = any(isinstance(tensor, Shard) for _, tensors in encoded.values() for tensor in tensors.values())

        def after() -> None:
            self._prune(best_steps)
            if self._record is not None:
                self._record.write_status("running", step, epoch)

        def write(encoded: Encoded) -> None:
            if is_sharded:
                write_sharded(final, encoded, metadata, self._writers)
                self._writers.on_main(after)
            else:
                write_encoded(final, encoded, metadata)
                after()

        def submit() -> None:
            if self._background is None:
                write(encoded)
            else:
                copy = {name: (tree, copied(tensors)) for name, (tree, tensors) in encoded.items()}
                self._background.submit("checkpoint", lambda: write(copy))

        if not is_sharded:
            self._agreement.on_main(submit)
        elif self._background is None:
            submit()
        else:
            self._agreement.on_all(submit)
        self._saved_step = step
        self._reporter.throughput.other_seconds += perf_counter() - started

    def _encoded(self, objects: dict[str, Any]) -> Encoded:
        """What this process writes: on the main one everything, on others shards. Collective."""
        found: Encoded = {}
        self._agreement.on_all(lambda: found.update(encode_objects(objects)))
        if self._agreement.rank == 0:
            return found
        shards = {
            name: {n: t for n, t in tensors.items() if isinstance(t, Shard)} for name, (_, tensors) in found.items()
        }
        return {name: (None, tensors) for name, tensors in shards.items()}

    def save_weights(self, name: str) -> None:
        """Write `weights/<name>.safetensors`: the weights that are evaluated, the EMA's where one is tracked.

        Of several models, `model` has this file, and each other one `<name>-<model>.safetensors`. Above
        `max_shard_size` it is the folder `weights/<name>`. Weights that are sharded are gathered and written at once, one
        tensor at a time, in the background or not. Collective.

        Raises:
            NonFiniteError: A gradient since the last log point was not finite, and may not be skipped.
            OSError: The disk is full or cannot be written.
        """
        self._run.guard.check()
        if not self._weights:
            self._reporter.warn(f"no weights `{name}` are written: no model is tracked, and `weights` names none")
        metadata = {"step": str(self._position.step)}
        for key, (model, average) in self._weights.items():
            file = name if key == "model" or len(self._weights) == 1 else f"{name}-{key}"
            path = self._weights_folder / f"{file}.safetensors"

            def write(state: dict[str, Any], path: Path = path, writes: bool = True) -> None:
                write_weights(path, state, metadata, max_shard_size=self._max_shard_size, writes=writes)

            with average.swapped_in() if average else nullcontext():
                state = self._state_of(model, spread=False)
                if any(isinstance(value, Shard) for value in state.values()):
                    is_main = self._agreement.rank == 0
                    self._agreement.on_all(lambda: write(state, writes=is_main))  # noqa: B023
                else:
                    self._write(f"weights {key}", state, write)

    def _state_of(self, thing: Any, *, spread: bool = True) -> Any:
        if isinstance(thing, EMA):
            return self._prepared.parts_of(thing.state_dict(whole=False))
        return self._prepared.state_of(thing, spread=spread)

    def _write(self, kind: str, state: dict[str, Any], write: Callable[[dict[str, Any]], None]) -> None:
        """Let the main process write, now or in the background. Collective."""

        def submit() -> None:
            if self._background is None:
                write(state)
            else:
                copy = on_host(state)
                self._background.submit(kind, lambda: write(copy))

        self._agreement.on_main(submit)

    def _path(self) -> Path | None:
        """What to go on from; the same on all processes, and looked for once. Collective."""
        if self._chosen is None:
            self._chosen = (self._choose(),)
        return self._chosen[0]

    def _choose(self) -> Path | None:
        """The newest good checkpoint, with a warning for each that is not. Collective."""
        found = self._agreement.on_main(lambda: list_checkpoints(self._folder))
        for step, path in found:
            problem = self._problem_of(path, step)
            if problem is None:
                return path
            self._reporter.warn(f"{path} is damaged ({problem}): falling back to the checkpoint before it")
        if found:
            raise CheckpointError(f"All {len(found)} checkpoints in `{self._folder}` are damaged")
        origin = self._run.fork
        if origin is None:
            self._agreement.on_main(self._cut_back_metrics)  # killed before its first checkpoint: starts again
        elif problem := self._problem_of(origin):
            raise CheckpointError(f"`{origin}` cannot be resumed from: {problem}")
        return origin

    def _problem_of(self, path: Path, step: int | None = None) -> str | None:
        """What is wrong with a checkpoint, of which each process looks at some of the files. Collective."""
        problem = verify_checkpoint(path, self._agreement.rank, self._agreement.num_processes)
        if problem is None and step is not None and (saved := read_metadata(path).get("step", step)) != step:
            problem = f"it was saved at step {saved}"
        return next((found for found in self._agreement.gather(problem) if found is not None), None)

    def _given_now(self) -> dict[str, Any]:
        """What the script has given its optimizers and schedulers, by the name under which they are tracked."""
        parameters = {
            id(parameter): f"{name}.{path}"
            for name, thing in self._tracked.items()
            if isinstance(thing, nn.Module)
            for path, parameter in self._prepared.unwrapped(thing).named_parameters()
        }
        found = {name: given(thing, parameters) for name, thing in self._tracked.items()}
        return {name: value for name, value in found.items() if value is not None}

    def _names_now(self) -> dict[str, Any]:
        """What was given to the optimizers, with the names of the parameters that have been added since."""
        return {
            name: self._given[name] | {"names": now["names"]}
            for name, now in self._given_now().items()
            if has_groups(self._tracked[name])
        }

    def _check_states(self) -> None:
        """Find what cannot be saved before the first step, not at the first save. Collective."""
        states: dict[str, Any] = {"given": self._given}
        for name, thing in self._tracked.items():
            try:
                states[name] = self._state_of(thing)
            except (AgreementError, ConfigError):
                raise
            except Exception:  # it may have no state before its first step
                continue
        encode_objects(states, may_grow=True)

    def _check_settings(self, path: Path, metadata: Mapping[str, Any]) -> None:
        """A checkpoint of another run, put into this one's folder, or a run whose `config.json` was lost."""
        saved = metadata.get("settings")
        if not isinstance(saved, dict):  # of paccel 0.1
            return
        _, may_not = self._run.compare_settings(self._run.fixed_settings, saved, {"precision"})
        if may_not:
            raise CheckpointError(
                f"`{path}` was saved with other settings:\n" + "".join(f"  {line}\n" for line in may_not) + ""
                f"For a new run from it, pass `--resume {path}` and another `--run-dir`"
            )

    def _check_names(self, path: Path, saved: set[str]) -> set[str]:
        """Compare what is saved with what is tracked; returns what starts fresh, as it may in a new run."""
        missing, unknown = sorted(set(self._tracked) - saved), sorted(saved - set(self._tracked))
        problems = []
        if missing:
            problems.append(f"the checkpoint has no {', '.join(f'`{name}`' for name in missing)}")
        if unknown:
            names = ", ".join(f"`{name}`" for name in unknown)
            problems.append(f"the checkpoint has {names}, not passed to `Checkpoints`")
        if not problems:
            return set()
        if self._run.fork is None or len(missing) == len(self._tracked):
            raise CheckpointError(
                f"`{path}` does not fit what is tracked: {'; '.join(problems)}. A new run from it may differ: pass "
                f"`--resume {path}` and another `--run-dir`"
            )
        if unknown:
            self._reporter.say(problems[-1])
        return set(missing)

    def _has_other_types(self, name: str, saved: Mapping[str, Any]) -> bool:
        """Whether parameters of a model have other types than they were saved with."""
        now = self._models[name].named_parameters()
        return any(getattr(saved.get(key), "dtype", p.dtype) != p.dtype for key, p in now)

    def _in_loading_order(self) -> list[str]:
        """Schedulers after the optimizers whose groups they set, otherwise as they are tracked."""
        first = {name for name, thing in self._tracked.items() if isinstance(thing, nn.Module) or has_groups(thing)}
        return sorted(self._tracked, key=lambda name: name not in first)

    def _load(self, path: Path, name: str, saved: Any, run_state: Mapping[str, Any]) -> None:
        """Give one tracked object its state, with what the script gives otherwise. Collective where it is sharded."""
        thing, is_new_run = self._tracked[name], self._run.fork is not None
        try:
            before, now = run_state.get("given", {}).get(name), self._given.get(name)
            if has_groups(thing):
                if was := class_before(before, now):
                    self._others.append(f"`{name}` was `{was}`, and starts fresh as `{type(thing).__name__}`")
                merged = optimizer_state(saved, before, now, is_new_run=is_new_run)
                self._prepared.load(thing, merged, keeps_types=self._keeps_types)
            elif now is not None:
                place = run_state["position"]["step"], run_state["position"]["epoch"]
                groups: list[dict[str, Any]] = []
                for other, optimizer in self._tracked.items():
                    if has_groups(optimizer) and _is_of(thing, optimizer):
                        groups = self._given[other]["groups"]
                load_scheduler(
                    thing, in_memory(saved), before, now, groups, is_new_run=is_new_run, step=place[0], epoch=place[1]
                )
            else:
                self._prepared.load(thing, saved if isinstance(thing, nn.Module | EMA) else in_memory(saved))
        except AgreementError:
            raise
        except Exception as error:  # of any object's own way to load
            what = str(error) if isinstance(error, ValueError | RuntimeError) else f"{type(error).__name__}: {error}"
            raise CheckpointError(
                f"`{name}` in `{path}` does not fit: {what.rstrip('.')}. What is added on the way, such as param groups or layers, "
                "must be there before `restore`: `checkpoints.step` is the step that it goes on from"
            ) from error

    def _start(self, fresh: set[str]) -> list[str]:
        """Begin with what the checkpoint does not have; a line for each."""
        lines, self._others = self._others, []
        for name in sorted(fresh):
            thing = self._tracked[name]
            if isinstance(thing, EMA):
                thing.restart()
            how = "from the restored weights" if isinstance(thing, EMA) else "as the script has made it"
            lines.append(f"`{name}` is not in the checkpoint: it starts {how}")
        return lines

    def _changes(self, objects: Mapping[str, Any], fresh: set[str]) -> list[str]:
        """A line for each schedule and optimizer that goes on otherwise than it was saved."""
        lines: list[str] = []
        explained: set[str] = set()
        for name, thing in self._tracked.items():
            if isinstance(thing, Schedule) and name not in fresh and (line := thing.change_since(objects[name])):
                lines.append(line)
                explained |= thing.curves.keys()
        for name, thing in self._tracked.items():
            if has_groups(thing) and name not in fresh and isinstance(objects[name], dict):
                text = changes(objects[name].get("param_groups", ()), thing.param_groups, explained)
                lines += [f"`{name}` goes on with other settings than in the checkpoint: {text}"] if text else []
        return lines

    def _check_rates(self) -> None:
        """All processes make the same updates; a scheduler that was given each one's own score would end that. Collective."""
        if self._agreement.num_processes == 1:
            return
        own = {
            f"{field} of `{name}`": [_numbers(group.get(field)) for group in thing.param_groups]
            for name, thing in self._tracked.items()
            if has_groups(thing)
            for field in _MUST_AGREE
        }
        found = self._agreement.gather(own)
        for rank, other in enumerate(found):
            for what, values in other.items():
                if values != found[0][what]:
                    raise AgreementError(
                        f"The processes differ in {what}: {found[0][what]} on process 0, {values} on process {rank}. A "
                        "scheduler that is given a score must be given the same one on all, as `Meter.read` returns it"
                    )

    def _compare_weights(self) -> None:
        """Say once of a model that each process has trained on its own, as without `run.prepare`. Collective."""
        if self._has_compared or self._agreement.num_processes == 1:
            return
        self._has_compared = True
        own = {name: sums for name, thing in self._models.items() if (sums := _sums_of_weights(thing)) is not None}
        for rank, other in enumerate(found := self._agreement.gather(own)):
            if differing := [name for name in own if not math.isclose(other[name], found[0][name], rel_tol=1e-5)]:
                self._reporter.warn(
                    f"the weights of {', '.join(f'`{name}`' for name in differing)} differ between process 0 and {rank}, "
                    "and those of process 0 are saved: pass each model that is trained to `run.prepare`"
                )
                return

    def _prune(self, best_steps: set[int]) -> None:
        """Remove what is neither among the last, nor among the best, nor to be kept."""
        for step, path in list_checkpoints(self._folder)[self._keep_last :]:
            if step not in self._keep:
                remove_checkpoint(path)
        for path in self._weights_folder.glob("best-*"):
            match = _OF_THE_BEST.fullmatch(path.name)
            if match and int(match[1]) not in best_steps:
                remove_weights(path)  # last, as a run that goes on from an older checkpoint finds its best again

    def _tidy_up(self, restored: Path) -> None:
        """Drop what was logged after the checkpoint, and end the pruning in which the run may have been killed."""
        self._cut_back_metrics()
        if self._run.fork is None:
            for folder in (self._folder, self._weights_folder):
                remove_leftovers(folder)
        found = list_checkpoints(self._folder)
        if found and found[0][1] == restored:  # nothing is damaged, so nothing older is needed
            self._prune({step for _, step in self._bests})

    def _cut_back_metrics(self) -> None:
        if self._record is not None:
            self._record.cut_back(self._position.step)


_MUST_AGREE = ("lr", "weight_decay", "momentum", "betas")


def _sums_of_weights(model: nn.Module) -> float | None:
    """What two copies of a model have alike; None where each process has a part of it."""
    parameters = [parameter.detach() for parameter in model.parameters() if not is_lazy(parameter)]
    if not parameters or any(map(is_sharded, parameters)):
        return None
    return float(sum(parameter.abs().sum(dtype=torch.float64) for parameter in parameters))


def _numbers(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_numbers(item) for item in value]
    return value if value is None else float(value)


def _is_of(scheduler: Any, optimizer: Any) -> bool:
    """Whether a scheduler sets the groups of an optimizer, in accelerate's wrapper or not."""
    own = getattr(scheduler, "optimizer", None)
    return own is optimizer or own is getattr(optimizer, "optimizer", optimizer)


def _choose_weights(
    weights: Mapping[str, nn.Module | EMA] | None, tracked: Mapping[str, Any]
) -> dict[str, tuple[nn.Module, EMA | None]]:
    """What becomes files of weights: each model, and the average that is evaluated in its place."""
    if weights is None:
        modules = {name: thing for name, thing in tracked.items() if isinstance(thing, nn.Module)}
        weights = {n: m for n, m in modules.items() if next(m.parameters(), None) is not None} or modules
    averages = {name: thing for name, thing in tracked.items() if isinstance(thing, EMA)}
    found: dict[str, tuple[nn.Module, EMA | None]] = {}
    for name, thing in weights.items():
        if isinstance(thing, EMA):
            found[name] = thing.model, thing
        elif isinstance(thing, nn.Module):
            own = [key for key, average in averages.items() if average.averages(thing)]
            if len(own) > 1:
                both = " and ".join(f"`{key}`" for key in own)
                each = ", ".join(f'"{key}": {key}' for key in own)
                raise ConfigError(
                    f'{both} average `{name}`: say which becomes its weights, as in `weights={{"{name}": {own[0]}}}`, or '
                    f"write a file of each: `weights={{{each}}}`"
                )
            found[name] = thing, averages[own[0]] if own else None
        else:
            raise ConfigError(f"`weights` takes models and EMAs: `{name}` is a `{type(thing).__name__}`")
    return found


def load_run(config_class: type[T], run_dir: Path | None = None, **changes: Any) -> tuple[Path, T]:
    """The settings of a run, as an instance of its `Config`.

    Fields that the `Config` has got since have their defaults, those that it has lost are left out; a line on standard
    error names them.

    Args:
        config_class: The dataclass that the run was started with.
        run_dir: The run; None is the newest one under `runs/` that has weights.
        changes: Settings to take instead of the run's, such as where its data lies now. None is as in the run.

    Raises:
        ConfigError: There is no such run, or its settings do not fit the dataclass.
    """
    if run_dir is None:
        found = [*RUNS.glob("*/weights/*.safetensors"), *RUNS.glob("*/weights/*/*.safetensors.index.json")]
        runs = sorted(found, key=lambda path: path.stat().st_mtime)
        if not runs:
            raise ConfigError(f"No run with weights under `{RUNS}`: train one first, or pass `--run-dir`")
        run_dir = RUNS / runs[-1].relative_to(RUNS).parts[0]
    settings = Record(run_dir).settings()
    if settings is None:
        raise ConfigError(f"`{run_dir}` is not a run directory: it has no `config.json`")
    config = config_from_dict(config_class, settings)
    lines, _ = compare_settings(config_class, config_to_dict(config), settings)
    if lines and local_rank() == 0:
        print(
            f"note: {run_dir} was started with another `{config_class.__name__}`: {', '.join(lines)}", file=sys.stderr
        )
    given = {name: value for name, value in changes.items() if value is not None}
    return run_dir, replace(config, **given)  # type: ignore[type-var]


def load_weights(path: Path, model: nn.Module, *, strict: bool = True) -> list[str]:
    """Load weights into a model that is not wrapped yet, or sharded by FSDP2, of which each process reads its part.

    A file that paccel wrote is checked against its hash. One without a hash, as others write it, is loaded with a line
    that says so.

    Args:
        path: The file, or a folder with one or with a `model.safetensors.index.json`. Where `NAME.safetensors` is not
            there, the folder `NAME`.
        model: The model, or a part of one.
        strict: Whether a difference in names or shapes is an error. Otherwise what fits is loaded, and the rest printed.

    Returns:
        A line for each weight that does not fit; none with `strict`.

    Raises:
        CheckpointError: The file is missing or damaged, or its weights are not those of the model; lists them.
    """
    metadata, differences = read_weights(path, model, strict=strict)
    if os.environ.get("RANK", "0") == "0":
        if not has_hash(metadata):
            progress.say(f"{path} has no hash of paccel's: damage to it would not be noticed")
        if differences:
            progress.say("\n  ".join([f"{path} does not fit the model in all, the rest is loaded:", *differences]))
    return differences
