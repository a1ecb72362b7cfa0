"""Replay part of a run and compare the result with what the run recorded, byte for byte.

The replay resumes from a copy of a checkpoint in a scratch folder, with the run's own code and settings. The run itself is
only read.
"""

import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import PreconditionError, UsageError
from ..files.scratch import scratch_dir
from ..runs.folder import RunFolder, parse_row, read_run, require_run
from .code import Code, find_root, restore_code
from .start import STOPPED, last_lines, num_processes, script_command, script_environment, settings_file, started
from .tensors import compare_checkpoints, compare_tensors, step_of

_STEP = re.compile(r"step-(\d+)")
_ENVIRONMENT = ("threads", "cpu", "gpu", "cuda", "num_processes", "precision", "launch")


class Span(NamedTuple):
    """The steps to replay: those after `start`, up to and including `until`.

    Attributes:
        start: The step of the checkpoint to resume from; 0 is the beginning of the run.
        until: The last step.
        has_checkpoint: Whether the run has a checkpoint of the last step.
    """

    start: int
    until: int
    has_checkpoint: bool


class Certificate(NamedTuple):
    """The result of a replay.

    Attributes:
        run: The run directory.
        span: The steps that were replayed.
        code: The code that was used.
        metrics: The number of equal lines of metrics.
        tensors: The number of equal tensors; 0 if there was no checkpoint to compare.
        size: The bytes of these tensors.
        difference: The first difference, in words; None if there is none.
        step: The step at which it was found: of the metrics, or of the checkpoint.
        causes: How code, data, versions and hardware differ from the run.
        checkpoint: SHA-256 of the manifest of the checkpoint that was compared.
        environment: Versions, threads and hardware of the replay.
    """

    run: str
    span: Span
    code: Code
    metrics: int
    tensors: int
    size: int
    difference: str | None
    step: int | None
    causes: tuple[str, ...]
    checkpoint: str | None
    environment: Mapping[str, Any]

    @property
    def is_verified(self) -> bool:
        return self.difference is None

    def to_json(self) -> dict[str, Any]:
        return {
            "verdict": "verified" if self.is_verified else "differs",
            "run": self.run,
            "from_step": self.span.start + 1,
            "to_step": self.span.until,
            "compared": {"metrics": self.metrics, "tensors": self.tensors, "bytes": self.size},
            "difference": self.difference,
            "step": self.step,
            "causes": list(self.causes),
            "code": {"from": self.code.origin, "changed": list(self.code.changed)},
            "checkpoint_sha256": self.checkpoint,
            "environment": dict(self.environment),
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }


def verify_run(
    path: Path, *, steps: int | None = None, current: bool = False, tell: Callable[[str], None] = lambda text: None
) -> Certificate:
    """Replay part of a run and compare the result with the run.

    Args:
        path: The run directory.
        steps: The maximum number of steps to replay. None: from the last checkpoint but one to the last.
        current: Use the project's files as they are now, not those of the run.
        tell: Takes a line of progress.

    Raises:
        UsageError: `path` is not a run, or nothing was recorded within `steps`.
        PreconditionError: There is nothing to compare with, or the replay cannot be started.
    """
    run = require_run(path)
    root = find_root(run)
    with scratch_dir() as scratch:
        code = restore_code(run, root, scratch, current=current)
        span = choose_span(run, steps)
        copy = scratch / "run"
        copy_run(run, span.start, copy)
        # The last checkpoint was saved on schedule, or because the run was stopped there. The replay has to do the same.
        was_stopped = run.state == "stopped" and run.step == span.until
        failure = ""
        for saves in (was_stopped, not was_stopped):
            tell(f"Replaying steps {span.start + 1} to {span.until}")
            failure = _replay(run, root, code, scratch, span, saves=saves)
            if failure or not span.has_checkpoint or _checkpoint(copy, span.until).is_dir():
                break
            shutil.rmtree(copy)
            copy_run(run, span.start, copy)
        return _compare(run, copy, span, code, failure)


def find_non_finite(path: Path, *, tell: Callable[[str], None] = lambda text: None) -> tuple[int, str | None]:
    """Replay a run from its last checkpoint, checking the output of every module, until a number is not finite.

    Returns:
        The last step that was replayed, and where the number first appears; None if there is none.

    Raises:
        UsageError: `path` is not a run.
        PreconditionError: The replay cannot be started, or fails for another reason.
    """
    run = require_run(path)
    root = find_root(run)
    with scratch_dir() as scratch:
        code = restore_code(run, root, scratch)
        start = max([step for step in list_steps(run.path) if step < run.step], default=0)
        span = Span(start, max(run.step, start + 1), has_checkpoint=False)
        copy_run(run, start, scratch / "run")
        tell(f"Replaying steps {start + 1} to {span.until}")
        failure = _replay(run, root, code, scratch, span, saves=False, PACCEL_FIND_NON_FINITE="1")
        replay = read_run(scratch / "run")
        if not failure:
            return replay.step, None
        kind, _, found = (replay.reason or "").partition("NonFiniteError: ")
        if not found:
            raise PreconditionError(f"The replay of `{path}` failed: {failure or kind}")
        return replay.step, found


