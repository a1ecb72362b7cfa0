"""Apply a plan so that it can be killed at any write: stage, journal, replace, state last; and undo it.

What may be on the disk:

    .paccel/upgrade.tmp   staging or going back was interrupted: nothing depends on it, the next upgrade removes it
    .paccel/upgrade       an upgrade is unfinished, its journal has the phase: `--continue` or `--abort`
    .paccel/undo          the last upgrade is complete: `--undo`

Each step checks the disk before it writes, so continuing repeats nothing and overwrites no edit.
"""

import contextlib
import itertools
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..check.finding import Finding
from ..errors import PreconditionError
from ..files import disk
from ..files.tree import STATE_DIR
from ..merge.markers import has_labelled_marker
from .change import INCOMING_DIR, FileChange
from .journal import (
    STAGING_DIR,
    UNDO_DIR,
    UPGRADE_DIR,
    Journal,
    Operation,
    Stamp,
    backup_file,
    read_journal,
    same_content,
    staged_file,
    stamp_of,
    write_journal,
)
from .stage import stage

ABORTED_DIR = f"{STATE_DIR}/aborted"
"""Where `--abort` keeps the files that were edited since the upgrade started."""

_OLD_UNDO_DIR = f"{UNDO_DIR}.old"


def start(
    root: Path,
    changes: Sequence[FileChange],
    state: Mapping[str, bytes],
    labels: Sequence[str],
    findings: Sequence[Finding] = (),
) -> Journal:
    """Apply `changes`, then `state` if there are no conflicts and findings; all or nothing, unless killed.

    Args:
        changes: A plan for the files that are on the disk now.
        state: Path -> content of baseline and manifest, the manifest last.
        labels: The labels in conflict markers.
        findings: What the user has to resolve or accept besides conflicts.

    Returns:
        The journal: in phase "resolve" if there are conflicts or findings, else complete.

    Raises:
        PreconditionError: The disk is full or read-only, or a file changed meanwhile; nothing was changed.
    """
    try:
        stage(root, changes, state, labels, findings)
    except BaseException as error:
        with contextlib.suppress(OSError):
            disk.remove_folder(root / STAGING_DIR)
        if isinstance(error, OSError):
            raise _unwritable(root, error) from error
        raise
    return _forward_or_back(root)


def resume(root: Path, resolve: bool = True) -> Journal:
    """Continue an unfinished upgrade: replace the remaining files, then, if no conflict is left, the state.

    Args:
        resolve: Whether conflicts and findings count as resolved; if not, the upgrade keeps waiting for the user.

    Raises:
        PreconditionError: There is none, conflicts are left, or a file was edited that is still to be replaced.
    """
    journal = _unfinished(root)
    if journal.phase == "undo":
        abort(root)
        return journal
    with _half_done(root):
        return _forward(root, journal, resolve)


def abort(root: Path) -> list[str]:
    """Restore every file as it was before the unfinished upgrade.

    Returns:
        The paths, below `.paccel/aborted/`, of copies of the files that were edited since.
    """
    journal = _unfinished(root)
    with _half_done(root):
        edited = [op.path for op in journal.everything if _is_edited(stamp_of(root, op.path), op)]
        kept = [_keep_copy(root, path) for path in edited if stamp_of(root, path) is not None]
        _roll_back(root, journal)
    return kept


def undo(root: Path) -> Journal:
    """Restore every file as it was before the last upgrade.

    Raises:
        PreconditionError: There is no upgrade to undo, or files were edited since.
    """
    journal = read_journal(root, UNDO_DIR)
    if journal is None:
        raise PreconditionError("There is no upgrade to undo: only the last one can be undone, and only once")
    edited = [
        op.path for op in journal.everything if not same_content(stamp_of(root, op.path), op.new) and not op.is_incoming
    ]
    if edited:
        names = ", ".join(f"`{path}`" for path in edited)
        raise PreconditionError(
            f"Undoing the upgrade would lose edits made since: {names}; restore these files as the upgrade left them, or"
            f" copy the old ones from `{UNDO_DIR}/old` by hand"
        )
    with _half_done(root):
        write_journal(root, journal.in_phase("undo"), UNDO_DIR)
        disk.rename(root / UNDO_DIR, root / UPGRADE_DIR)
        return _roll_back(root, journal)


def unresolved(root: Path, journal: Journal) -> list[str]:
    """The files with conflicts that still contain a conflict marker."""
    left: list[str] = []
    origins = {change.path: change.moved_from or change.path for change in journal.summary}
    backups = {op.path: backup_file(root / UPGRADE_DIR, number) for number, op in enumerate(journal.operations)}
    for path in journal.conflicts:
        if stamp_of(root, path) is None:
            continue
        backup = backups.get(origins.get(path, path))
        before = backup.read_bytes() if backup is not None and backup.is_file() else b""
        if has_labelled_marker((root / path).read_bytes(), journal.markers, before):
            left.append(path)
    return left


