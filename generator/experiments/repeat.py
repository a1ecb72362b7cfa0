"""Run a project's training script several times: over seeds and a grid of settings, side by side, and on from where it was.

Each run has a folder whose name says what is set in it, so the same command finds what is finished and continues the rest.
"""

import contextlib
import itertools
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import PreconditionError, UsageError, did_you_mean
from ..runs.fields import NOT_COMPARED, text_of
from ..runs.folder import FINISHED, RUNNING, RunFolder, is_run, read_run
from .code import changed_since
from .start import (
    SECONDS_TO_END,
    STOPPED,
    last_lines,
    num_processes,
    script_command,
    script_environment,
    settings_file,
    started,
)

_POLL = 0.1  # seconds
_NOT_REPEATED = {"run_dir", "resume"}


class Job(NamedTuple):
    """One run to make.

    Attributes:
        name: What is set in it.
        run_dir: Its folder.
        settings: All of its settings.
        folder: Of the code: where the script is started.
        start: The checkpoint that it starts from; None is from the beginning.
    """

    name: str
    run_dir: Path
    settings: Mapping[str, Any]
    folder: Path
    start: Path | None = None


class Outcome(NamedTuple):
    """How a job ended: `finished`, `stopped`, `failed` or `running` elsewhere, and why."""

    job: Job
    state: str
    reason: str = ""


def parse_seeds(text: str, first: Any) -> list[int]:
    """The seeds that `--seeds` asks for: `5` is five from the run's own on, `3,4,7` or `3,` are these.

    Raises:
        UsageError: It is neither.
    """
    try:
        if "," in text:
            seeds = [int(part) for part in text.split(",") if part.strip()]
        else:
            start = first if isinstance(first, int) else 0
            seeds = [*range(start, start + int(text))]
    except ValueError:
        seeds = []
    if not seeds or len({*seeds}) < len(seeds) or min(seeds) < 0:
        raise UsageError(f"`--seeds {text}` is no number of seeds such as `5`, and no list such as `0,1,2`")
    return seeds