def choose_span(run: RunFolder, steps: int | None) -> Span:
    """Choose the steps to replay.

    Raises:
        PreconditionError: The run has neither a checkpoint nor metrics.
        UsageError: `steps` is below 1, or nothing was recorded within so few steps of a checkpoint.
    """
    if steps is not None and steps < 1:
        raise UsageError(f"`--steps {steps}` must be at least 1")
    saved = list_steps(run.path)
    last = max([*saved[-1:], *(int(row["step"]) for row in run.last_rows())], default=0)
    if last < 1:
        raise PreconditionError(f"`{run.path}` has neither a checkpoint nor metrics: there is nothing to compare with")
    if steps is None:
        until = saved[-1] if saved else last
        return Span(max((step for step in saved if step < until), default=0), until, bool(saved))
    starts = [0, *saved]
    logged = sorted({int(row["step"]) for row in run.last_rows()})
    if spans := _spans(starts, saved, steps):
        until = spans[-1][1]  # the last checkpoint that is near enough to another one, replayed from as far as possible
        return Span(min(start for start, end in spans if end == until), until, True)
    if spans := _spans(starts, logged, steps):
        return Span(*max(spans), False)
    least = min(end - start for start, end in _spans(starts, [*saved, *logged], math.inf))
    raise UsageError(
        f"`{run.path}` has recorded nothing within {steps} steps of a checkpoint: use at least `--steps {least}`"
    )


def _spans(starts: Sequence[int], ends: Sequence[int], steps: float) -> list[tuple[int, int]]:
    """Return the pairs of a start and a later end that are at most `steps` apart, in the order of the ends."""
    return [(start, end) for end in ends for start in starts if start < end <= start + steps]


def list_steps(run: Path) -> list[int]:
    """Return the steps of a run's checkpoints, in ascending order."""
    found = [(_STEP.fullmatch(path.name), path) for path in (run / "checkpoints").glob("step-*")]
    return sorted(int(match[1]) for match, path in found if match and (path / "manifest.json").is_file())


def copy_run(run: RunFolder, step: int, target: Path) -> None:
    """Copy what a run needs to resume from a checkpoint: settings, metrics, and links to the checkpoint and the weights.

    Raises:
        PreconditionError: The files of the run cannot be read.
    """
    try:
        target.mkdir()
        config = json.loads((run.path / "config.json").read_bytes())
        origin = config.get("forked_from")
        if isinstance(origin, str):
            config["forked_from"] = os.path.abspath(find_root(run) / origin)
        (target / "config.json").write_text(json.dumps(config), encoding="utf-8")
        if run.metrics_path.is_file():
            shutil.copyfile(run.metrics_path, target / "metrics.jsonl")
        folders = ["weights", *([f"checkpoints/step-{step}"] if step else [])]
        for folder in folders:
            for path in (run.path / folder).glob("*"):
                (target / folder).mkdir(parents=True, exist_ok=True)
                (target / folder / path.name).symlink_to(path.resolve())
    except (OSError, ValueError) as error:
        raise PreconditionError(f"`{run.path}` cannot be copied: {error}") from error


def _replay(run: RunFolder, root: Path, code: Code, scratch: Path, span: Span, *, saves: bool, **variables: str) -> str:
    """Run the script for the steps. Returns how it failed; empty if it did not.

    Raises:
        PreconditionError: It cannot be started.
    """
    request = {"run_dir": str(scratch / "run"), "until": span.until, "saves": saves}
    settings = scratch / "settings.toml"
    settings.write_text(settings_file(run.settings), encoding="utf-8")
    command = [*script_command(root, run.program, num_processes(run)), "--config", str(settings)]
    environment = script_environment(run, PACCEL_REPLAY=json.dumps(request), PYTHONDONTWRITEBYTECODE="1", **variables)
    output = scratch / "output.txt"
    with output.open("wb") as file, started(command, code.folder, environment, file) as process:
        exit_code = process.wait()
    if exit_code in (0, STOPPED):
        return ""
    said = last_lines(output)
    # `torchrun` exits with 1 if its processes exited with 75.
    if num_processes(run) > 1 and read_run(scratch / "run").state in ("stopped", "finished"):
        return ""
    return said or f"exit code {exit_code}"