def clear_leftovers(root: Path) -> None:
    """Remove what an interrupted command left in `.paccel`; nothing in the project depends on it.

    Raises:
        PreconditionError: It cannot be removed.
    """
    try:
        disk.remove_folder(root / STAGING_DIR)
        disk.remove_folder(root / _OLD_UNDO_DIR)
    except OSError as error:
        raise _unwritable(root, error) from error


def _unfinished(root: Path) -> Journal:
    journal = read_journal(root)
    if journal is None:
        raise PreconditionError("There is no unfinished upgrade: `paccel upgrade` starts one")
    return journal


def _unwritable(root: Path, error: OSError) -> PreconditionError:
    where = f"`{error.filename}`" if error.filename else f"`{root}`"
    return PreconditionError(f"{where} cannot be written: {error.strerror}; nothing was changed")


def _forward_or_back(root: Path) -> Journal:
    """Go forward; on a disk error or Ctrl-C, restore everything immediately."""
    try:
        return _forward(root, _unfinished(root), resolve=False)
    except BaseException as error:
        journal = read_journal(root)
        if journal is None:  # the upgrade is complete
            raise
        with _half_done(root):
            _roll_back(root, journal)
        if isinstance(error, OSError):
            raise _unwritable(root, error) from error
        raise


@contextlib.contextmanager
def _half_done(root: Path) -> Iterator[None]:
    """Turn a disk error in the middle into a message with what to do."""
    try:
        yield
    except OSError as error:
        raise PreconditionError(
            f"`{error.filename or root}` cannot be written: {error.strerror}; the upgrade is half done, but nothing"
            " is lost: free some space or make it writable, then run `paccel upgrade --continue` or `--abort`"
        ) from error


# --- forward -------------------------------------------------------------------------------------------------------


def _forward(root: Path, journal: Journal, resolve: bool) -> Journal:
    folders: set[Path] = set()
    if journal.phase == "apply":
        folders = _replace_all(root, journal)
        if journal.conflicts or journal.findings:
            disk.settle_all(folders)
            journal = journal.in_phase("resolve")
            write_journal(root, journal)
    if journal.phase == "resolve":
        if not resolve:
            return journal
        journal = _resolved(root, journal)
        write_journal(root, journal)
    if journal.phase == "finish":
        folders |= _clear_incoming(root, journal)
    for number, op in enumerate(journal.state, len(journal.operations)):
        _replace_one(root, number, op)
    disk.settle_all({*folders, root / STATE_DIR})  # all renames reach the disk before the journal says so
    old_undo = root / _OLD_UNDO_DIR
    if (root / UNDO_DIR).exists():  # else interrupted here: the old one may be needed to go back
        disk.remove_folder(old_undo)
        disk.rename(root / UNDO_DIR, old_undo)
    disk.rename(root / UPGRADE_DIR, root / UNDO_DIR)
    with contextlib.suppress(OSError):  # complete; the next upgrade removes what is left
        disk.settle(root / STATE_DIR)
        disk.remove_folder(old_undo)
    return journal


def _resolved(root: Path, journal: Journal) -> Journal:
    """The journal in phase "finish": `new` is each file as the user left it, and template's versions are removed.

    Raises:
        PreconditionError: Conflict markers are left.
    """
    left = unresolved(root, journal)
    if left:
        names = ", ".join(f"`{path}`" for path in left)
        raise PreconditionError(
            f"{names} still contain{'s' if len(left) == 1 else ''} conflict markers: resolve each conflict, then run"
            " `paccel upgrade --continue`; or go back with `paccel upgrade --abort`"
        )
    operations: list[Operation] = []
    for op in journal.operations:
        new = op.new
        if op.is_incoming:
            new = None if same_content(stamp_of(root, op.path), op.new) else op.new
        elif journal.findings or op.path in journal.conflicts:  # the user may edit any file to resolve a finding
            new = stamp_of(root, op.path)
        operations.append(op._replace(new=new))
    return journal._replace(operations=tuple(operations), phase="finish")


def _clear_incoming(root: Path, journal: Journal) -> set[Path]:
    """Remove the template's versions that were put aside; return the folders that have to be synced to the disk."""
    incoming = [op.path for op in journal.operations if op.is_incoming and op.new is None]
    for path in incoming:
        disk.remove_file(root / path)
    for folder in reversed(journal.made):
        if f"{folder}/".startswith(f"{INCOMING_DIR}/"):
            disk.remove_empty_folder(root / folder)
    return {(root / path).parent for path in incoming if (root / path).parent.is_dir()}


