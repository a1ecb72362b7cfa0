"""How a run and its supervisor communicate: through files in the folder that `PACCEL_SUPERVISOR` names.

- `run-dir-<number>` holds the directory of the script's first, second, … run.
- `process-<number>` exists while that process handles signals, and holds the time of its start.
- `signal` holds the signal that the supervisor received, for processes that do not handle signals yet.

On a host without the folder, there is no supervisor.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from .process import is_running, start_time

VARIABLE = "PACCEL_SUPERVISOR"


def _folder() -> Path | None:
    name = os.environ.get(VARIABLE)
    return Path(name) if name and Path(name).is_dir() else None


def _write(path: Path, text: str) -> None:
    aside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with suppress(OSError):  # the supervisor has exited
        aside.write_text(text, encoding="utf-8")
        aside.replace(path)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return None


# In a run


def tell_run_dir(number: int, run_dir: Path) -> None:
    """Tell the supervisor the directory of this script's first, second, … run, once this start has written its status."""
    if folder := _folder():
        _write(folder / f"run-dir-{number}", str(run_dir.absolute()))


def run_before_restart(number: int) -> Path | None:
    """The directory that an earlier start under the same supervisor has told; None if this is the first."""
    folder = _folder()
    text = None if folder is None else _read(folder / f"run-dir-{number}")
    return Path(text) if text else None


def watch_for_signals() -> int | None:
    """Tell the supervisor that this process handles signals from now on.

    Returns:
        The signal that the supervisor received before that; None if there was none.
    """
    if (folder := _folder()) is None:
        return None
    _write(folder / f"process-{os.getpid()}", start_time(os.getpid()) or "")
    return received(folder)


def ignore_signals() -> None:
    """Tell the supervisor that this process does not handle signals any more."""
    if folder := _folder():
        (folder / f"process-{os.getpid()}").unlink(missing_ok=True)


# In the supervisor


def told_run_dir(folder: Path) -> Path | None:
    """The directory of the run that was opened last."""
    told = sorted((path.stat().st_mtime_ns, path) for path in folder.glob("run-dir-*[0-9]"))
    text = _read(told[-1][1]) if told else None
    return Path(text) if text else None


def watching(folder: Path) -> Iterator[int]:
    """The processes that handle signals and still run."""
    for path in folder.glob("process-*[0-9]"):
        process, began = int(path.name.partition("-")[2]), _read(path)
        if began is not None and is_running(process, began or None):
            yield process


def pass_on(folder: Path, number: int) -> bool:
    """Send a signal to all processes that handle signals; later ones find it in the folder. Returns whether there were any."""
    _write(folder / "signal", str(number))
    found = list(watching(folder))
    for process in found:
        with suppress(OSError):
            os.kill(process, number)
    return bool(found)


def received(folder: Path) -> int | None:
    """The signal that the supervisor has received; None if there was none."""
    text = _read(folder / "signal")
    return signal.Signals(int(text)) if text else None
