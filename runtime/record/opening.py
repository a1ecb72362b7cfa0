"""Opening the run directory: the main process chooses it and checks the settings, for all processes."""

import itertools
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..hardware import meeting
from ..hardware.agreement import Agreement
from ..settings.changes import compare_settings
from ..settings.run_settings import RunSettings
from ..storage.checkpoint import list_checkpoints
from . import progress, supervised
from .environment import versions
from .record import Record
from .run_dirs import Choice, choose_run_dir, holds_run
from .sources import changed_files, read_sources
from .status import await_end

_opened = itertools.count(1)  # runs of this process


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


def open_run_dir(
    agreement: Agreement,
    run_settings: RunSettings,
    config_class: type,
    settings: dict[str, Any],
    precision: str,
    device: str,
) -> Opened:
    """Choose the run directory on the main process, and check that all processes see it. Collective.

    Args:
        agreement: The processes.
        run_settings: The settings that say where the run is, whether it is resumed, and its seed.
        config_class: The dataclass of all settings.
        settings: All settings, as `config_to_dict` returns them.
        precision: The precision of the run.
        device: The type of its device.

    Raises:
        ConfigError: As `choose_run_dir`; or the run to resume was started with other settings, or its settings cannot
            be read; or some process does not see the directory.
    """
    number = next(_opened)
    environment = {"num_processes": agreement.num_processes, "precision": precision, "device": device}
    opened = agreement.on_main(lambda: _open(number, run_settings, config_class, settings, environment))
    run_dir = opened.record.run_dir
    supervised.tell_run_dir(number, run_dir)
    if not all(agreement.gather((run_dir / "config.json").exists())):
        raise ConfigError(f"`{run_dir}` is not on a disk that all nodes share: choose one with `--run-dir`")
    return opened


def _open(
    number: int,
    run_settings: RunSettings,
    config_class: type,
    settings: Mapping[str, Any],
    environment: Mapping[str, Any],
) -> Opened:
    """Choose the directory of this script's first, second, … run, check its settings, and claim it."""
    run_dir, fork, status = _choose(number, run_settings)
    record = Record(run_dir, is_new=not any(run_dir.iterdir()))
    before = {} if fork is not None else record.read_config()
    if fork is None and not before and holds_run(run_dir):
        raise ConfigError(
            f"`{run_dir}` has no `config.json`, so the settings of its run are unknown: restore the file, or start "
            "a new run from a checkpoint of this one with `--resume CHECKPOINT --run-dir NEW`"
        )
    seed = run_settings.seed
    if seed is None:
        drawn = before.get("settings", {}).get("seed")
        seed = drawn if isinstance(drawn, int) else draw_seed()
    now = {**settings, "seed": seed} if run_settings.seed is None else settings
    if before:
        _compare_with(before, run_dir, config_class, now, environment)
    sources = read_sources()
    if changed := changed_files(before.get("code"), sources.code):
        progress.say(f"code changed since the start: {', '.join(changed)}")
    if not record.claim(status):  # another process was faster and writes this run now
        return _open(number, run_settings, config_class, settings, environment)
    origin = fork or (Path(before["forked_from"]) if "forked_from" in before else None)
    if not list_checkpoints(run_dir / "checkpoints"):
        fork = origin  # a fork that was killed before its first checkpoint starts from its origin again
    record.write_config(now, {**environment, **({"forked_from": str(origin)} if origin else {})}, sources)
    meeting.remember_run(number, run_dir)
    if fork is not None:
        record.metrics.copy_from(fork)
    return Opened(record, fork, seed)


def _choose(number: int, run_settings: RunSettings) -> Choice:
    """The run directory that the settings name; after a restart, the one of the start before, whatever they say."""
    before_restart = meeting.run_before_restart(number) or supervised.run_before_restart(number)
    if before_restart is None:
        return choose_run_dir(run_settings.run_dir, run_settings.resume)
    await_end(before_restart)
    return choose_run_dir(before_restart, "auto")


def _compare_with(
    before: Mapping[str, Any],
    run_dir: Path,
    config_class: type,
    settings: Mapping[str, Any],
    environment: Mapping[str, Any],
) -> None:
    """Print what has changed since a run was started.

    Args:
        before: Its `config.json`.
        run_dir: Its directory.
        config_class: The dataclass of the settings.
        settings: The settings now.
        environment: The number of processes, the precision and the device now.

    Raises:
        ConfigError: Settings differ that must stay the same; lists all of them.
    """
    has_same_precision = before.get("precision") == environment["precision"]
    may, may_not = compare_settings(
        config_class, settings, before["settings"], {"precision"} if has_same_precision else set()
    )
    if may_not:
        lines = "".join(f"  {line}\n" for line in may_not)
        newest = list_checkpoints(run_dir / "checkpoints")
        new_run = (
            f"a new run from its checkpoint with `--resume {newest[0][1]} --run-dir NEW`"
            if newest
            else "a new run with `--resume never` and another `--run-dir`"
        )
        raise ConfigError(
            f"`{run_dir}` was started with other settings:\n{lines}Pass the same settings to continue it, or start {new_run}"
        )
    known = {**before, **before.get("versions", {})}
    for name, value in {**environment, **versions()}.items():
        if known.get(name) not in (None, value):
            may.append(f"{name} was {known[name]!r}, is {value!r}")
    if may := [line for line in may if line.partition(" ")[0] not in ("resume", "run_dir")]:
        progress.say(f"changed since the start: {'; '.join(may)}")
