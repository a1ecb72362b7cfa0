"""What a run and its supervisor tell each other: files in a folder that `PACCEL_SUPERVISOR` names.

`run-dir-<number>` has the directory of a script's first, second, … run. `process-<number>` stands for a process that stops on a
signal, with the time of its start. `signal` has the signal that the supervisor received, for processes that have not
got so far. On a host without the folder, there is no supervisor.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from .status import start_time

VARIABLE = "PACCEL_SUPERVISOR"


def _folder() -> Path | None:
    name = os.environ.get(VARIABLE)
    return Path(name) if name and Path(name).is_dir() else None


def _write(path: Path, text: str) -> None:
    aside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with suppress(OSError):  # the supervisor has ended
        aside.write_text(text, encoding="utf-8")
        aside.replace(path)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return None


# What a run says


def tell_run_dir(number: int, run_dir: Path) -> None:
    """Say which run this script's first, second, … one is, once its status is that of this start."""
    if folder := _folder():
        _write(folder / f"run-dir-{number}", str(run_dir.absolute()))


def run_before_restart(number: int) -> Path | None:
    """What an earlier start under the same supervisor has told; None if there was none."""
    folder = _folder()
    text = None if folder is None else _read(folder / f"run-dir-{number}")
    return Path(text) if text else None


def watch_for_signals() -> int | None:
    """Say that this process stops on a signal from now on. The signal that came before it could, if one did."""
    if (folder := _folder()) is None:
        return None
    _write(folder / f"process-{os.getpid()}", start_time(os.getpid()) or "")
    return received(folder)


def ignore_signals() -> None:
    if folder := _folder():
        (folder / f"process-{os.getpid()}").unlink(missing_ok=True)


# What the supervisor says and reads


def told_run_dir(folder: Path) -> Path | None:
    """The run that was opened last."""
    told = sorted((path.stat().st_mtime_ns, path) for path in folder.glob("run-dir-*[0-9]"))
    text = _read(told[-1][1]) if told else None
    return Path(text) if text else None


def watching(folder: Path) -> Iterator[int]:
    """The processes that stop on a signal and have not ended."""
    for path in folder.glob("process-*[0-9]"):
        process = int(path.name.partition("-")[2])
        if start_time(process) == (_read(path) or None) and _is_alive(process):
            yield process


def _is_alive(process: int) -> bool:
    """Whether a process has not ended; one that has, and that nobody has waited for, is still known to the kernel."""
    try:
        os.kill(process, 0)
    except OSError:
        return False
    stat = _read(Path(f"/proc/{process}/stat"))
    return stat is None or stat.rpartition(")")[2].split()[0] not in "ZX"


def pass_on(folder: Path, number: int) -> bool:
    """Send a signal to all processes that stop on it; whether there are any. Those to come find it in the folder."""
    _write(folder / "signal", str(number))
    found = list(watching(folder))
    for process in found:
        with suppress(OSError):
            os.kill(process, number)
    return bool(found)


def received(folder: Path) -> int | None:
    """The signal that the supervisor has received, if one came."""
    text = _read(folder / "signal")
    return signal.Signals(int(text)) if text else None
