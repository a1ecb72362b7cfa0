"""Plan an upgrade: three trees in, one change per file out. Pure: reads and writes nothing.

The three trees are the baseline (as generated), the project (with the user's edits) and the new render.
"""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from ..files.tree import File, Tree
from ..merge.file import merge_file
from ..merge.markers import Labels
from ..project.compare import same
from ..project.snapshot import Snapshot
from .change import FileChange, Status
from .moves import moved_folders, template_moves, user_moves

_KEPT_ASIDE = "yours is kept, the template's version is put aside"
_DELETED_BUT_EDITED = "deleted in the template, but edited by you: yours is kept; delete it if you no longer need it"


class UpgradeOptions(NamedTuple):
    """What an upgrade depends on besides the three trees.

    Attributes:
        labels: The labels of the sides in conflict markers.
        formatter_files: The project's files that may configure a formatter.
        moved: (old, new) paths that the template declares.
        once: Patterns of files that are generated once and then belong to the user.
        unknown: Generated paths whose generated content is lost; they count as edited.
        skipped: Files and folders that upgrades leave alone.
        restore: Files that the user deleted and wants back.
        only: Files and folders to upgrade now, the others later; empty for all.
        why: Path -> changelog lines; "" for lines about every file.
        modes: Whether the modes of the user's files can be trusted, see `modes_tell`.
    """

    labels: Labels = Labels()
    formatter_files: Mapping[str, bytes] = {}
    moved: tuple[tuple[str, str], ...] = ()
    once: tuple[str, ...] = ()
    unknown: frozenset[str] = frozenset()
    skipped: tuple[str, ...] = ()
    restore: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    why: Mapping[str, tuple[str, ...]] = {}
    modes: bool = True

    def leaves_alone(self, paths: Sequence[str], generated: bool) -> bool:
        """Whether this upgrade does not touch a file: it is skipped, left for later, or generated only once.

        Args:
            paths: The paths of the file, in the baseline and in the new render.
            generated: Whether it was generated before.
        """
        if not covers(self.restore, paths):
            once = generated and any(fnmatchcase(path, pattern) for path in paths for pattern in self.once)
            if once or covers(self.skipped, paths):
                return True
        return bool(self.only) and not covers(self.only, paths)


def covers(chosen: Iterable[str], paths: Iterable[str]) -> bool:
    """Whether one of the paths is chosen, itself or by a folder that contains it."""
    folders = [(path, path.rstrip("/") + "/") for path in chosen]
    return any(path == file or path.startswith(folder) for path in paths for file, folder in folders)


class FilePlan(NamedTuple):
    """What an upgrade does to every file, and the new baseline.

    Attributes:
        changes: One for each file that changes, by path.
        baseline: The new baseline.
        folders: Old folder -> new folder that the template moved as a whole.
    """

    changes: tuple[FileChange, ...]
    baseline: Tree
    folders: Mapping[str, str] = {}


class TrackedFile(NamedTuple):
    """A file of the template: its path in the baseline and in the new render, None where it does not exist."""

    old: str | None
    new: str | None

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(path for path in (self.old, self.new) if path is not None))


def plan_files(base: Tree, ours: Snapshot, theirs: Tree, options: UpgradeOptions) -> FilePlan:
    """Decide what to do with each file.

    Args:
        base: The files as generated; without those in `options.unknown`.
        ours: The project; knows every path of `base`, `theirs` and `options.unknown`.
        theirs: The new render.
        options: What else the plan depends on.
    """
    moves = template_moves(base, theirs, options.moved)
    moved_here = set(moves.values())
    files = [TrackedFile(path, moves.get(path, path if path in theirs else None)) for path in base]
    files += [TrackedFile(None, path) for path in theirs if path not in base and path not in moved_here]
    files += [TrackedFile(path, None) for path in options.unknown if path not in theirs]
    # The user may have renamed a file of the template that is missing.
    missing = [
        path
        for path in base
        if path not in ours.files and path not in ours.obstacles and moves.get(path, path) not in ours.files
    ]
    renamed = user_moves({path: base[path] for path in missing}, ours.strays)
    planner = _Planner(base, ours, theirs, options, renamed)
    changes: list[FileChange] = []
    baseline: dict[str, File] = {}
    for tracked in files:
        if options.leaves_alone(tracked.paths, tracked.old is not None or tracked.new in options.unknown):
            change = planner.skipped(tracked)
            if tracked.old is not None and tracked.old in base:
                baseline[tracked.old] = base[tracked.old]
        else:
            change = planner.change(tracked)
            if tracked.new is not None:
                baseline[tracked.new] = theirs[tracked.new]
        if change is not None:
            why = (line for path in ("", *tracked.paths) for line in options.why.get(path, ()))
            changes.append(change._replace(why=tuple(dict.fromkeys(why))))
    moved = {old: new for old, new in moves.items() if new in baseline}
    return FilePlan(
        tuple(_without_blocked(sorted(changes, key=lambda change: change.path), ours)),
        dict(sorted(baseline.items())),
        moved_folders(moved, baseline),
    )


