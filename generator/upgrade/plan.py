"""Plan an upgrade: three trees in, what becomes of each file out. Pure: nothing is read, nothing is written.

The three trees are the baseline (what was generated), the project (what the user made of it) and the new render.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from ..files.tree import STATE_DIR, File, Tree
from ..merge.file import merge_file
from ..merge.markers import Labels
from ..project.snapshot import Snapshot
from .moves import USER_LIKENESS, likely_moves, template_moves

Status = Literal["updated", "merged", "conflict", "kept", "moved", "deleted", "added", "restored"]

INCOMING_DIR = f"{STATE_DIR}/incoming"
"""Where the template's version is put when it cannot be merged into the user's file."""


class FileChange(NamedTuple):
    """What becomes of one file.

    Attributes:
        path: Where the file is afterwards, or was if it is deleted.
        status: What happens, in one word.
        reason: Why, in one sentence.
        before: The user's file now, at `moved_from` if that is set; None if there is none.
        after: The file afterwards; None if there is none. Equal to `before` where nothing is written.
        moved_from: Where the user's file was, if it moves.
        conflicts: How many places in it are left to the user; at least 1 if `status` is "conflict".
        incoming: The template's file, to be put below `.paccel/incoming/`, where `after` does not hold it.
        why: The template's changelog lines for it.
    """

    path: str
    status: Status
    reason: str
    before: File | None = None
    after: File | None = None
    moved_from: str | None = None
    conflicts: int = 0
    incoming: File | None = None
    why: tuple[str, ...] = ()

    @property
    def writes(self) -> bool:
        """Whether a file of the user's changes."""
        return self.before != self.after or self.moved_from is not None

    def diff(self) -> str:
        """What happens to the user's file, as a unified diff; empty if nothing does."""
        from ..project.compare import compare

        before = {self.path: self.before} if self.before else {}
        after = {self.path: self.after} if self.after else {}
        return "".join(found.text for found in compare(before, after))

    def to_json(self, with_diff: bool = False) -> dict[str, Any]:
        data: dict[str, Any] = {"path": self.path, "status": self.status, "reason": self.reason}
        if self.moved_from is not None:
            data["moved_from"] = self.moved_from
        if self.conflicts:
            data["conflicts"] = self.conflicts
        if self.incoming is not None:
            data["incoming"] = f"{INCOMING_DIR}/{self.path}"
        data["why"] = list(self.why)
        if with_diff:
            data["diff"] = self.diff()
        return data


class Context(NamedTuple):
    """What an upgrade is told beyond the three trees.

    Attributes:
        labels: What conflict markers call the sides.
        settings: The project's files that may hold settings of a formatter.
        moved: (old, new) paths that the template declares.
        unknown: Paths that were generated, but whose generated content is lost: they count as edited.
        skipped: Files or folders that are left alone for good.
        restore: Files that the user deleted and wants again.
        only: Files or folders to be upgraded, the others not this time; empty for all.
        why: Path -> changelog lines; "" for lines about every file.
    """

    labels: Labels = Labels()
    settings: Mapping[str, bytes] = {}
    moved: tuple[tuple[str, str], ...] = ()
    unknown: frozenset[str] = frozenset()
    skipped: tuple[str, ...] = ()
    restore: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    why: Mapping[str, tuple[str, ...]] = {}


class FilePlan(NamedTuple):
    """What becomes of every file, and the baseline that will be true once it has."""

    changes: tuple[FileChange, ...]
    baseline: Tree


class _Unit(NamedTuple):
    """One file of the template through time: its path in the baseline and in the new render, either of which may lack."""

    old: str | None
    new: str | None

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(path for path in (self.old, self.new) if path is not None))


def plan_files(base: Tree, ours: Snapshot, theirs: Tree, context: Context) -> FilePlan:
    """Decide what becomes of each file.

    Args:
        base: The files as generated; without those in `context.unknown`.
        ours: The project, with every path of `base`, `theirs` and `context.unknown`.
        theirs: The new render.
    """
    moves = template_moves(base, theirs, context.moved)
    moved_here = set(moves.values())
    units = [_Unit(path, moves.get(path, path if path in theirs else None)) for path in base]
    units += [_Unit(None, path) for path in theirs if path not in base and path not in moved_here]
    units += [_Unit(path, None) for path in context.unknown if path not in theirs]
    # A template's file that is missing may be one of the user's files now, under another name.
    missing = [
        path
        for path in base
        if path not in ours.files and path not in ours.obstacles and moves.get(path, path) not in ours.files
    ]
    renamed = likely_moves({path: base[path] for path in missing}, ours.strays, USER_LIKENESS)
    planner = _Planner(base, ours, theirs, context, renamed)
    changes: list[FileChange] = []
    baseline: dict[str, File] = {}
    for unit in units:
        if planner.left_alone(unit):
            change = planner.skipped(unit)
            if unit.old is not None and unit.old in base:
                baseline[unit.old] = base[unit.old]
        else:
            change = planner.change(unit)
            if unit.new is not None:
                baseline[unit.new] = theirs[unit.new]
        if change is not None:
            changes.append(change)
    return FilePlan(
        tuple(_clear_ways(sorted(changes, key=lambda change: change.path), ours)), dict(sorted(baseline.items()))
    )


