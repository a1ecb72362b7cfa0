"""The user's code follows what a template, or the runtime, renamed: before the merge, in the user's files and the baseline.

A rename that both have made is no difference, so it conflicts with no edit.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from functools import cmp_to_key
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from .. import __version__
from ..catalog.changelog import is_after
from ..catalog.metadata import ChangedMeaning, Metadata, RenamedApi, Rewrite
from ..files.tree import File, Tree
from ..project.code import read_own_code
from ..project.snapshot import Snapshot
from ..project.state import Manifest
from .change import FileChange, Status
from .plan import FilePlan, UpgradeOptions

if TYPE_CHECKING:
    from ..rename.edits import Edit, Unclear
    from ..rename.uses import Uses

_MAX_NAMED = 3
_MAX_SHOWN = 80


class Following(NamedTuple):
    """What follows, for `--json` and the report.

    Attributes:
        edits: What is replaced in the user's files.
        meanings: Names that mean something else now, each with the user's own uses.
        unclear: Places that may need the user's hand.
        skipped: Renames and rules that were not applied, each with the reason.
    """

    edits: "tuple[Edit, ...]" = ()
    meanings: "tuple[Uses, ...]" = ()
    unclear: "tuple[Unclear, ...]" = ()
    skipped: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "renames": [edit.to_json() for edit in self.edits],
            "changed_meanings": [uses.to_json() for uses in self.meanings],
            "unclear": [place.to_json() for place in self.unclear],
            "not_applied": list(self.skipped),
        }


class Followed(NamedTuple):
    """The sides of a merge after the renames.

    Attributes:
        base: The baseline.
        snapshot: The project.
        own: The user's own files that changed, as they were and as they are now.
        originals: Each file of the project that changed, as it is on the disk.
        report: What was done.
    """

    base: Tree
    snapshot: Snapshot
    originals: Mapping[str, File] = {}
    own: Mapping[str, File] = {}
    report: Following = Following()

    def finish(self, planned: FilePlan, options: UpgradeOptions) -> FilePlan:
        """Return the plan with the files as they are on the disk before, and with those that only follow."""
        changes: list[FileChange] = []
        here = {**self.snapshot.files, **self.snapshot.strays, **self.own}
        left = dict(self.originals)
        for change in planned.changes:
            place = change.moved_from or change.path
            original = left.pop(place, None)
            if original is None:
                changes.append(change)
            elif change.status == "kept" and change.after is not None:
                changes.append(change._replace(before=original, status="adapted", reason=self._reason(place)))
            elif change.status == "updated":
                changes.append(change._replace(before=original))
            else:
                changes.append(change._replace(before=original, reason=f"{change.reason}; {self._reason(place)}"))
        for path, original in left.items():
            status: Status = "updated" if planned.baseline.get(path) == here[path] else "adapted"
            why = () if path in self.own else (*options.why.get("", ()), *options.why.get(path, ()))
            changes.append(FileChange(path, status, self._reason(path), original, here[path], why=why))
        return planned._replace(changes=tuple(sorted(changes, key=lambda change: change.path)))

    def _reason(self, path: str) -> str:
        words = [
            f"`{edit.old}` is now `{edit.new}`"
            for edit in self.report.edits
            if edit.path == path and len(edit.old + edit.new) <= _MAX_SHOWN and "\n" not in edit.old + edit.new
        ]
        known = list(dict.fromkeys(words))
        more = f" and {len(known) - _MAX_NAMED} more" if len(known) > _MAX_NAMED else ""
        return ", ".join(known[:_MAX_NAMED]) + more if known else "its code follows the template's"


def follow(
    root: Path,
    before: Manifest,
    metadata: Metadata,
    base: Tree,
    theirs: Tree,
    snapshot: Snapshot,
    options: UpgradeOptions,
) -> Followed:
    """Rename in the user's files, and alike in the baseline, what the template and the runtime renamed since.

    Args:
        root: The project.
        before: Its manifest.
        metadata: The template's, of today.
        base: The baseline.
        theirs: The new render.
        snapshot: The project's files that the template knows.
        options: What else the upgrade is told; files that are skipped, or left for later, do not change.
    """
    renames = _since(metadata.renamed_api, before.template.release)
    rules = _since(metadata.rewrites, before.template.release)
    meanings = _since(metadata.changed_meaning, before.template.release)
    if before.paccel != __version__:
        from ..rename.runtime import runtime_metadata

        runtime = runtime_metadata()
        renames += _since(runtime.renamed_api, before.paccel)
        rules += _since(runtime.rewrites, before.paccel)
        meanings += _since(runtime.changed_meaning, before.paccel)
    if not (renames or rules or meanings):
        return Followed(base, snapshot)
    # Loaded only where something was renamed: most upgrades rename nothing.
    from ..rename.modules import Project
    from ..rename.rename import applicable, rename
    from ..rename.rewrite import concerns, rewrite
    from ..rename.uses import find_uses

    own, notes = read_own_code(root, {*base, *theirs, *snapshot.files})
    ours = {**own, **snapshot.files}
    chosen = applicable(renames, Project(base), Project(ours), Project(theirs))
    fixed = {path for path in ours if _is_left(path, path in base or path in theirs, options)}
    changed = rename(ours, chosen, fixed)
    changed_base = rename(base, changed.made, fixed)
    uses = [find_uses(changed.files, one, changed_base.files) for one in meanings]
    own_words = {
        path: _own_words(file, changed_base.files.get(path))
        for path, file in changed.files.items()
        if path.endswith(".py")
    }
    rules = [rule for rule in rules if concerns(rule.rule, changed.files, own_words)]
    rewritten = rewrite({path: file for path, file in changed.files.items() if path not in fixed}, rules)
    rewritten_base = rewrite({path: file for path, file in changed_base.files.items() if path not in fixed}, rules)
    mended = {(edit.path, edit.line + more) for edit in rewritten.edits for more in range(edit.old.count("\n") + 1)}
    uses = [one.without(mended) for one in uses]
    now = changed.files | rewritten.files
    originals = {path: file for path, file in ours.items() if now[path] != file}
    # A call that the user made otherwise is in no rule: then the baseline's stays too, and the two meet in the merge.
    matched = {edit.path for edit in rewritten.edits}
    base_now = {path: (rewritten_base if path in matched else changed_base).files[path] for path in base}
    mine = {path for path in ours if path not in base or base_now[path] != now[path]}
    return Followed(
        base_now,
        snapshot._replace(
            files={path: now[path] for path in snapshot.files},
            strays={path: now.get(path, file) for path, file in snapshot.strays.items()},
        ),
        originals,
        {path: now[path] for path in own},
        Following(
            tuple(edit for edit in (*changed.edits, *rewritten.edits) if edit.path in mine),
            tuple(one for one in uses if one.uses),
            tuple(place for place in changed.unclear if _is_own_line(place, ours[place.path], base.get(place.path))),
            (*changed.blocked, *rewritten.skipped, *notes),
        ),
    )


_Declared = TypeVar("_Declared", RenamedApi, Rewrite, ChangedMeaning)


def _since(declared: Iterable[_Declared], version: str) -> list[_Declared]:
    """Those that came after a version, the earlier ones first: a name may have been renamed more than once.

    One without a version is always among them.
    """
    found = [one for one in declared if not one.since or is_after(one.since, version)]
    place = cmp_to_key(_order)
    return sorted(found, key=lambda one: place(one.since))


def _order(one: str, other: str) -> int:
    if not (one and other):
        return bool(one) - bool(other)
    return is_after(one, other) - is_after(other, one)


def _is_own_line(place: "Unclear", file: File, generated: File | None) -> bool:
    """Whether a line is the user's: the template sees to its own lines in the merge."""
    lines = file.content.splitlines()
    return generated is None or place.line > len(lines) or lines[place.line - 1] not in generated.content.splitlines()


def _own_words(file: File, generated: File | None) -> set[bytes]:
    """The words of those lines that are not in the generated file."""
    known = {*generated.content.splitlines()} if generated is not None else set()
    return {word for line in file.content.splitlines() if line not in known for word in re.findall(rb"\w+", line)}


def _is_left(path: str, generated: bool, options: UpgradeOptions) -> bool:
    """Whether this upgrade does not write a file: it is skipped, left for later, or generated once."""
    if _covers(options.restore, path):
        return False
    if _covers(options.skipped, path) or (options.only and not _covers(options.only, path)):
        return True
    return generated and any(fnmatchcase(path, pattern) for pattern in options.once)


def _covers(chosen: Collection[str], path: str) -> bool:
    return any(path == some or path.startswith(some + "/") for some in chosen)
