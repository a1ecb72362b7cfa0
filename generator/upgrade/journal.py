"""The journal of an upgrade: what changes, from what, to what, and how far it has come.

It is in `.paccel/upgrade/` from the moment everything is staged until the last write, beside the new and the old content
of each file; then the folder moves to `.paccel/undo/`. With it, an upgrade killed in between can be finished or undone.
"""

import json
import stat
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ..check.finding import Finding
from ..errors import PaccelError, PreconditionError
from ..files import disk
from ..files.tree import STATE_DIR, check_file_path, check_path
from ..project.state import STATE_PATHS
from .change import INCOMING_DIR, Summary

SCHEMA = 1
UPGRADE_DIR = f"{STATE_DIR}/upgrade"
STAGING_DIR = f"{STATE_DIR}/upgrade.tmp"
UNDO_DIR = f"{STATE_DIR}/undo"

MAX_JOURNAL_BYTES = 128 * 2**20

Phase = Literal["apply", "resolve", "finish", "undo"]


class Stamp(NamedTuple):
    """A file's content, by its SHA-256, and its permission bits."""

    sha256: str
    mode: int

    @classmethod
    def of(cls, content: bytes, mode: int) -> "Stamp":
        return cls(sha256(content).hexdigest(), mode)


def same_content(one: Stamp | None, other: Stamp | None) -> bool:
    """Whether two stamps are of the same content, or both of no file. Modes do not count: a disk may not hold them."""
    return (one and one.sha256) == (other and other.sha256)


class Operation(NamedTuple):
    """One file to change; a stamp of None stands for no file.

    Attributes:
        path: Relative to the project.
        old: What is there before.
        new: What is there afterwards.
    """

    path: str
    old: Stamp | None
    new: Stamp | None


