"""Stage an upgrade: write new content, backups and journal to `.paccel/upgrade.tmp`; renaming it starts the upgrade."""

import stat
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ..check.finding import Finding
from ..errors import PreconditionError
from ..files import disk
from ..files.tree import STATE_DIR, File
from .change import INCOMING_DIR, FileChange
from .journal import (
    MAX_JOURNAL_BYTES,
    STAGING_DIR,
    UPGRADE_DIR,
    Journal,
    Operation,
    Stamp,
    backup_file,
    staged_file,
    stamp_of,
)


class _Want(NamedTuple):
    """A file to write, or to remove if `new` is None.

    Attributes:
        seen: The file when the upgrade was planned; None for no file.
        checked: Whether the file must still be the same; paccel's own files need not.
        like: For a moved file, the old path, which has the permission bits.
    """

    path: str
    new: File | None
    seen: File | None = None
    checked: bool = True
    like: str = ""


def _wanted(changes: Sequence[FileChange], state: Mapping[str, bytes]) -> list[_Want]:
    wants: list[_Want] = []
    for change in changes:
        if change.moved_from is not None:
            wants += [
                _Want(change.moved_from, None, change.before),
                _Want(change.path, change.after, like=change.moved_from),
            ]
        elif change.before != change.after:
            wants.append(_Want(change.path, change.after, change.before))
        elif change.status == "conflict" and change.before is not None:
            # Not written now, but edited to resolve the conflict: the backup is needed to go back.
            wants.append(_Want(change.path, change.before, change.before))
        if change.incoming is not None:
            wants.append(_Want(f"{INCOMING_DIR}/{change.path}", change.incoming, checked=False))
    return wants + [_Want(path, File(content), checked=False) for path, content in state.items()]


def stage(
    root: Path,
    changes: Sequence[FileChange],
    state: Mapping[str, bytes],
    labels: Sequence[str],
    findings: Sequence[Finding] = (),
) -> None:
    """Write the new content, the backups and the journal of an upgrade; the last step, a rename, starts it.

    Raises:
        PreconditionError: A file changed since it was planned, or too many files change.
        OSError: Something cannot be written; `.paccel/upgrade.tmp` may be left.
    """
    staging = root / STAGING_DIR
    disk.remove_folder(staging)
    for folder in (staging, staging / "new", staging / "old"):
        disk.make_folder(folder)
    disk.write_file(staging / ".gitignore", b"*\n", 0o644, later=True)
    wants = _wanted(changes, state)
    leaving = {want.path.casefold() for want in wants if want.new is None}
    operations = [_stage_one(root, staging, number, want, leaving) for number, want in enumerate(wants)]
    count = len(operations) - len(state)
    files, of_state = operations[:count], operations[count:]
    journal = Journal(
        phase="apply",
        operations=tuple(files),
        state=tuple(of_state),
        conflicts=tuple(change.path for change in changes if change.status == "conflict"),
        markers=tuple(f" {label}" for label in labels),
        made=tuple(_made(root, files)),
        emptied=_emptied(root, files),
        summary=tuple(change.summary for change in changes),
        findings=tuple(findings),
    )
    content = journal.to_json()
    if len(content) > MAX_JOURNAL_BYTES:
        raise PreconditionError("Too many files change: upgrade some of them first, with `paccel upgrade PATH`")
    disk.write_file(staging / "journal.json", content, 0o644, later=True)
    disk.settle_tree(staging)
    disk.rename(staging, root / UPGRADE_DIR)
    disk.settle(root / STATE_DIR)


def _stage_one(root: Path, staging: Path, number: int, want: _Want, leaving: set[str]) -> Operation:
    """Write the new content and the backup of one file."""
    old = None
    if want.seen is not None or not want.checked:
        old = stamp_of(root, want.path)
        content = (root / want.path).read_bytes() if old else b""
        if want.checked and (want.seen is None or content != want.seen.content or old is None):
            raise PreconditionError(
                f"`{want.path}` changed while the upgrade was being planned: run `paccel upgrade` again"
            )
        if old is not None:
            disk.write_file(backup_file(staging, number), content, old.mode, later=True)
    elif want.path.casefold() not in leaving and stamp_of(root, want.path) is not None:
        raise PreconditionError(
            f"`{want.path}` appeared while the upgrade was being planned: run `paccel upgrade` again"
        )
    if want.new is None:
        return Operation(want.path, old, None)
    before = old or (stamp_of(root, want.like) if want.like else None)
    mode = _mode(before.mode if before else 0o644, want.new.executable)
    disk.write_file(staged_file(staging, number), want.new.content, mode, later=True)
    return Operation(want.path, old, Stamp.of(want.new.content, mode))


def _mode(old: int, executable: bool) -> int:
    """The user's permission bits; if executable changes, it does for all who may read."""
    if bool(old & 0o100) == executable:
        return old
    return old | (old & 0o444) >> 2 if executable else old & ~0o111


def _made(root: Path, operations: Sequence[Operation]) -> list[str]:
    """The folders that have to be created, parents first."""
    made: dict[str, None] = {}
    for op in operations:
        if op.new is not None:
            made |= dict.fromkeys(p for p in reversed(_parents(op.path)) if not (root / p).is_dir())
    return list(made)


def _emptied(root: Path, operations: Sequence[Operation]) -> dict[str, int]:
    """Folder -> mode of the folders that lose files and get none."""
    # By inode, not by name: on a case-insensitive disk, two spellings may be one folder.
    needed = {_identity(root / parent) for op in operations if op.new is not None for parent in _parents(op.path)}
    emptied: dict[str, int] = {}
    for op in operations:
        for parent in _parents(op.path) if op.new is None else ():
            if _identity(root / parent) not in needed:
                emptied[parent] = stat.S_IMODE((root / parent).stat().st_mode)
    return emptied


def _parents(path: str) -> list[str]:
    """The folders above `path` in the project, innermost first."""
    return [str(parent) for parent in PurePosixPath(path).parents][:-1]


def _identity(folder: Path) -> tuple[int, int] | None:
    """Device and inode of a folder; None if it does not exist."""
    if not folder.is_dir():
        return None
    found = folder.stat()
    return found.st_dev, found.st_ino