class _Planner(NamedTuple):
    base: Tree
    ours: Snapshot
    theirs: Tree
    context: Context
    renamed: Mapping[str, str]

    def left_alone(self, unit: _Unit) -> bool:
        chosen = [*self.context.skipped] if not _covers(self.context.restore, unit.paths) else []
        if _covers(chosen, unit.paths):
            return True
        return bool(self.context.only) and not _covers(self.context.only, unit.paths)

    def skipped(self, unit: _Unit) -> FileChange | None:
        """A line about a file that is skipped for good, if the template changed it."""
        if not _covers(self.context.skipped, unit.paths) or self._base(unit) == self._theirs(unit):
            return None
        path = unit.paths[-1] if unit.paths[-1] in self.ours.files else unit.paths[0]
        file = self.ours.files.get(path)
        chosen = next(some for some in self.context.skipped if _covers([some], unit.paths))
        reason = f"you skip it; the template changed it: `paccel upgrade --restore {chosen}` ends that"
        return FileChange(path, "kept", reason, file, file, why=self._why(unit))

    def change(self, unit: _Unit) -> FileChange | None:
        base, theirs = self._base(unit), self._theirs(unit)
        place = self._place(unit)
        ours = self._ours(place) if place else None
        obstacle = self.ours.obstacles.get(place or unit.paths[-1])
        why = self._why(unit)
        if unit.old in self.context.unknown or unit.new in self.context.unknown:
            return self._without_base(unit, why)
        if obstacle is not None and obstacle.kind != "file":
            return self._obstructed(unit, place or unit.paths[-1], base, theirs, why)
        if ours is None or place is None:
            return self._missing(unit, base, theirs, why)
        if theirs is None or unit.new is None:
            return self._deleted(place, base, ours, why) if base is not None else None
        if place in self.renamed.values():
            return self._merged(place, None, base, ours, theirs, f"you renamed `{unit.old}`", why)
        if place == unit.new or unit.old is None:
            return self._merged(place, None, base, ours, theirs, "", why)
        there = self.ours.files.get(unit.new)
        obstacle = self.ours.obstacles.get(unit.new)
        if there is not None or (obstacle is not None and obstacle.kind != "file"):
            reason = f"the template moved `{unit.old}` here, where you have something else: yours is kept"
            return FileChange(unit.new, "conflict", reason, there, there, None, 1, theirs, why)
        return self._merged(unit.new, unit.old, base, ours, theirs, f"the template moved `{unit.old}`", why)

    def _base(self, unit: _Unit) -> File | None:
        return self.base.get(unit.old) if unit.old is not None else None

    def _theirs(self, unit: _Unit) -> File | None:
        return self.theirs.get(unit.new) if unit.new is not None else None

    def _why(self, unit: _Unit) -> tuple[str, ...]:
        return tuple(dict.fromkeys(line for path in ("", *unit.paths) for line in self.context.why.get(path, ())))

    def _place(self, unit: _Unit) -> str | None:
        """Where the user has the file: where it was generated, where the template has it now, or under a new name."""
        renamed = self.renamed.get(unit.old) if unit.old is not None else None
        places = [*unit.paths, *([renamed] if renamed is not None else [])]
        return next((place for place in places if self._ours(place) is not None), None)

    def _ours(self, path: str) -> File | None:
        return self.ours.files.get(path) or self.ours.strays.get(path)

    def _missing(self, unit: _Unit, base: File | None, theirs: File | None, why: tuple[str, ...]) -> FileChange | None:
        """The user has no such file: it is new, or they deleted it."""
        if theirs is None or unit.new is None:
            return None
        if base is None:
            return FileChange(unit.new, "added", "new in the template", None, theirs, why=why)
        if _covers(self.context.restore, unit.paths):
            return FileChange(unit.new, "restored", "you asked for it", None, theirs, why=why)
        if base == theirs and unit.old == unit.new:
            return None
        reason = f"you deleted it; the template changed it: `paccel upgrade --restore {unit.new}` brings it back"
        return FileChange(unit.new, "kept", reason, why=why)

    def _deleted(self, place: str, base: File | None, ours: File, why: tuple[str, ...]) -> FileChange:
        """The template has it no more."""
        if place in self.renamed.values():
            return FileChange(
                place, "kept", "the template deleted it; you renamed it, so it is yours", ours, ours, why=why
            )
        if ours == base:
            return FileChange(place, "deleted", "the template deleted it; you had not changed it", ours, None, why=why)
        reason = "the template deleted it, you changed it: yours is kept; delete it if you do not need it"
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
                return FileChange(path, "kept", "yours equals the template's already", ours, ours, why=why)
            return FileChange(path, "moved", moved, ours, ours, moved_from, why=why)
        result = merge_file(
            base.content if base else None,
            ours.content,
            theirs.content,
            path,
            self.context.labels,
            self.context.settings,
        )
        executable = theirs.executable if base is None or ours.executable == base.executable else ours.executable
        if base is None and ours.content != theirs.content:
            executable = ours.executable
        after = File(result.content, executable)
        notes = "; ".join([moved, *result.notes] if moved else result.notes)
        if result.conflicts:
            status, reason = "conflict", "you and the template changed the same lines"
            if base is None:
                reason = "you and the template each have added this file"
        elif moved_from is not None:
            status, reason = "moved", ""
        elif ours == base:
            status, reason = "updated", "you had not changed it" if ours.content != after.content else "mode only"
        elif after == ours:
            status, reason = "kept", "yours holds the template's change already"
        else:
            status, reason = "merged", "your edits and the template's"
        incoming = File(result.incoming, theirs.executable) if result.incoming is not None else None
        text = "; ".join(part for part in (reason, notes) if part)
        return FileChange(path, status, text, ours, after, moved_from, result.conflicts, incoming, why)

    def _without_base(self, unit: _Unit, why: tuple[str, ...]) -> FileChange | None:
        """What was generated is lost, and the user's file is not what it was: nothing of theirs is overwritten."""
        path = unit.paths[0]
        ours, theirs = self._ours(path), self._theirs(unit)
        if ours is None:
            return self._missing(unit, File(b"", not theirs.executable), theirs, why) if theirs else None
        if ours == theirs:
            return None
        reason = "no baseline to merge with: yours is kept, the template's is beside it"
        if theirs is None:
            reason = "the template deleted it, you changed it: yours is kept; delete it if you do not need it"
        return FileChange(path, "conflict", reason, ours, ours, None, 1, theirs, why)

    def _obstructed(
        self, unit: _Unit, place: str, base: File | None, theirs: File | None, why: tuple[str, ...]
    ) -> FileChange | None:
        """A link or a folder stands where the file should: it is never written through, never replaced."""
        obstacle = self.ours.obstacles[place]
        if theirs is None or (base == theirs and unit.old == unit.new):
            return None
        kinds = {"link": "a symbolic link", "folder": "a folder", "special": "no regular file"}
        if obstacle.kind == "folder" and all(self._leaves(path) for path in obstacle.below):
            return FileChange(place, "added", "it takes the place of a folder", None, theirs, why=why)
        reason = f"`{obstacle.at}` is {kinds[obstacle.kind]} of yours: it stays, the template's is beside it"
        return FileChange(place, "conflict", reason, conflicts=1, incoming=theirs, why=why)

    def _leaves(self, path: str) -> bool:
        """Whether the upgrade deletes or moves away the user's file at `path`."""
        return path in self.base and path not in self.theirs and self.ours.files.get(path) == self.base[path]


def _clear_ways(changes: Sequence[FileChange], ours: Snapshot) -> Iterable[FileChange]:
    """Keep a new file back where a file of the user's stands in the way of its folder, and does not leave."""
    leaving = {change.moved_from or change.path for change in changes if change.after is None or change.moved_from}
    for change in changes:
        obstacle = ours.obstacles.get(change.path)
        if change.after is None or obstacle is None or obstacle.kind != "file" or obstacle.at in leaving:
            yield change
            continue
        reason = f"`{obstacle.at}` is a file of yours, where the template has a folder: the template's is beside it"
        yield FileChange(change.path, "conflict", reason, conflicts=1, incoming=change.after, why=change.why)


def _covers(chosen: Iterable[str], paths: Iterable[str]) -> bool:
    """Whether one of the paths is chosen, by itself or by a folder it is in."""
    return any(path == some or path.startswith(some.rstrip("/") + "/") for some in chosen for path in paths)