class Journal(NamedTuple):
    """Everything that finishing, aborting or undoing an upgrade needs to know, besides the staged files.

    Attributes:
        phase: "apply": files are being replaced. "resolve": they are, conflicts or findings are left to the user.
            "finish": those are resolved. "undo": everything goes back.
        operations: Files of the project, in the order in which they change. The staged content of number i is
            `new/<i>`, the backup is `old/<i>`.
        state: Baseline and manifest, changed last; numbered on from `operations`.
        conflicts: Paths that the user has to look at.
        markers: The lines, but for their first signs, that conflict markers end with.
        made: Folders that the upgrade makes, parents first.
        emptied: Folder -> mode of those from which files go; they go too, if nothing is left.
        summary: What to tell the user about each file.
        findings: What the check of the whole project found, which the user has to resolve or accept.
    """

    phase: Phase
    operations: tuple[Operation, ...]
    state: tuple[Operation, ...]
    conflicts: tuple[str, ...] = ()
    markers: tuple[str, ...] = ()
    made: tuple[str, ...] = ()
    emptied: Mapping[str, int] = {}
    summary: tuple[Summary, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def everything(self) -> tuple[Operation, ...]:
        return self.operations + self.state

    def to_json(self) -> bytes:
        data = {
            "schema": SCHEMA,
            **self._asdict(),
            "operations": [_as_json(operation) for operation in self.operations],
            "state": [_as_json(operation) for operation in self.state],
            "summary": [summary.to_json() for summary in self.summary],
            "findings": [finding.to_json() for finding in self.findings],
        }
        return (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode()

    @classmethod
    def from_json(cls, content: bytes) -> "Journal":
        """Read a journal; it may come with somebody's repository, so nothing in it is trusted.

        Raises:
            PreconditionError: It is not what paccel writes.
        """
        try:
            data = json.loads(content)
            if data["schema"] != SCHEMA:
                raise PreconditionError(
                    f"`{UPGRADE_DIR}/journal.json` has schema `{data['schema']}`, but this paccel reads `{SCHEMA}`:"
                    " use the paccel that wrote it"
                )
            assert data["phase"] in {"apply", "resolve", "finish", "undo"}
            journal = cls(
                phase=data["phase"],
                operations=_operations(data["operations"]),
                state=_operations(data["state"]),
                conflicts=tuple(check_path(path) for path in data["conflicts"]),
                markers=tuple(str(marker) for marker in data["markers"]),
                made=tuple(_folder(path) for path in data["made"]),
                emptied={_folder(path): int(mode) & 0o7777 for path, mode in data["emptied"].items()},
                summary=tuple(Summary.from_json(entry) for entry in data["summary"]),
                # A paccel that did not check whole projects wrote none.
                findings=tuple(Finding.from_json(entry) for entry in data.get("findings", ())),
            )
            for operation in journal.operations:
                _check(operation.path)
            assert all(operation.path in STATE_PATHS for operation in journal.state)
        except PreconditionError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, AssertionError, RecursionError) as error:
            detail = f": {error}" if isinstance(error, PaccelError) else ""
            raise _damaged(detail) from error
        return journal

    def in_phase(self, phase: Phase) -> "Journal":
        return self._replace(phase=phase)


def _as_json(operation: Operation) -> dict[str, Any]:
    stamps = {"old": operation.old, "new": operation.new}
    return {"path": operation.path, **{name: stamp and stamp._asdict() for name, stamp in stamps.items()}}


def _operations(entries: Iterable[Mapping[str, Any]]) -> tuple[Operation, ...]:
    return tuple(Operation(check_path(e["path"]), _stamp(e["old"]), _stamp(e["new"])) for e in entries)


def _stamp(entry: Mapping[str, Any] | None) -> Stamp | None:
    return None if entry is None else Stamp(str(entry["sha256"]), int(entry["mode"]) & 0o7777)


def _check(path: str) -> None:
    if path.startswith(INCOMING_DIR + "/"):
        check_file_path(path.removeprefix(INCOMING_DIR + "/"))
    else:
        check_file_path(path)


def _folder(path: str) -> str:
    if path not in {STATE_DIR, INCOMING_DIR}:
        _check(path)
    return check_path(path)


def read_journal(root: Path, folder: str = UPGRADE_DIR) -> Journal | None:
    """Return the journal in `folder`, or None if there is none.

    Raises:
        PreconditionError: It is damaged, or the folder is a link.
    """
    path = root / folder / "journal.json"
    try:
        for part in (root / STATE_DIR, root / folder, path):
            if part.is_symlink():
                raise PreconditionError(f"`{part}` is a symbolic link, which paccel does not follow: remove it")
        if not (root / folder).exists():
            return None
        if not stat.S_ISREG(path.stat().st_mode):
            raise PreconditionError(f"`{path}` is not a regular file: delete `{folder}`")
        if path.stat().st_size > MAX_JOURNAL_BYTES:
            raise PreconditionError(f"`{path}` is larger than {MAX_JOURNAL_BYTES // 2**20} MiB: delete `{folder}`")
        journal = Journal.from_json(path.read_bytes())
        # What is staged proves which files there were and will be: a journal that denies it would remove them.
        for number, operation in enumerate(journal.everything):
            is_kept, is_staged = ((root / folder / side / str(number)).exists() for side in ("old", "new"))
            if is_kept != (operation.old is not None) or (is_staged and operation.new is None):
                raise _damaged(f": it does not match what is staged for `{operation.path}`")
    except OSError as error:
        raise PreconditionError(f"`{path}` cannot be read: {error.strerror}") from error
    return journal


def _damaged(detail: str) -> PreconditionError:
    return PreconditionError(
        f"`{UPGRADE_DIR}/journal.json` is damaged{detail}; your files are untouched since, and their backups are in"
        f" `{UPGRADE_DIR}/old`: restore what you need, then delete `{UPGRADE_DIR}`"
    )


def write_journal(root: Path, journal: Journal, folder: str = UPGRADE_DIR) -> None:
    """Replace the journal in `folder`."""
    disk.write_whole(root / folder / "journal.json", journal.to_json())


def stamp_of(root: Path, path: str) -> Stamp | None:
    """What is at `path` now.

    Raises:
        PreconditionError: Something is there, or above it, that is no file and no folder of the project.
    """
    place = root
    for part in path.split("/")[:-1]:
        place = place / part
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            if not place.is_symlink():
                return None  # a file where a folder will be, once it has gone
            raise PreconditionError(
                f"`{place.relative_to(root).as_posix()}` is a symbolic link, which paccel does not write through: remove it"
            )
    try:
        found = (root / path).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISDIR(found.st_mode):
        return None  # a folder where a file will be, once it has gone
    if not stat.S_ISREG(found.st_mode):
        raise PreconditionError(f"`{path}` is no longer a regular file: move it away and try again")
    return Stamp.of((root / path).read_bytes(), stat.S_IMODE(found.st_mode))
