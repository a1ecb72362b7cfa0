"""Run a project's training script several times, over seeds and a grid of settings.

Each run has a folder named after its settings, so the same command skips finished runs and resumes the others.
"""

import contextlib
import itertools
import json
import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import PreconditionError, UsageError, did_you_mean
from ..runs.fields import NOT_COMPARED, text_of
from ..runs.folder import RunFolder, is_run, read_run
from ..runs.state import FINISHED, RUNNING
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
    """A run to do.

    Attributes:
        name: The settings that distinguish it, such as `learning_rate=0.003_seed=1`.
        run_dir: Its run directory.
        settings: All of its settings.
        folder: The folder of the code, in which the script is started.
        start: The checkpoint to start from; None: fresh weights.
    """

    name: str
    run_dir: Path
    settings: Mapping[str, Any]
    folder: Path
    start: Path | None = None


class Outcome(NamedTuple):
    """How a job ended, and why: `finished`, `stopped`, `failed`, or `running` if another process runs it."""

    job: Job
    state: str
    reason: str = ""


class _Active(NamedTuple):
    """A job that is running, since `began`, on the GPU `gpu` if jobs take turns on several."""

    job: Job
    process: "subprocess.Popen[bytes]"
    gpu: str | None
    began: float


def parse_seeds(text: str, first: Any) -> list[int]:
    """Parse `--seeds`: `5` means five seeds, counted up from the run's own; `3,4,7` and `3,` are lists.

    Args:
        text: What was typed.
        first: The run's own seed; 0 is used if it is not an integer.

    Raises:
        UsageError: `text` is neither a number nor a list.
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
        raise UsageError(f"`--seeds {text}` is neither a number of seeds, such as `5`, nor a list, such as `0,1,2`")
    return seeds


def parse_grid(given: Sequence[str], settings: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Parse `--set name=value,value` options into the values of each setting.

    Raises:
        UsageError: A setting is unknown, lacks a value, has a value of the wrong type, or something is given twice.
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
        if duplicates := [value for value in texts if texts.count(value) > 1]:
            raise UsageError(f"`--set {text}` has `{duplicates[0]}` twice")
    return grid


def _value(name: str, text: str, like: Any) -> Any:
    """Parse a value of the same type as `like`.

    Raises:
        UsageError: It has another type, or is empty.
    """
    value = _parsed(text.strip(), like)
    is_number = isinstance(like, int | float) and not isinstance(like, bool)
    if value == "" and not isinstance(like, str):
        raise UsageError(f"`--set {name}=…` has an empty value: remove the extra comma")
    if (is_number or isinstance(like, bool)) and value is not None:
        kinds, what = (bool, "`True` or `False`") if isinstance(like, bool) else (int | float, "a number")
        if not isinstance(value, kinds) or (is_number and isinstance(value, bool)):
            raise UsageError(f"`--set {name}={text.strip()}`: `{name}` must be {what}")
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
    """Return a job for each seed and each combination of the grid's values.

    Args:
        run: The run whose settings are used.
        root: The folder of the code.
        seeds: The seeds, unless the grid has them.
        grid: Setting -> values.
        into: The folder of the new runs.

    Raises:
        UsageError: The run has no setting `seed`, or seeds are given twice.
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
            name = "_".join(f"{key}={_in_path(value)}" for key, value in chosen.items())
            settings = {k: v for k, v in run.settings.items() if k not in _NOT_REPEATED} | chosen
            while any(job.name == name for job in jobs):  # values that differ only in characters that were replaced
                name += "_"
            jobs.append(Job(name, into / name, settings, root))
    return jobs


def _in_path(value: Any) -> str:
    """Return a value as part of a folder name."""
    return re.sub(r"[^\w.+-]+", "-", value if isinstance(value, str) else json.dumps(value))