def _checkpoint(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"step-{step}"


def _compare(run: RunFolder, copy: Path, span: Span, code: Code, failure: str) -> Certificate:
    replay = read_run(copy)
    causes = find_causes(run, replay, code)
    metrics, step, difference = _compare_metrics(run, replay, span)
    tensors = size = 0
    manifest = None
    if difference is None and failure:
        difference, step = f"the replay failed: {failure}", replay.step or span.start + 1
        changed = re.search(r"differs from that of the checkpoint: (.+?)\. ", failure)
        if changed and not any(cause.startswith("the data") for cause in causes):
            causes += (f"the data: {changed[1]}",)
    if difference is None and span.has_checkpoint:
        there = _checkpoint(copy, span.until)
        if not there.is_dir():
            difference, step = f"the replay saved no checkpoint at step {span.until}", span.until
        else:
            own = _checkpoint(run.path, span.until)
            manifest = hashlib.sha256((own / "manifest.json").read_bytes()).hexdigest()
            tensors, size, difference = compare_checkpoints(own, there)
            step = span.until if difference else None
    for name, written in _new_weights(run, copy, span) if difference is None else ():
        found = compare_tensors(run.path / "weights" / name, copy / "weights" / name)
        tensors, size = tensors + found.tensors, size + found.size
        if found.difference:
            difference, step = f"{found.difference} (in `weights/`)", written
            break
    environment = {name: replay.environment[name] for name in _ENVIRONMENT if name in replay.environment}
    return Certificate(
        run=str(run.path),
        span=span,
        code=code,
        metrics=metrics,
        tensors=tensors,
        size=size,
        difference=difference,
        step=step,
        causes=causes,
        checkpoint=manifest,
        environment={"versions": dict(replay.versions), **environment},
    )


def _new_weights(run: RunFolder, copy: Path, span: Span) -> Sequence[tuple[str, int]]:
    """Return the weight files that the replay has written at replayed steps of the run, with the run's step of each."""
    written = [path for path in sorted((copy / "weights").glob("*.safetensors")) if not path.is_symlink()]
    found = [(path.name, step_of(run.path / "weights" / path.name)) for path in written]
    return [(name, step) for name, step in found if step is not None and span.start < step <= span.until]


def _compare_metrics(run: RunFolder, replay: RunFolder, span: Span) -> tuple[int, int | None, str | None]:
    """Compare the metrics of the replayed steps. Returns the number of equal lines, and step and text of a difference."""
    ours, theirs = _lines(run.metrics_path, span), _lines(replay.metrics_path, span)
    same = 0
    for (step, names), values in ours.items():
        other = theirs.get((step, names))
        if other is None:
            if replay.step < step:
                break  # the replay failed before; the failure is reported
            return same, step, f"the run logged {', '.join(names)} at step {step}, the replay did not"
        for name in names:
            if values[name] != other[name]:
                return same, step, f"`{name}` is {values[name]!r}, and {other[name]!r} in the replay"
        same += 1
    return same, None, None


def _lines(path: Path, span: Span) -> dict[tuple[int, tuple[str, ...]], dict[str, Any]]:
    """Return the lines of metrics of the steps, by step and names, without wall-clock times."""
    found: dict[tuple[int, tuple[str, ...]], dict[str, Any]] = {}
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        if (row := parse_row(line)) is not None and span.start < row["step"] <= span.until:
            names = tuple(name for name in row if "/" in name and not name.startswith("time/"))
            found[int(row["step"]), names] = {n: "NaN" if math.isnan(v) else v for n, v in row.items()}
    return found


def find_causes(run: RunFolder, replay: RunFolder, code: Code) -> tuple[str, ...]:
    """Return how code, data, versions, threads and hardware differ from the run."""
    causes = [f"the code: {', '.join(code.changed)}"] if code.changed else []
    causes += [f"the data: {line}" for line in _data_changes(run.data or {}, replay.data or {})]
    for name in sorted(run.versions.keys() & replay.versions.keys()):
        if run.versions[name] != replay.versions[name]:
            causes.append(f"the version of {name}: {run.versions[name]}, now {replay.versions[name]}")
    words = {
        "threads": "the number of CPU threads",
        "cpu": "the CPU",
        "gpu": "the GPU",
        "launch": "the launcher's options",
    }
    for name in _ENVIRONMENT:
        before, now = run.environment.get(name), replay.environment.get(name)
        if name in run.environment and before != now:
            causes.append(f"{words.get(name, name)}: {before}, now {now}")
    return tuple(causes)


def _data_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Sequence[str]:
    lines = []
    for use in before.keys() & now.keys():
        for name, known in before[use].items():
            other = now[use].get(name)
            if other is not None and other != known:
                what = "to train on" if use == "train" else "to evaluate on"
                samples = known.get("samples"), other.get("samples")
                more = f"{samples[0]} samples, now {samples[1]}" if samples[0] != samples[1] else "different content"
                lines.append(f"{more} {what}")
    return lines