def parse_grid(given: Sequence[str], settings: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The values of each setting that `--set name=value,value` varies.

    Raises:
        UsageError: A setting is unknown, has no value or one of another kind, or something is given twice.
    """
    grid: dict[str, list[Any]] = {}
    for text in given:
        name, sign, values = text.partition("=")
        name = name.strip().replace("-", "_")
        if not sign or not values:
            raise UsageError(f"`--set {text}` has no value: write `--set learning_rate=1e-3,3e-3`")
        if name in _NOT_REPEATED or name not in settings:
            raise UsageError(f"`--set {text}`: the run has no setting `{name}` to vary{did_you_mean(name, settings)}")
        if name in grid:
            raise UsageError(f"`{name}` is set twice: put all its values into one `--set {name}=…,…`")
        grid[name] = [_value(name, part, settings[name]) for part in re.split(r",(?![^\[{]*[\]}])", values)]
        texts = [text_of(value) for value in grid[name]]
        if twice := [value for value in texts if texts.count(value) > 1]:
            raise UsageError(f"`--set {text}` has `{twice[0]}` twice")
    return grid


def _value(name: str, text: str, like: Any) -> Any:
    """A value of the kind of another one.

    Raises:
        UsageError: It is of another kind: no number in place of one, or nothing.
    """
    value = _parsed(text.strip(), like)
    is_number = isinstance(like, int | float) and not isinstance(like, bool)
    if value == "" and not isinstance(like, str):
        raise UsageError(f"`--set {name}=…` has an empty value, beside a comma: remove the comma")
    if (is_number or isinstance(like, bool)) and value is not None:
        kinds, what = (bool, "`True` or `False`") if isinstance(like, bool) else (int | float, "a number")
        if not isinstance(value, kinds) or (is_number and isinstance(value, bool)):
            raise UsageError(f"`--set {name}={text.strip()}` is not {what}, which `{name}` of the run is")
    return value


def _parsed(text: str, like: Any) -> Any:
    if isinstance(like, str) and text != "None":
        return text
    if text in ("None", "True", "False"):
        return {"None": None, "True": True, "False": False}[text]
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return float(value) if isinstance(like, float) and isinstance(value, int) and not isinstance(value, bool) else value


def make_jobs(
    run: RunFolder, root: Path, seeds: Sequence[int], grid: Mapping[str, Sequence[Any]], into: Path
) -> list[Job]:
    """A job for each seed and each combination of the grid's values.

    Raises:
        UsageError: The run has no seed.
    """
    if "seed" not in run.settings:
        raise UsageError(f"The settings of `{run.path}` have no `seed`: add `seed: int = 0` to `Config`")
    names = ["seed"] if "seed" not in grid else []
    if not names and len(seeds) > 1:
        raise UsageError("`--seeds` and `--set seed=…` both say which seeds to run: pass one of them")
    jobs: list[Job] = []
    for values in itertools.product(*grid.values()):
        for seed in seeds if names else [None]:
            chosen = dict(zip(grid, values, strict=True)) | ({"seed": seed} if names else {})
            name = "_".join(f"{key}={_plain(value)}" for key, value in chosen.items())
            settings = {k: v for k, v in run.settings.items() if k not in _NOT_REPEATED} | chosen
            while any(job.name == name for job in jobs):  # values that differ only in signs that no folder has
                name += "_"
            jobs.append(Job(name, into / name, settings, root))
    return jobs


def _plain(value: Any) -> str:
    """A value as a part of a folder's name."""
    return re.sub(r"[^\w.+-]+", "-", value if isinstance(value, str) else json.dumps(value))


def run_jobs(
    jobs: Sequence[Job],
    like: RunFolder,
    program: str,
    *,
    at_once: int = 1,
    seconds: float | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> list[Outcome]:
    """Run the jobs that are not finished, so many at once. One that fails does not keep the others from running.

    Ctrl-C ends what was started: the runs save and stop, and the same jobs go on later.

    Args:
        jobs: What to run.
        like: The run whose launch is repeated: its processes, threads and accelerate's options.
        program: The script.
        at_once: Jobs side by side. On a machine with several GPUs, jobs of one process take turns on them.
        seconds: After which a run is stopped, having saved. None is off.
        tell: Takes a line for each run that begins or ends.

    Raises:
        PreconditionError: The script cannot be started.
    """
    outcomes: dict[str, Outcome] = {}
    waiting = []
    for job in jobs:
        made = read_run(job.run_dir) if job.run_dir.is_dir() else None
        if made is not None and made.state == FINISHED:
            outcomes[job.name] = Outcome(job, FINISHED)
            tell(f"{job.name}: finished already{_with_other_code(made, job)}")
        elif made is not None and made.state == RUNNING:
            outcomes[job.name] = Outcome(job, RUNNING, "another process is running it")
            tell(f"{job.name}: is running already")
        else:
            waiting.append(job)
        if made is not None and (other := _other_settings(made, job)):
            raise PreconditionError(
                f"`{job.run_dir}` was made with other settings ({'; '.join(other)}): pass another `--into`, or remove it"
            )
    slots = _slots(at_once, like)
    active: list[tuple[Job, subprocess.Popen[bytes], str | None, float]] = []
    stopped: set[str] = set()
    with contextlib.ExitStack() as stack:
        try:
            while waiting or active:
                while waiting and len(active) < at_once:
                    job = waiting.pop(0)
                    slot = next((s for s in slots if s not in {entry[2] for entry in active}), None)
                    output = _log(job)
                    file = stack.enter_context(output.open("ab"))
                    process = stack.enter_context(started(*_command(job, like, program, slot), file))
                    active.append((job, process, slot, time.monotonic()))
                    tell(f"{job.name}: started")
                for entry in [entry for entry in active if entry[1].poll() is not None]:
                    active.remove(entry)
                    outcome = _outcome(entry[0], entry[1].returncode)
                    outcomes[entry[0].name] = outcome
                    tell(f"{entry[0].name}: {outcome.state}{f' ({outcome.reason})' if outcome.reason else ''}")
                for job, process, _, began in active:
                    if seconds is not None and time.monotonic() - began > seconds and job.name not in stopped:
                        stopped.add(job.name)  # a second signal would end it without a save
                        process.terminate()
                time.sleep(_POLL)
        except BaseException:
            for _, process, _, _ in active:
                process.terminate()  # all of them, before any is waited for
            for _, process, _, _ in active:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(SECONDS_TO_END)
            raise
    return [outcomes[job.name] for job in jobs]


def _other_settings(run: RunFolder, job: Job) -> list[str]:
    """The settings in which a run is not what a job asks for, in words."""
    pairs = [(name, run.settings[name], value) for name, value in job.settings.items() if name in run.settings]
    return [
        f"{name} {text_of(before)}, now {text_of(now)}"
        for name, before, now in pairs
        if name not in NOT_COMPARED and text_of(before) != text_of(now)
    ]


def _with_other_code(run: RunFolder, job: Job) -> str:
    """That a finished run was made with other code than there is now, in words; nothing where it was not."""
    changed = changed_since(run, job.folder)
    return f", with other code ({', '.join(changed)})" if changed else ""


def _command(job: Job, like: RunFolder, program: str, slot: str | None) -> tuple[list[str], Path, dict[str, str]]:
    settings = job.run_dir.with_name(f"{job.run_dir.name}.toml")
    settings.write_text(settings_file(job.settings), encoding="utf-8")
    resume = "auto" if job.start is None or is_run(job.run_dir) else str(job.start)
    arguments = ["--config", str(settings.absolute()), "--run-dir", str(job.run_dir.absolute()), "--resume", resume]
    variables = {} if slot is None else {"CUDA_VISIBLE_DEVICES": slot}
    command = [*script_command(job.folder, program, num_processes(like)), *arguments]
    return command, job.folder, script_environment(like, **variables)


def _log(job: Job) -> Path:
    """Where a job's output goes; its folder is made.

    Raises:
        PreconditionError: It cannot be.
    """
    try:
        job.run_dir.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PreconditionError(f"`{job.run_dir.parent}` cannot be created: {error.strerror}") from error
    return job.run_dir.with_name(f"{job.run_dir.name}.log")


def _outcome(job: Job, code: int) -> Outcome:
    run = read_run(job.run_dir)
    if code == 0:
        return Outcome(job, "finished")
    if code == STOPPED or run.state == "stopped":
        return Outcome(job, "stopped", f"at step {run.step}: {run.reason}")
    said = last_lines(_log(job), 1)
    return Outcome(job, "failed", f"exit code {code}: {run.reason or said or 'it said nothing'}; see {_log(job)}")


def _slots(at_once: int, like: RunFolder) -> list[str]:
    """The GPUs that jobs of one process take turns on; none where there is one or jobs do not run side by side."""
    if at_once == 1 or num_processes(like) > 1:
        return []
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = given.split(",") if given else [p.name[6:] for p in sorted(Path("/dev").glob("nvidia[0-9]*"))]
    return found if len(found) > 1 else []


def slurm_script(jobs: Sequence[Job], like: RunFolder, program: str, root: Path, at_once: int) -> str:
    """A script for `sbatch` that runs the jobs as an array, with the options of the project's own `launch/slurm.sbatch`."""
    own = root / "launch" / "slurm.sbatch"
    lines = own.read_text(encoding="utf-8").splitlines() if own.is_file() else []
    options = [
        line
        for line in lines
        if line.startswith("#SBATCH") and not re.search(r"--(array|job-name|output|dependency)", line)
    ]
    return "\n".join(_script_lines(jobs, like, program, root, at_once, options))


def _script_lines(
    jobs: Sequence[Job], like: RunFolder, program: str, root: Path, at_once: int, options: Sequence[str]
) -> Iterator[str]:
    import shlex

    limit = f"%{at_once}" if at_once > 1 else ""
    yield from ("#!/bin/bash", f"#SBATCH --job-name={root.name}-repeat", f"#SBATCH --array=0-{len(jobs) - 1}{limit}")
    yield from (f"#SBATCH --output={_log(jobs[0]).parent.absolute()}/%a.log", *options)
    yield from (
        "",
        "# One run for each task; a task that is requeued goes on where its run was.",
        f"cd {shlex.quote(str(root))}",
    )
    yield 'case "$SLURM_ARRAY_TASK_ID" in'
    for number, job in enumerate(jobs):
        command, _, _ = _command(job, like, program, None)
        yield f"{number}) exec {shlex.join(command)} ;;"
    yield from ("esac", "")
