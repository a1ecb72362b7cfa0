"""Plan an upgrade: three trees in, a change for each file out. Pure: nothing is read, nothing is written.

The three trees are the baseline (what was generated), the project (what the user made of it) and the new render.
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
    """What an upgrade is told besides the three trees.

    Attributes:
        labels: What conflict markers call the sides.
        formatter_files: The project's files that may configure a formatter.
        moved: (old, new) paths that the template declares.
        once: Patterns of files that are generated once and then belong to the user.
        unknown: Paths that were generated, but whose generated content is lost: they count as edited.
        skipped: Files or folders that upgrades leave alone.
        restore: Files that the user deleted and wants again.
        only: Files or folders to upgrade now, the others later; empty for all.
        why: Path -> changelog lines; "" for lines about every file.
        modes: Whether the modes of the user's files tell anything, see `modes_tell`.
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


class FilePlan(NamedTuple):
    """What an upgrade does to every file, and the baseline afterwards.

    Attributes:
        changes: One for each file that changes, in path order.
        baseline: The new baseline.
        folders: Old folder -> new folder of those that the template moved whole.
    """

    changes: tuple[FileChange, ...]
    baseline: Tree
    folders: Mapping[str, str] = {}


class TrackedFile(NamedTuple):
    """A file of the template through time: its path in the baseline and in the new render, None where it has none."""

    old: str | None
    new: str | None

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(path for path in (self.old, self.new) if path is not None))


def plan_files(base: Tree, ours: Snapshot, theirs: Tree, options: UpgradeOptions) -> FilePlan:
    """Decide what to do with each file.

    Args:
        base: The files as generated; without those in `options.unknown`.
        ours: The project, with every path of `base`, `theirs` and `options.unknown`.
        theirs: The new render.
    """
    moves = template_moves(base, theirs, options.moved)
    moved_here = set(moves.values())
    files = [TrackedFile(path, moves.get(path, path if path in theirs else None)) for path in base]
    files += [TrackedFile(None, path) for path in theirs if path not in base and path not in moved_here]
    files += [TrackedFile(path, None) for path in options.unknown if path not in theirs]
    # A template's file that is missing may be one of the user's files now, under another name.
    missing = [
        path
        for path in base
        if path not in ours.files and path not in ours.obstacles and moves.get(path, path) not in ours.files
    ]
    renamed = user_moves({path: base[path] for path in missing}, ours.strays)
    planner = _Planner(base, ours, theirs, options, renamed, frozenset(renamed.values()))
    changes: list[FileChange] = []
    baseline: dict[str, File] = {}
    for tracked in files:
        if planner.left_alone(tracked):
            change = planner.skipped(tracked)
            if tracked.old is not None and tracked.old in base:
                baseline[tracked.old] = base[tracked.old]
        else:
            change = planner.change(tracked)
            if tracked.new is not None:
                baseline[tracked.new] = theirs[tracked.new]
        if change is not None:
            changes.append(change)
    moved = {old: new for old, new in moves.items() if new in baseline}
    return FilePlan(
        tuple(_clear_ways(sorted(changes, key=lambda change: change.path), ours)),
        dict(sorted(baseline.items())),
        moved_folders(moved, baseline),
    )