def run_jobs(
    jobs: Sequence[Job],
    run: RunFolder,
    *,
    at_once: int = 1,
    seconds: float | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> list[Outcome]:
    """Run the jobs that are not finished. A job that fails does not stop the others.

    On Ctrl-C, the runs save and stop; the same jobs resume them later.

    Args:
        jobs: What to run.
        run: The run that is repeated: its script, number of processes and threads, and accelerate's options are used.
        at_once: Jobs side by side. On a machine with several GPUs, jobs with one process take turns on them.
        seconds: After which a run saves and stops. None: never.
        tell: Takes a line for each run that starts or ends.

    Raises:
        PreconditionError: A run directory has a run with other settings, or the script cannot be started.
    """
    outcomes: dict[str, Outcome] = {}
    waiting = []
    for job in jobs:
        earlier = read_run(job.run_dir) if job.run_dir.is_dir() else None
        if earlier is not None and earlier.state == FINISHED:
            outcomes[job.name] = Outcome(job, FINISHED)
            changed = changed_since(earlier, job.folder)
            tell(f"{job.name}: finished already" + (f", with different code ({', '.join(changed)})" if changed else ""))
        elif earlier is not None and earlier.state == RUNNING:
            outcomes[job.name] = Outcome(job, RUNNING, "another process is running it")
            tell(f"{job.name}: is running already")
        else:
            waiting.append(job)
        if earlier is not None and (different := _different_settings(earlier, job)):
            raise PreconditionError(
                f"`{job.run_dir}` has a run with other settings ({'; '.join(different)}): pass another `--into`, or remove it"
            )
    gpus = _gpus(at_once, run)
    active: list[_Active] = []
    stopped: set[str] = set()
    with contextlib.ExitStack() as stack:
        try:
            while waiting or active:
                while waiting and len(active) < at_once:
                    job = waiting.pop(0)
                    gpu = next((gpu for gpu in gpus if gpu not in {one.gpu for one in active}), None)
                    file = stack.enter_context(_log(job).open("ab"))
                    process = stack.enter_context(started(*_command(job, run, gpu), file))
                    active.append(_Active(job, process, gpu, time.monotonic()))
                    tell(f"{job.name}: started")
                for ended in [one for one in active if one.process.poll() is not None]:
                    active.remove(ended)
                    outcome = _outcome(ended.job, ended.process.returncode)
                    outcomes[ended.job.name] = outcome
                    tell(f"{ended.job.name}: {outcome.state}{f' ({outcome.reason})' if outcome.reason else ''}")
                for job, process, _, began in active:
                    if seconds is not None and time.monotonic() - began > seconds and job.name not in stopped:
                        stopped.add(job.name)  # a second signal would end it before it has saved
                        process.terminate()
                time.sleep(_POLL)
        except BaseException:
            for one in active:
                one.process.terminate()  # all of them, before waiting for any
            for one in active:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    one.process.wait(SECONDS_TO_END)
            raise
    return [outcomes[job.name] for job in jobs]


def _different_settings(run: RunFolder, job: Job) -> list[str]:
    """Return the settings in which an earlier run differs from a job, each in words."""
    pairs = [(name, run.settings[name], value) for name, value in job.settings.items() if name in run.settings]
    return [
        f"{name} {text_of(before)}, now {text_of(now)}"
        for name, before, now in pairs
        if name not in NOT_COMPARED and text_of(before) != text_of(now)
    ]


def _command(job: Job, run: RunFolder, gpu: str | None) -> tuple[list[str], Path, dict[str, str]]:
    """Write the settings file of a job, and return the command, its folder and its environment."""
    settings = job.run_dir.with_name(f"{job.run_dir.name}.toml")
    settings.write_text(settings_file(job.settings), encoding="utf-8")
    resume = "auto" if job.start is None or is_run(job.run_dir) else str(job.start)
    arguments = ["--config", str(settings.absolute()), "--run-dir", str(job.run_dir.absolute()), "--resume", resume]
    variables = {} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu}
    command = [*script_command(job.folder, run.program, num_processes(run)), *arguments]
    return command, job.folder, script_environment(run, **variables)


def _log(job: Job) -> Path:
    """Return the log file of a job, and create its folder.

    Raises:
        PreconditionError: The folder cannot be created.
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
    return Outcome(job, "failed", f"exit code {code}: {run.reason or said or 'no output'}; see {_log(job)}")


def _gpus(at_once: int, run: RunFolder) -> list[str]:
    """Return the GPUs on which jobs with one process take turns; none if they do not run side by side on several."""
    if at_once == 1 or num_processes(run) > 1:
        return []
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = given.split(",") if given else [p.name[6:] for p in sorted(Path("/dev").glob("nvidia[0-9]*"))]
    return found if len(found) > 1 else []


def slurm_script(jobs: Sequence[Job], run: RunFolder, root: Path, at_once: int) -> str:
    """Return a script for `sbatch` that runs the jobs as an array, with the options of the project's `launch/slurm.sbatch`."""
    own = root / "launch" / "slurm.sbatch"
    lines = own.read_text(encoding="utf-8").splitlines() if own.is_file() else []
    options = [
        line
        for line in lines
        if line.startswith("#SBATCH") and not re.search(r"--(array|job-name|output|dependency)", line)
    ]
    limit = f"%{at_once}" if at_once > 1 else ""
    output = _log(jobs[0]).parent.absolute() / "%a.log"
    commands = [_command(job, run, None)[0] for job in jobs]
    return "\n".join(
        [
            "#!/bin/bash",
            f"#SBATCH --job-name={root.name}-repeat",
            f"#SBATCH --array=0-{len(jobs) - 1}{limit}",
            f"#SBATCH --output={output}",
            *options,
            "",
            "# One run per task. A task that is requeued resumes its run.",
            f"cd {shlex.quote(str(root))}",
            'case "$SLURM_ARRAY_TASK_ID" in',
            *(f"{number}) exec {shlex.join(command)} ;;" for number, command in enumerate(commands)),
            "esac",
            "",
        ]
    )
