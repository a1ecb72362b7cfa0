"""Choosing and opening the run directory."""

import itertools
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ConfigError
from ..hardware import meeting
from ..hardware.agreement import Agreement
from ..storage.checkpoint import list_checkpoints
from . import progress, supervised
from .environment import versions
from .record import Record
from .sources import changed_files, read_sources
from .status import RUNS, await_end, holds_run, new_run_dir, read_status, unfinished_runs, writer_of

Compare = Callable[[Mapping[str, Any], Mapping[str, Any], set[str]], tuple[list[str], list[str]]]
"""From the settings now, those before, and names that may change as well, to what may change and what may not."""

_opened = itertools.count(1)  # runs of this process


class Choice(NamedTuple):
    """A run directory, the checkpoint from which a fork starts, and the status of the run that is there already."""

    run_dir: Path
    fork: Path | None
    status: dict[str, Any]


@dataclass(frozen=True)
class Opened:
    """An opened run directory.

    Attributes:
        record: Its files.
        fork: The checkpoint of another run to start from.
        seed: The seed of the run, drawn where the settings have None.
    """

    record: Record
    fork: Path | None
    seed: int


def draw_seed() -> int:
    return secrets.randbelow(2**31)


def choose_run_dir(run_dir: str | Path | None, resume: str) -> Choice:
    """The run directory, created if it is new, and the checkpoint from which a fork starts.

    `auto` continues in `run_dir`, or in the newest unfinished run under `runs/` that no other process writes; if there
    is none, it starts a new run. `never` starts a new run. The path of a run directory continues that run, that of a
    checkpoint forks it.

    Raises:
        ConfigError: The directory already has a run that is not to be continued, or another process is still writing
            it, or the path to resume from has neither a run nor a checkpoint.
    """
    given = None if run_dir is None else Path(run_dir).expanduser()
    fork = None
    if resume not in ("auto", "never"):
        source = Path(resume).expanduser()
        if (source / "manifest.json").exists():
            fork = source
        elif (source / "status.json").exists() or holds_run(source):
            if given is not None and given.resolve() != source.resolve():
                raise ConfigError(f"`--resume {source}` continues in that directory, but `--run-dir` is `{given}`")
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
        raise ConfigError(f"`{given}` is being written by {writer}: end that one first, or choose another `--run-dir`")
    if holds_run(given) and (resume == "never" or fork is not None):
        raise ConfigError(
            f"`{given}` holds a run already: pass `--resume auto` to continue it, or choose another directory"
        )
    try:
        given.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"The run directory `{given}` cannot be created: {error.strerror}") from None
    return Choice(given, fork, status)


def open_run_dir(
    agreement: Agreement, config: Any, settings: dict[str, Any], precision: str, compare: Compare, device: str
) -> Opened:
    """Choose the run directory on the main process, and check that all processes see it. Collective.

    Args:
        agreement: The processes.
        config: What `RunSettings` has.
        settings: All settings, as JSON has words for them.
        precision: In which the run trains.
        compare: What has changed in the settings.
        device: On what kind of device.

    Raises:
        ConfigError: As `choose_run_dir`; or the run to continue was started with other settings, or with settings that
            cannot be read; or some process does not see the directory.
    """

    number = next(_opened)

    def choose() -> Opened:
        before_restart = meeting.run_before_restart(number) or supervised.run_before_restart(number)
        if before_restart is not None:  # whatever the settings say, as they did when that run was started
            await_end(before_restart)
            run_dir, fork, status = choose_run_dir(before_restart, "auto")
        else:
            run_dir, fork, status = choose_run_dir(config.run_dir, config.resume)
        record = Record(run_dir, is_new=not any(run_dir.iterdir()))
        start = {} if fork is not None else record.start()
        if fork is None and not start and holds_run(run_dir):
            raise ConfigError(
                f"`{run_dir}` has no `config.json`, so the settings of its run are not known: restore the file, or start "
                "a new run from a checkpoint of this one with `--resume CHECKPOINT --run-dir NEW`"
            )
        before = start.get("settings", {})
        seed = config.seed
        if seed is None:
            drawn = before.get("seed")
            seed = drawn if isinstance(drawn, int) else draw_seed()
        now = settings if config.seed is not None else settings | {"seed": seed}
        hardware = {"num_processes": agreement.num_processes, "precision": precision, "device": device}
        if start:
            known = {**start, **start.get("versions", {})}
            differ = {name: (known.get(name), value) for name, value in (hardware | versions()).items()}
            _check_settings(run_dir, now, before, differ, compare)
        sources = read_sources()
        if changed := changed_files(start.get("code"), sources.code):
            progress.say(f"code changed since the start: {', '.join(changed)}")
        if not record.claim(status):
            return choose()  # another process was faster: now that one writes the run
        origin = fork or (Path(start["forked_from"]) if "forked_from" in start else None)
        if not list_checkpoints(run_dir / "checkpoints"):
            fork = origin  # a fork that was killed before its first checkpoint starts from the same place again
        record.write_settings(now, hardware | ({"forked_from": str(origin)} if origin else {}), sources)
        meeting.remember_run(number, run_dir)
        if fork is not None:
            record.take_metrics_of(fork)
        return Opened(record, fork, seed)

    opened = agreement.on_main(choose)
    record = opened.record
    supervised.tell_run_dir(number, record.run_dir)
    if not all(agreement.gather((record.run_dir / "config.json").exists())):
        raise ConfigError(f"`{record.run_dir}` is not on a disk that all nodes share: choose one with `--run-dir`")
    return opened


def _check_settings(
    run_dir: Path,
    now: Mapping[str, Any],
    before: Mapping[str, Any],
    hardware: Mapping[str, tuple[Any, Any]],
    compare: Compare,
) -> None:
    """Say what has changed since a run was started.

    Raises:
        ConfigError: Settings differ that must stay the same; lists all of them.
    """
    was, is_now = hardware["precision"]
    may, may_not = compare(now, before, {"precision"} if was == is_now else set())
    if may_not:
        lines = "".join(f"  {line}\n" for line in may_not)
        newest = list_checkpoints(run_dir / "checkpoints")
        way = (
            f"for a new run from its checkpoint with these, `--resume {newest[0][1]} --run-dir NEW`"
            if newest
            else "`--resume never` and another `--run-dir` for a new run"
        )
        raise ConfigError(
            f"`{run_dir}` was started with other settings:\n{lines}Pass the same ones to continue it, or {way}"
        )
    may += [f"{name} was {was!r}, is {now!r}" for name, (was, now) in hardware.items() if was not in (None, now)]
    if may := [line for line in may if line.partition(" ")[0] not in ("resume", "run_dir")]:
        progress.say(f"changed since the start: {'; '.join(may)}")
