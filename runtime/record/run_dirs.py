"""Run directories: where new ones are created, which hold a run, and which one a script uses."""

import itertools
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ConfigError
from . import progress
from .status import read_status, writer_of

RUNS = Path("runs")
"""Where a run without `run_dir` creates its directory."""


class Choice(NamedTuple):
    """The run directory of a script.

    Attributes:
        run_dir: The directory, which exists.
        fork: The checkpoint to start a new run from; None if there is none.
        status: The status of the run that is already there, empty for a new run.
    """

    run_dir: Path
    fork: Path | None
    status: dict[str, Any]


def choose_run_dir(run_dir: str | Path | None, resume: str) -> Choice:
    """Choose the run directory, and create it if it is new.

    `auto` resumes the run in `run_dir`, or the newest unfinished run under `runs/` that no other process writes; if
    there is none, it starts a new run. `never` starts a new run. The path of a run directory resumes that run, the path
    of a checkpoint starts a new run from it, a fork.

    Raises:
        ConfigError: The directory already holds a run that is not to be resumed, another process is still writing it,
            or the path to resume from is neither a run nor a checkpoint.
    """
    given = None if run_dir is None else Path(run_dir).expanduser()
    fork = None
    if resume not in ("auto", "never"):
        source = Path(resume).expanduser()
        if (source / "manifest.json").exists():
            fork = source
        elif (source / "status.json").exists() or holds_run(source):
            if given is not None and given.resolve() != source.resolve():
                raise ConfigError(
                    f"`--resume {source}` continues in that directory, but `--run-dir` is `{given}`: pass only one of them"
                )
            given = source
        else:
            raise ConfigError(f"Nothing to resume from at `{source}`: neither a run directory nor a checkpoint")
    if given is None and resume == "auto":
        for path in unfinished_runs(RUNS):
            status = read_status(path)
            writer = writer_of(path, status)
            if writer is None:
                return Choice(path, None, status)
            progress.say(f"`{path}` is being written by {writer}: looking for another run to continue")
    if given is None:
        return Choice(new_run_dir(RUNS), fork, {})
    status = read_status(given)
    if writer := writer_of(given, status):
        raise ConfigError(f"`{given}` is being written by {writer}: stop it first, or choose another `--run-dir`")
    if holds_run(given) and (resume == "never" or fork is not None):
        raise ConfigError(
            f"`{given}` already holds a run: pass `--resume auto` to continue it, or choose another `--run-dir`"
        )
    try:
        given.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"The run directory `{given}` cannot be created: {error.strerror}") from None
    return Choice(given, fork, status)


def new_run_dir(parent: Path) -> Path:
    """Create a folder named after the time, with a number if several start in the same second."""
    name = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    for number in itertools.count(1):
        path = parent / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir(parents=True)
            break
        except FileExistsError:
            if not path.exists():  # `parent` is a file
                raise ConfigError(f"The run directory `{path}` cannot be created: `{parent}` is not a folder") from None
        except OSError as error:
            raise ConfigError(f"The run directory `{path}` cannot be created: {error.strerror}") from None
    return path


def unfinished_runs(parent: Path) -> Iterator[Path]:
    """The runs under `parent` that have not finished, including those that are running, the newest first."""
    folders = {found.parent for name in ("status.json", "checkpoints") for found in parent.glob(f"*/{name}")}
    runs = [(read_status(path), path) for path in folders]
    unfinished = [run for run in runs if run[0].get("state") != "finished"]
    yield from (path for _, path in sorted(unfinished, key=lambda run: (run[0].get("started", 0.0), run[1].name))[::-1])


def holds_run(folder: Path) -> bool:
    """Whether a run has begun there. A process that was killed while it opened the folder leaves only a status."""
    return any((folder / name).exists() for name in ("config.json", "metrics.jsonl", "checkpoints"))
