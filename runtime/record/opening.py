"""Choosing and opening the run directory."""

from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..hardware.agreement import Agreement
from ..storage.checkpoint import list_checkpoints
from .record import Record
from .status import RUNS, is_alive, new_run_dir, newest_unfinished, read_status


def choose_run_dir(run_dir: str | Path | None, resume: str) -> tuple[Path, Path | None]:
    """The run directory, created if it is new, and the checkpoint from which a fork starts.

    `auto` continues in `run_dir`, or in the newest unfinished run under `runs/`; if there is none, it starts a new run.
    `never` starts a new run. The path of a run directory continues that run, that of a checkpoint forks it.

    Raises:
        ConfigError: The directory already has a run that is not to be continued, or another process is still writing
            it, or the path to resume from has neither a run nor a checkpoint.
    """
    given = None if run_dir is None else Path(run_dir)
    fork = None
    if resume not in ("auto", "never"):
        source = Path(resume)
        if (source / "manifest.json").exists():
            fork = source
        elif (source / "status.json").exists():
            if given is not None and given.resolve() != source.resolve():
                raise ConfigError(f"`--resume {source}` continues in that directory, but `--run-dir` is `{given}`")
            given = source
        else:
            raise ConfigError(f"Nothing to resume from at `{source}`: neither a run directory nor a checkpoint")
    if given is None and resume == "auto":
        given = newest_unfinished(RUNS)
    if given is None:
        return new_run_dir(RUNS), fork
    status = read_status(given)
    if is_alive(status):
        raise ConfigError(f"`{given}` is being written by process {status['process']}, which still runs")
    if status and (resume == "never" or fork is not None):
        raise ConfigError(
            f"`{given}` holds a run already: pass `--resume auto` to continue it, or choose another directory"
        )
    try:
        given.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"The run directory `{given}` cannot be created: {error.strerror}") from None
    return given, fork


def open_run_dir(agreement: Agreement, config: Any, settings: dict[str, Any]) -> tuple[Record, Path | None]:
    """Choose the run directory on the main process, and check that all processes see it. Collective."""

    def choose() -> tuple[Record, Path | None]:
        run_dir, fork = choose_run_dir(config.run_dir, config.resume)
        record = Record(run_dir, is_new=not any(run_dir.iterdir()))
        origin = fork
        if fork is None:
            record.check_settings(settings)
            origin = record.origin()
            if not list_checkpoints(run_dir / "checkpoints"):
                fork = origin  # a fork that was killed before its first checkpoint starts from the same place again
        environment = {"num_processes": agreement.num_processes}
        record.write_settings(settings, environment | ({"forked_from": str(origin)} if origin else {}))
        if fork is not None:
            record.take_metrics_of(fork)
        record.write_status("running", 0, 0)
        return record, fork

    record, fork = agreement.on_main(choose)
    if not all(agreement.gather((record.run_dir / "config.json").exists())):
        raise ConfigError(f"`{record.run_dir}` is not on a disk that all nodes share: choose one with `--run-dir`")
    return record, fork
