"""Read run directories: settings, state, versions, metrics. Nothing is written.

Everything but the metrics is in two small files, so thousands of runs are read per second. A file that is damaged,
incomplete or not ours raises nothing; it is named in `RunFolder.damaged`.
"""

import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

from ..errors import PreconditionError, UsageError
from .state import CRASHED, FAILED, FINISHED, STOPPED, UNKNOWN, as_float, as_time, state_of

Mode = Literal["min", "max"]
Row = dict[str, float]
"""One line of the metrics: `step`, `epoch`, and numbers under `<section>/<name>`; NaN where a value was not finite."""

_FILES = ("config.json", "status.json", "metrics.jsonl")
_DEPTH = 4  # levels of folders that are searched: `runs/<group>/<variant>/<seed>`
_MAX_BYTES = 16 << 20  # of a settings or status file
_TAIL = 1 << 16  # bytes at the end of the metrics that `last_rows` reads


class Best(NamedTuple):
    """The score by which a run chooses its best weights, under its full name, and the best value so far if recorded."""

    name: str
    mode: Mode
    value: float | None = None
    step: int | None = None


@dataclass(frozen=True)
class RunFolder:
    """A run at the time it was read.

    Attributes:
        path: The run directory.
        name: Its path relative to the folder that was searched, with `/`.
        state: `running`, `finished`, `stopped`, `failed`, `crashed` or `unknown`.
        step: Optimizer steps done; 0 if unknown.
        reason: Why it stopped or failed.
        note: A remark about the state, such as a late heartbeat.
        started: When it was last started, in seconds since the epoch; without a status, when its folder last changed.
        updated: When the status was last written, in seconds since the epoch.
        settings: The values of its `Config`; empty if unknown.
        versions: Versions of Python and packages.
        git_commit: The full hash; None outside git.
        dirty: Whether tracked files differed from the commit; None outside git.
        data: Sample counts and hashes of the data for training and evaluation; None in older runs.
        best: The score by which it chooses its best weights; None if not recorded.
        environment: The other entries of `config.json`, such as `num_processes`, `precision`, `command`.
        damaged: Which files cannot be read, and why; None if all can.
    """

    path: Path
    name: str
    state: str = UNKNOWN
    step: int = 0
    epoch: int = 0
    reason: str | None = None
    note: str | None = None
    started: float = 0.0
    updated: float = 0.0
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    git_commit: str | None = None
    dirty: bool | None = None
    data: Mapping[str, Any] | None = None
    best: Best | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    damaged: str | None = None

    @property
    def has_ended(self) -> bool:
        return self.state in (FINISHED, STOPPED, FAILED, CRASHED)

    @property
    def metrics_path(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def program(self) -> str:
        """The training script, relative to the project's folder."""
        program = self._code.get("program")
        return program if isinstance(program, str) and program else "train.py"

    @property
    def code_files(self) -> Mapping[str, str] | None:
        """Path -> SHA-256 of each source file; None in older runs, which do not record them."""
        files = self._code.get("files")
        return {str(path): str(digest) for path, digest in files.items()} if isinstance(files, Mapping) else None

    @property
    def _code(self) -> Mapping[str, Any]:
        code = self.environment.get("code")
        return code if isinstance(code, Mapping) else {}

    def rows(self, having: str | None = None) -> Iterator[Row]:
        """Read the metrics line by line; incomplete lines and lines that are not metrics are skipped.

        Args:
            having: Read only lines with this score, which is much faster.

        Raises:
            OSError: The file cannot be read. A missing file has no rows.
        """
        try:
            file = _open(self.metrics_path)
        except FileNotFoundError:
            return
        wanted = b"" if having is None else json.dumps(having).encode()
        with file:
            for line in file:
                if wanted in line and (row := parse_row(line)) is not None:
                    yield row

    def last_rows(self, size: int = _TAIL) -> list[Row]:
        """Read the rows in the last `size` bytes of the metrics; none if the file cannot be read."""
        try:
            with _open(self.metrics_path) as file:
                start = max(file.seek(0, os.SEEK_END) - size, 0)
                file.seek(start)
                lines = file.read(size).split(b"\n")
        except OSError:
            return []
        return [row for line in lines[1 if start else 0 :] if (row := parse_row(line)) is not None]

    def metrics_size(self) -> int:
        """Return the size of the metrics in bytes; 0 without any."""
        try:
            return self.metrics_path.stat().st_size
        except OSError:
            return 0

    def patch(self) -> str | None:
        """Return the diff of the source files against the git commit; None if not recorded."""
        try:
            with _open(self.path / "code.patch") as file:
                return file.read(_MAX_BYTES).decode("utf-8", "replace")
        except OSError:
            return None


class Found(NamedTuple):
    """The runs in a folder, and the subfolders that are not runs: each with the reason."""

    runs: list[RunFolder]
    others: list[tuple[str, str]]


def find_runs(folder: Path) -> Found:
    """Read the runs in a folder and in its subfolders, such as the runs of a hyperparameter search.

    Args:
        folder: A run, a folder of runs, or a project with a folder `runs`.

    Raises:
        UsageError: `folder` is not a folder.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise UsageError(f"`{folder}` {what}: give a folder of runs, such as `runs`")
    if is_run(folder):
        return Found([read_run(folder)], [])
    if (folder / "runs").is_dir():
        folder = folder / "runs"
    found = Found([], [])
    _search(folder, "", _DEPTH, found, {_identity(folder)})
    return found


def is_run(folder: Path) -> bool:
    """Whether a folder holds a run."""
    return any((folder / name).is_file() for name in _FILES)


def _search(folder: Path, prefix: str, depth: int, found: Found, seen: set[tuple[int, int]]) -> bool:
    """Add the runs below a folder to `found`, each once even if several links lead to it. Returns whether there are any."""
    try:
        with os.scandir(folder) as entries:
            folders = sorted(entry.name for entry in entries if not entry.name.startswith(".") and _is_dir(entry))
    except OSError as error:
        found.others.append((prefix.rstrip("/") or ".", f"cannot be read: {error.strerror}"))
        return True  # already reported
    any_run = False
    for name in folders:
        path, label = folder / name, prefix + name
        try:
            identity = _identity(path)
        except OSError:
            continue  # just removed
        if identity in seen:
            found.others.append((label, "is the same folder as another one"))
        elif is_run(path):
            seen.add(identity)
            found.runs.append(read_run(path, label))
        elif name.endswith(".tmp"):
            continue  # a run that is being discarded
        else:
            seen.add(identity)
            if not depth or not _search(path, f"{label}/", depth - 1, found, seen):
                found.others.append((label, "holds no run"))
        any_run = True
    return any_run


def _is_dir(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a circular link
        return False


def _identity(folder: Path) -> tuple[int, int]:
    about = folder.stat()
    return about.st_dev, about.st_ino


def read_run(path: Path, name: str | None = None) -> RunFolder:
    """Read a run, apart from its metrics, which `RunFolder.rows` reads."""
    problems: list[str] = []
    config = _read_json(path / "config.json", problems)
    status = _read_json(path / "status.json", problems)
    settings = config.get("settings", {})
    if not isinstance(settings, dict):
        problems.append("`config.json` has no settings")
        settings = {}
    elif "settings" not in config and not problems:
        problems.append("`config.json` has no settings")
    commit = config.get("git_commit")
    commit = commit if isinstance(commit, str) and commit else None
    state, note = state_of(status)
    versions = config.get("versions")
    data = config.get("data")
    known = {"settings", "versions", "git_commit", "data"}
    return RunFolder(
        path=path,
        name=path.name or str(path) if name is None else name,
        state=state,
        step=_whole(status.get("step")),
        epoch=_whole(status.get("epoch")),
        reason=str(status["reason"]) if status.get("reason") else None,
        note=note,
        started=as_time(status.get("started")) or _modified(path),
        updated=as_time(status.get("updated")) or _modified(path),
        settings=settings,
        versions={str(k): str(v) for k, v in versions.items()} if isinstance(versions, dict) else {},
        git_commit=commit.removesuffix("+") if commit else None,
        dirty=commit.endswith("+") if commit else None,
        data=data if isinstance(data, dict) else None,
        best=_best(status.get("best")),
        environment={key: value for key, value in config.items() if key not in known},
        damaged="; ".join(problems) or None,
    )


def require_run(path: Path) -> RunFolder:
    """Read a run whose settings are known.

    Raises:
        UsageError: `path` is not a run.
        PreconditionError: Its settings cannot be read.
    """
    if not is_run(path):
        raise UsageError(f"`{path}` is not a run directory: `paccel runs` lists the runs of a project")
    run = read_run(path)
    if not run.settings:
        raise PreconditionError(f"The settings of `{path}` are not known: {run.damaged or '`config.json` has none'}")
    return run


def _open(path: Path) -> BinaryIO:
    """Open a regular file for reading. Reading a pipe of that name could block forever.

    Raises:
        OSError: It cannot be read, or is not a regular file.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = os.fdopen(os.open(path, flags), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(0, "is not a regular file", str(path))
    return file


def _read_json(path: Path, problems: list[str]) -> dict[str, Any]:
    try:
        with _open(path) as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise ValueError(f"it has more than {_MAX_BYTES >> 20} MiB")
        value = json.loads(content)
        if not isinstance(value, dict):
            raise ValueError("it is not a JSON object")
    except FileNotFoundError:
        problems.append(f"`{path.name}` is missing")
    except OSError as error:
        problems.append(f"`{path.name}` cannot be read: {error.strerror}")
    except RecursionError:
        problems.append(f"`{path.name}` is damaged: it is nested too deeply")
    except ValueError as error:
        reason = "it is empty" if not content.strip() else str(error)
        problems.append(f"`{path.name}` is damaged: {reason}")
    else:
        return value
    return {}


def parse_row(line: bytes | str) -> Row | None:
    """Return the numbers in a line of metrics; None if it has no step."""
    try:
        entry = json.loads(line)
        row = {"step": _finite(entry["step"]), "epoch": as_float(entry.get("epoch"))}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    for key, value in entry.items():
        if value is None:
            row[key] = math.nan
        elif isinstance(value, int | float) and key not in row:
            row[key] = as_float(value)
    return row


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(value)
    return value


def _whole(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and math.isfinite(value) else 0


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _best(recorded: Any) -> Best | None:
    """Parse the status's entry about the best score: `score` (without `eval/`), `mode`, and `value` and `step` so far."""
    if not isinstance(recorded, dict) or not isinstance(recorded.get("score"), str):
        return None
    name, mode = f"eval/{recorded['score']}", recorded.get("mode")
    if mode != "min" and mode != "max":
        return None
    value, step = recorded.get("value"), recorded.get("step")
    if isinstance(value, int | float) and isinstance(step, int) and math.isfinite(as_float(value)):
        return Best(name, mode, as_float(value), step)
    return Best(name, mode)
