"""The journal of an upgrade: what each file was, what it becomes, and which phase the upgrade is in.

It is in `.paccel/upgrade/`, beside the old and the new content of each file, from the end of staging to the last write;
then this folder becomes `.paccel/undo/`. With it, an upgrade that was killed can be finished or undone.
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
    """The SHA-256 and the permission bits of a file."""

    sha256: str
    mode: int

    @classmethod
    def of(cls, content: bytes, mode: int) -> "Stamp":
        return cls(sha256(content).hexdigest(), mode)


def same_content(one: Stamp | None, other: Stamp | None) -> bool:
    """Whether two stamps have the same content, or both mean no file. Modes do not count: a disk may not store them."""
    return (one and one.sha256) == (other and other.sha256)


class Operation(NamedTuple):
    """One file to change; None as a stamp means no file.

    Attributes:
        path: Relative to the project.
        old: The file before the upgrade.
        new: The file after it.
    """

    path: str
    old: Stamp | None
    new: Stamp | None

    @property
    def is_incoming(self) -> bool:
        """Whether it is the template's version of a file, put aside."""
        return self.path.startswith(f"{INCOMING_DIR}/")


class Journal(NamedTuple):
    """Everything that is needed to finish, abort or undo an upgrade, besides the staged files.

    Attributes:
        phase: "apply": files are being replaced. "resolve": all are replaced, the user has to resolve conflicts or
            findings. "finish": these are resolved. "undo": everything is being restored.
        operations: The project's files, in the order in which they change.
        state: Baseline and manifest, replaced last; their numbers follow those of `operations`.
        conflicts: Paths with conflicts.
        markers: The ends of conflict marker lines: a space and a label.
        made: Folders that the upgrade creates, parents first.
        emptied: Folder -> mode of folders from which files are removed; empty ones are removed too.
        summary: What to tell the user about each file.
        findings: What the check of the whole project found, for the user to resolve or accept.
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
        """Read a journal; it may come from a repository of somebody else, so nothing in it is trusted.

        Raises:
            PreconditionError: It is not a valid journal.
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
                # Missing in journals of a paccel that did not check whole projects.
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


def staged_file(folder: Path, number: int) -> Path:
    """The new content of operation `number` of the upgrade in `folder`."""
    return folder / "new" / str(number)


def backup_file(folder: Path, number: int) -> Path:
    """The old content of operation `number` of the upgrade in `folder`."""
    return folder / "old" / str(number)


def read_journal(root: Path, folder: str = UPGRADE_DIR) -> Journal | None:
    """Return the journal in `folder`, or None if there is none.

    Raises:
        PreconditionError: It is damaged or cannot be read, or the folder is a link.
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
        # The staged files show what exists before and after: a journal that disagrees could delete files.
        for number, operation in enumerate(journal.everything):
            has_backup = backup_file(root / folder, number).exists()
            is_staged = staged_file(root / folder, number).exists()
            if has_backup != (operation.old is not None) or (is_staged and operation.new is None):
                raise _damaged(f": it does not match what is staged for `{operation.path}`")
    except OSError as error:
        raise PreconditionError(f"`{path}` cannot be read: {error.strerror}") from error
    return journal


def _damaged(detail: str) -> PreconditionError:
    return PreconditionError(
        f"`{UPGRADE_DIR}/journal.json` is damaged{detail}; your files have not been changed since, and their backups are in"
        f" `{UPGRADE_DIR}/old`: restore what you need, then delete `{UPGRADE_DIR}`"
    )


def write_journal(root: Path, journal: Journal, folder: str = UPGRADE_DIR) -> None:
    """Replace the journal in `folder`."""
    disk.write_whole(root / folder / "journal.json", journal.to_json())


def stamp_of(root: Path, path: str) -> Stamp | None:
    """The stamp of the file at `path`; None if there is no file.

    Raises:
        PreconditionError: There is something other than a regular file, or a link in the path.
    """
    place = root
    for part in path.split("/")[:-1]:
        place = place / part
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            if not place.is_symlink():
                return None  # a file that will be replaced by a folder
            raise PreconditionError(
                f"`{place.relative_to(root).as_posix()}` is a symbolic link, which paccel does not write through: remove it"
            )
    try:
        found = (root / path).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISDIR(found.st_mode):
        return None  # a folder that will be replaced by a file
    if not stat.S_ISREG(found.st_mode):
        raise PreconditionError(f"`{path}` is no longer a regular file: move it away and try again")
    return Stamp.of((root / path).read_bytes(), stat.S_IMODE(found.st_mode))