def _replace_all(root: Path, journal: Journal) -> set[Path]:
    """Replace the project's files; return the folders that have to be synced to the disk."""
    folders = {(root / op.path).parent for op in journal.operations}
    # Removals first: a file may make way for a folder, or for another spelling of its name.
    for number, op in enumerate(journal.operations):
        if op.new is None:
            _replace_one(root, number, op)
    for folder in sorted(journal.emptied, key=len, reverse=True):
        disk.remove_empty_folder(root / folder)
        folders |= {root / folder, (root / folder).parent}
    for folder in journal.made:
        folders.add((root / folder).parent)
        if not (root / folder).is_dir():
            disk.make_folder(root / folder)
    for number, op in enumerate(journal.operations):
        if op.new is not None:
            _replace_one(root, number, op)
    return {folder for folder in folders if folder.is_dir()}


def _replace_one(root: Path, number: int, op: Operation) -> None:
    now = stamp_of(root, op.path)
    staged = staged_file(root / UPGRADE_DIR, number)
    if op.new is None:
        if now is None:
            return
    elif not staged.exists():  # replaced before an interruption; a later edit is kept
        if same_content(now, op.old) and not same_content(op.old, op.new):
            raise PreconditionError(f"`{staged}` is missing: go back with `paccel upgrade --abort`")
        return
    if _is_edited(now, op):
        raise PreconditionError(
            f"`{op.path}` was edited after the upgrade was interrupted: undo that edit, or run"
            " `paccel upgrade --abort`, which keeps a copy of it"
        )
    if op.new is None:
        disk.remove_file(root / op.path)
    else:
        disk.replace_file(staged, root / op.path)


def _is_edited(now: Stamp | None, op: Operation) -> bool:
    """Whether a file is neither the old nor the new one."""
    return not same_content(now, op.old) and not same_content(now, op.new)


# --- back ----------------------------------------------------------------------------------------------------------


def _roll_back(root: Path, journal: Journal) -> Journal:
    """Restore the old files; a copy of every file that was edited since exists already."""
    journal = journal.in_phase("undo")
    write_journal(root, journal)
    numbered = list(enumerate(journal.everything))
    for _, op in numbered:
        if op.old is None and stamp_of(root, op.path) is not None:
            disk.remove_file(root / op.path)
    for folder in reversed(journal.made):
        disk.remove_empty_folder(root / folder)
    for folder, mode in sorted(journal.emptied.items(), key=lambda item: len(item[0])):
        if not (root / folder).is_dir() or stat.S_IMODE((root / folder).stat().st_mode) != mode:
            disk.make_folder(root / folder, mode)
    for number, op in reversed(numbered):
        if op.old is not None and stamp_of(root, op.path) != op.old:
            # Write a copy: the backup must survive if this is killed.
            aside = root / UPGRADE_DIR / "back"
            disk.remove_file(aside)
            disk.write_file(aside, backup_file(root / UPGRADE_DIR, number).read_bytes(), op.old.mode)
            disk.replace_file(aside, root / op.path)
    changed = {
        (root / path).parent for path in (*(op.path for op in journal.everything), *journal.made, *journal.emptied)
    }
    disk.settle_all(folder for folder in changed if folder.is_dir())
    if (root / _OLD_UNDO_DIR).exists() and not (root / UNDO_DIR).exists():
        disk.rename(root / _OLD_UNDO_DIR, root / UNDO_DIR)  # the previous upgrade can be undone again
    disk.remove_folder(root / STAGING_DIR)
    disk.rename(root / UPGRADE_DIR, root / STAGING_DIR)
    with contextlib.suppress(OSError):  # complete; the next upgrade removes what is left
        disk.settle(root / STATE_DIR)
        disk.remove_folder(root / STAGING_DIR)
    return journal


def _keep_copy(root: Path, path: str) -> str:
    """Copy a file into `.paccel/aborted/`, under a free name; return its path there."""
    now = stamp_of(root, path)
    assert now is not None
    names = itertools.chain([path], (f"{path}.{number}" for number in itertools.count(2)))
    for name in names:
        target = root / ABORTED_DIR / name
        if stamp_of(root, f"{ABORTED_DIR}/{name}") == now:
            return name
        if not os.path.lexists(target):
            break
    parts = target.relative_to(root).parts
    for depth in range(1, len(parts)):
        folder = root.joinpath(*parts[:depth])
        if not folder.is_dir():
            disk.make_folder(folder)
    disk.write_file(target, (root / path).read_bytes(), now.mode)
    return name