class _Planner(NamedTuple):
    """Decides what to do with a file.

    Attributes:
        renamed: Path in the baseline -> path that the user gave the file.
    """

    base: Tree
    ours: Snapshot
    theirs: Tree
    options: UpgradeOptions
    renamed: Mapping[str, str]

    def skipped(self, tracked: TrackedFile) -> FileChange | None:
        """Report a file that the user skips, if the template changed it."""
        if not covers(self.options.skipped, tracked.paths) or self._base(tracked) == self._theirs(tracked):
            return None
        path = tracked.paths[-1] if tracked.paths[-1] in self.ours.files else tracked.paths[0]
        file = self.ours.files.get(path)
        chosen = next(some for some in self.options.skipped if covers([some], tracked.paths))
        reason = f"skipped by you; changed in the template (`paccel upgrade --restore {chosen}` stops skipping)"
        return FileChange(path, "kept", reason, file, file)

    def change(self, tracked: TrackedFile) -> FileChange | None:
        """The change of a file; None if there is nothing to report."""
        base, theirs = self._base(tracked), self._theirs(tracked)
        place = self._place(tracked)
        ours = self._ours(place) if place else None
        if tracked.old in self.options.unknown or tracked.new in self.options.unknown:
            return self._without_base(tracked)
        obstacle = self.ours.obstacles.get(place or tracked.paths[-1])
        if obstacle is not None and obstacle.kind != "file":
            return self._obstructed(tracked, place or tracked.paths[-1])
        if ours is None or place is None:
            return self._missing(tracked, base)
        if theirs is None or tracked.new is None:
            return self._deleted(tracked, place, base, ours) if base is not None else None
        if self._is_renamed(tracked, place):
            return self._merged(place, None, base, ours, theirs, f"you renamed `{tracked.old}`")
        if place == tracked.new or tracked.old is None:
            return self._merged(place, None, base, ours, theirs)
        there = self.ours.files.get(tracked.new)
        obstacle = self.ours.obstacles.get(tracked.new)
        if there is not None or (obstacle is not None and obstacle.kind != "file"):
            reason = f"the template moved `{tracked.old}` here, but you have another file here: yours is kept"
            return FileChange(tracked.new, "conflict", reason, there, there, conflicts=1, incoming=theirs)
        return self._merged(tracked.new, tracked.old, base, ours, theirs, f"the template moved `{tracked.old}`")

    def _base(self, tracked: TrackedFile) -> File | None:
        return self.base.get(tracked.old) if tracked.old is not None else None

    def _theirs(self, tracked: TrackedFile) -> File | None:
        return self.theirs.get(tracked.new) if tracked.new is not None else None

    def _place(self, tracked: TrackedFile) -> str | None:
        """Where the user has the file: at its old path, at the template's new one, or where they moved it."""
        renamed = self.renamed.get(tracked.old) if tracked.old is not None else None
        places = [*tracked.paths, *([renamed] if renamed is not None else [])]
        return next((place for place in places if self._ours(place) is not None), None)

    def _is_renamed(self, tracked: TrackedFile, place: str) -> bool:
        """Whether the user moved the file to this place."""
        return tracked.old is not None and self.renamed.get(tracked.old) == place

    def _ours(self, path: str) -> File | None:
        return self.ours.files.get(path) or self.ours.strays.get(path)

    def _missing(self, tracked: TrackedFile, base: File | None) -> FileChange | None:
        """The user has no such file: it is new, or they deleted it."""
        theirs = self._theirs(tracked)
        if theirs is None or tracked.new is None:
            return None
        if base is None:
            return FileChange(tracked.new, "added", "new in the template", None, theirs)
        if covers(self.options.restore, tracked.paths):
            return FileChange(tracked.new, "restored", "requested with `--restore`", None, theirs)
        if base == theirs and tracked.old == tracked.new:
            return None
        reason = f"deleted by you; changed in the template (`paccel upgrade --restore {tracked.new}` brings it back)"
        return FileChange(tracked.new, "kept", reason)

    def _deleted(self, tracked: TrackedFile, place: str, base: File, ours: File) -> FileChange:
        """The template no longer has it."""
        if self._is_renamed(tracked, place):
            return FileChange(place, "kept", "deleted in the template; you renamed it, so it stays", ours, ours)
        if same(base, ours, modes=False):  # a changed mode alone is not worth keeping the file
            return FileChange(place, "deleted", "deleted in the template; you had not edited it", ours, None)
        return FileChange(place, "conflict", _DELETED_BUT_EDITED, ours, ours, conflicts=1)

    def _merged(
        self, path: str, moved_from: str | None, base: File | None, ours: File, theirs: File, moved: str = ""
    ) -> FileChange | None:
        """Both have it; `moved` says who moved it."""
        status: Status
        if base == theirs and moved_from is None:
            return None
        if ours == theirs:
            if moved_from is None:
                return FileChange(path, "kept", "already the same as in the template", ours, ours)
            return FileChange(path, "moved", moved, ours, ours, moved_from)
        result = merge_file(
            base.content if base else None,
            ours.content,
            theirs.content,
            path,
            self.options.labels,
            self.options.formatter_files,
        )
        keeps_mode = ours.executable != base.executable if base is not None else ours.content != theirs.content
        after = File(result.content, ours.executable if keeps_mode else theirs.executable)
        if result.conflicts:
            status = "conflict"
            reason = "you and the template " + ("both added this file" if base is None else "changed the same lines")
        elif moved_from is not None:
            status, reason = "moved", ""
        elif after == ours:
            status, reason = "kept", "your file already has the template's change"
        elif base is not None and same(base, ours, self.options.modes):
            status = "updated"
            reason = "you had not edited it" if ours.content != after.content else "only its mode changes"
        else:
            status, reason = "merged", "has your edits and the template's changes"
        incoming = File(result.incoming, theirs.executable) if result.incoming is not None else None
        text = "; ".join(part for part in (reason, moved, *result.notes) if part)
        return FileChange(path, status, text, ours, after, moved_from, result.conflicts, incoming)

    def _without_base(self, tracked: TrackedFile) -> FileChange | None:
        """The generated version is lost: a user's file that differs from the template's is kept."""
        path = tracked.paths[0]
        ours, theirs = self._ours(path), self._theirs(tracked)
        if ours is None:
            # Like a file that the user deleted and the template changed.
            return self._missing(tracked, File(b"", not theirs.executable)) if theirs else None
        if theirs is not None and same(theirs, ours, self.options.modes):
            return None
        reason = _DELETED_BUT_EDITED if theirs is None else f"there is no baseline to merge with: {_KEPT_ASIDE}"
        return FileChange(path, "conflict", reason, ours, ours, conflicts=1, incoming=theirs)

    def _obstructed(self, tracked: TrackedFile, place: str) -> FileChange | None:
        """A link or a folder is in the way: it is neither followed nor replaced."""
        obstacle = self.ours.obstacles[place]
        theirs = self._theirs(tracked)
        if theirs is None or (self._base(tracked) == theirs and tracked.old == tracked.new):
            return None
        kinds = {"link": "a symbolic link", "folder": "a folder", "special": "not a regular file"}
        if obstacle.kind == "folder" and all(self._leaves(path) for path in obstacle.below):
            return FileChange(place, "added", "replaces a folder whose files are gone", None, theirs)
        reason = f"`{obstacle.at}` is {kinds[obstacle.kind]}: {_KEPT_ASIDE}"
        return FileChange(place, "conflict", reason, conflicts=1, incoming=theirs)

    def _leaves(self, path: str) -> bool:
        """Whether the upgrade deletes or moves away the user's file at `path`."""
        ours = self.ours.files.get(path)
        unedited = ours is not None and path in self.base and same(self.base[path], ours, modes=False)
        return unedited and path not in self.theirs


def _without_blocked(changes: Sequence[FileChange], ours: Snapshot) -> Iterable[FileChange]:
    """Put a new file aside if its folder cannot be made, because a file of the user's stays there."""
    leaving = {change.moved_from or change.path for change in changes if change.after is None or change.moved_from}
    for change in changes:
        obstacle = ours.obstacles.get(change.path)
        if change.after is None or obstacle is None or obstacle.kind != "file" or obstacle.at in leaving:
            yield change
            continue
        reason = f"`{obstacle.at}` is a file, but the template has a folder there: {_KEPT_ASIDE}"
        yield FileChange(change.path, "conflict", reason, conflicts=1, incoming=change.after, why=change.why)