class _Planner(NamedTuple):
    base: Tree
    ours: Snapshot
    theirs: Tree
    options: UpgradeOptions
    renamed: Mapping[str, str]
    places: frozenset[str]
    """Where the renamed files are."""

    def left_alone(self, tracked: TrackedFile) -> bool:
        if self._is_users(tracked) and not _covers(self.options.restore, tracked.paths):
            return True
        chosen = [*self.options.skipped] if not _covers(self.options.restore, tracked.paths) else []
        if _covers(chosen, tracked.paths):
            return True
        return bool(self.options.only) and not _covers(self.options.only, tracked.paths)

    def _is_users(self, tracked: TrackedFile) -> bool:
        """Whether the file was generated before, and the template says that once is enough."""
        generated = tracked.old is not None or tracked.new in self.options.unknown
        return generated and any(fnmatchcase(path, pattern) for path in tracked.paths for pattern in self.options.once)

    def skipped(self, tracked: TrackedFile) -> FileChange | None:
        """Tell about a file that is skipped permanently, if the template changed it."""
        if not _covers(self.options.skipped, tracked.paths) or self._base(tracked) == self._theirs(tracked):
            return None
        path = tracked.paths[-1] if tracked.paths[-1] in self.ours.files else tracked.paths[0]
        file = self.ours.files.get(path)
        chosen = next(some for some in self.options.skipped if _covers([some], tracked.paths))
        reason = f"skipped by you; changed in the template (`paccel upgrade --restore {chosen}` stops skipping)"
        return FileChange(path, "kept", reason, file, file, why=self._why(tracked))

    def change(self, tracked: TrackedFile) -> FileChange | None:
        base, theirs = self._base(tracked), self._theirs(tracked)
        place = self._place(tracked)
        ours = self._ours(place) if place else None
        obstacle = self.ours.obstacles.get(place or tracked.paths[-1])
        why = self._why(tracked)
        if tracked.old in self.options.unknown or tracked.new in self.options.unknown:
            return self._without_base(tracked, why)
        if obstacle is not None and obstacle.kind != "file":
            return self._obstructed(tracked, place or tracked.paths[-1], base, theirs, why)
        if ours is None or place is None:
            return self._missing(tracked, base, theirs, why)
        if theirs is None or tracked.new is None:
            return self._deleted(place, base, ours, why) if base is not None else None
        if place in self.places:
            return self._merged(place, None, base, ours, theirs, f"you renamed `{tracked.old}`", why)
        if place == tracked.new or tracked.old is None:
            return self._merged(place, None, base, ours, theirs, "", why)
        there = self.ours.files.get(tracked.new)
        obstacle = self.ours.obstacles.get(tracked.new)
        if there is not None or (obstacle is not None and obstacle.kind != "file"):
            reason = f"the template moved `{tracked.old}` here, but you have another file here: yours is kept"
            return FileChange(tracked.new, "conflict", reason, there, there, None, 1, theirs, why)
        return self._merged(tracked.new, tracked.old, base, ours, theirs, f"the template moved `{tracked.old}`", why)

    def _base(self, tracked: TrackedFile) -> File | None:
        return self.base.get(tracked.old) if tracked.old is not None else None

    def _theirs(self, tracked: TrackedFile) -> File | None:
        return self.theirs.get(tracked.new) if tracked.new is not None else None

    def _why(self, tracked: TrackedFile) -> tuple[str, ...]:
        return tuple(dict.fromkeys(line for path in ("", *tracked.paths) for line in self.options.why.get(path, ())))

    def _place(self, tracked: TrackedFile) -> str | None:
        """Where the user has the file: where it was generated, where the template has it now, or under a new name."""
        renamed = self.renamed.get(tracked.old) if tracked.old is not None else None
        places = [*tracked.paths, *([renamed] if renamed is not None else [])]
        return next((place for place in places if self._ours(place) is not None), None)

    def _ours(self, path: str) -> File | None:
        return self.ours.files.get(path) or self.ours.strays.get(path)

    def _missing(
        self, tracked: TrackedFile, base: File | None, theirs: File | None, why: tuple[str, ...]
    ) -> FileChange | None:
        """The user has no such file: it is new, or they deleted it."""
        if theirs is None or tracked.new is None:
            return None
        if base is None:
            return FileChange(tracked.new, "added", "new in the template", None, theirs, why=why)
        if _covers(self.options.restore, tracked.paths):
            return FileChange(tracked.new, "restored", "requested with `--restore`", None, theirs, why=why)
        if base == theirs and tracked.old == tracked.new:
            return None
        reason = f"deleted by you; changed in the template (`paccel upgrade --restore {tracked.new}` brings it back)"
        return FileChange(tracked.new, "kept", reason, why=why)

    def _deleted(self, place: str, base: File | None, ours: File, why: tuple[str, ...]) -> FileChange:
        """The template no longer has it."""
        if place in self.places:
            return FileChange(
                place, "kept", "deleted in the template; you renamed it, so it stays", ours, ours, why=why
            )
        if base is not None and same(base, ours, modes=False):  # a mode alone is nothing to keep a file for
            return FileChange(place, "deleted", "deleted in the template; you had not edited it", ours, None, why=why)
        reason = _DELETED_BUT_EDITED
        return FileChange(place, "conflict", reason, ours, ours, conflicts=1, why=why)

    def _merged(
        self,
        path: str,
        moved_from: str | None,
        base: File | None,
        ours: File,
        theirs: File,
        moved: str,
        why: tuple[str, ...],
    ) -> FileChange | None:
        """Both have it."""
        status: Status
        if base == theirs and moved_from is None:
            return None
        if ours == theirs:
            if moved_from is None:
                return FileChange(path, "kept", "already the same as in the template", ours, ours, why=why)
            return FileChange(path, "moved", moved, ours, ours, moved_from, why=why)
        result = merge_file(
            base.content if base else None,
            ours.content,
            theirs.content,
            path,
            self.options.labels,
            self.options.formatter_files,
        )
        executable = theirs.executable if base is None or ours.executable == base.executable else ours.executable
        if base is None and ours.content != theirs.content:
            executable = ours.executable
        after = File(result.content, executable)
        notes = "; ".join([moved, *result.notes] if moved else result.notes)
        if result.conflicts:
            status, reason = "conflict", "you and the template changed the same lines"
            if base is None:
                reason = "you and the template both added this file"
        elif moved_from is not None:
            status, reason = "moved", ""
        elif after == ours:
            status, reason = "kept", "your file already has the template's change"
        elif base is not None and same(base, ours, self.options.modes):
            status, reason = "updated", (
                "you had not edited it" if ours.content != after.content else "only its mode changes"
            )
        else:
            status, reason = "merged", "has your edits and the template's changes"
        incoming = File(result.incoming, theirs.executable) if result.incoming is not None else None
        text = "; ".join(part for part in (reason, notes) if part)
        return FileChange(path, status, text, ours, after, moved_from, result.conflicts, incoming, why)

    def _without_base(self, tracked: TrackedFile, why: tuple[str, ...]) -> FileChange | None:
        """The generated version is lost and the user's file differs from it: nothing of theirs is overwritten."""
        path = tracked.paths[0]
        ours, theirs = self._ours(path), self._theirs(tracked)
        if ours is None:
            return self._missing(tracked, File(b"", not theirs.executable), theirs, why) if theirs else None
        if theirs is not None and same(theirs, ours, self.options.modes):
            return None
        reason = f"there is no baseline to merge with: {_KEPT_ASIDE}"
        if theirs is None:
            reason = _DELETED_BUT_EDITED
        return FileChange(path, "conflict", reason, ours, ours, None, 1, theirs, why)

    def _obstructed(
        self, tracked: TrackedFile, place: str, base: File | None, theirs: File | None, why: tuple[str, ...]
    ) -> FileChange | None:
        """A link or a folder is where the file should be: it is never written through, never replaced."""
        obstacle = self.ours.obstacles[place]
        if theirs is None or (base == theirs and tracked.old == tracked.new):
            return None
        kinds = {"link": "a symbolic link", "folder": "a folder", "special": "not a regular file"}
        if obstacle.kind == "folder" and all(self._leaves(path) for path in obstacle.below):
            return FileChange(place, "added", "replaces a folder whose files are gone", None, theirs, why=why)
        reason = f"`{obstacle.at}` is {kinds[obstacle.kind]}: {_KEPT_ASIDE}"
        return FileChange(place, "conflict", reason, conflicts=1, incoming=theirs, why=why)

    def _leaves(self, path: str) -> bool:
        """Whether the upgrade deletes or moves away the user's file at `path`."""
        ours = self.ours.files.get(path)
        unedited = ours is not None and path in self.base and same(self.base[path], ours, modes=False)
        return unedited and path not in self.theirs


def _clear_ways(changes: Sequence[FileChange], ours: Snapshot) -> Iterable[FileChange]:
    """Put a new file aside where its folder cannot be made, because a file of the user's is there and stays."""
    leaving = {change.moved_from or change.path for change in changes if change.after is None or change.moved_from}
    for change in changes:
        obstacle = ours.obstacles.get(change.path)
        if change.after is None or obstacle is None or obstacle.kind != "file" or obstacle.at in leaving:
            yield change
            continue
        reason = f"`{obstacle.at}` is a file, but the template has a folder there: {_KEPT_ASIDE}"
        yield FileChange(change.path, "conflict", reason, conflicts=1, incoming=change.after, why=change.why)


def _covers(chosen: Iterable[str], paths: Iterable[str]) -> bool:
    """Whether one of the paths is chosen, itself or by a folder that it is in."""
    return any(path == some or path.startswith(some.rstrip("/") + "/") for some in chosen for path in paths)
