"""Apply the renames of a template or of the runtime to the user's code, before the merge.

They are applied to the user's files and to the baseline alike, so a rename is no difference and conflicts with no edit.
"""

import re
from collections.abc import Iterable, Mapping
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
    """What the renames change in the user's code, for `--json` and the report.

    Attributes:
        edits: The replacements in the user's files.
        meanings: Names whose meaning changed, each with the user's own uses.
        unclear: Places that the user may have to edit.
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
        originals: Path -> file on the disk, of each file of the project that changed.
        own: Path -> file after the renames, of each file of the user's own.
        report: What was done.
    """

    base: Tree
    snapshot: Snapshot
    originals: Mapping[str, File] = {}
    own: Mapping[str, File] = {}
    report: Following = Following()

    def finish(self, planned: FilePlan, options: UpgradeOptions) -> FilePlan:
        """Complete a plan for the renamed sides: `before` is the file on the disk, and files with only renames are added."""
        changes: list[FileChange] = []
        renamed = {**self.snapshot.files, **self.snapshot.strays, **self.own}
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
            status: Status = "updated" if planned.baseline.get(path) == renamed[path] else "adapted"
            why = () if path in self.own else (*options.why.get("", ()), *options.why.get(path, ()))
            changes.append(FileChange(path, status, self._reason(path), original, renamed[path], why=why))
        return planned._replace(changes=tuple(sorted(changes, key=lambda change: change.path)))

    def _reason(self, path: str) -> str:
        edits = {
            f"`{edit.old}` is now `{edit.new}`": True
            for edit in self.report.edits
            if edit.path == path and len(edit.old + edit.new) <= _MAX_SHOWN and "\n" not in edit.old + edit.new
        }
        more = f" and {len(edits) - _MAX_NAMED} more" if len(edits) > _MAX_NAMED else ""
        return ", ".join([*edits][:_MAX_NAMED]) + more if edits else "renames of the template are applied to it"


def follow(
    root: Path,
    before: Manifest,
    metadata: Metadata,
    base: Tree,
    theirs: Tree,
    snapshot: Snapshot,
    options: UpgradeOptions,
) -> Followed:
    """Apply what the template and the runtime renamed since the last upgrade, to the user's files and the baseline.

    Args:
        root: The project.
        before: Its manifest.
        metadata: The template's metadata now.
        base: The baseline.
        theirs: The new render.
        snapshot: The project's files at the template's paths.
        options: What the upgrade leaves alone.
    """
    declared = [(metadata, before.template.release)]
    if before.paccel != __version__:
        from ..rename.runtime import runtime_metadata

        declared.append((runtime_metadata(), before.paccel))
    renames = [one for data, version in declared for one in _since(data.renamed_api, version)]
    rules = [one for data, version in declared for one in _since(data.rewrites, version)]
    meanings = [one for data, version in declared for one in _since(data.changed_meaning, version)]
    if not (renames or rules or meanings):
        return Followed(base, snapshot)
    # Imported here, as most upgrades rename nothing.
    from ..rename.modules import Project
    from ..rename.rename import applicable, rename
    from ..rename.rewrite import concerns, rewrite
    from ..rename.uses import find_uses

    own, notes = read_own_code(root, {*base, *theirs, *snapshot.files})
    ours = {**own, **snapshot.files}
    chosen = applicable(renames, Project(base), Project(ours), Project(theirs))
    fixed = {path for path in ours if options.leaves_alone([path], generated=path in base or path in theirs)}
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
    rewritten_lines = {
        (edit.path, edit.line + more) for edit in rewritten.edits for more in range(edit.old.count("\n") + 1)
    }
    uses = [one.without(rewritten_lines) for one in uses]
    now = changed.files | rewritten.files
    originals = {path: file for path, file in ours.items() if now[path] != file}
    # If the user changed a call so that no rule matches, the baseline's call stays too, and the merge compares the two.
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
    """What was declared after a version, the oldest first, as a name may be renamed twice; always what has no version."""
    found = [one for one in declared if not one.since or is_after(one.since, version)]
    key = cmp_to_key(_order)
    return sorted(found, key=lambda one: key(one.since))


def _order(one: str, other: str) -> int:
    if not (one and other):
        return bool(one) - bool(other)
    return is_after(one, other) - is_after(other, one)


def _is_own_line(place: "Unclear", file: File, generated: File | None) -> bool:
    """Whether the user wrote the line: the merge renames the template's own lines."""
    lines = file.content.splitlines()
    return generated is None or place.line > len(lines) or lines[place.line - 1] not in generated.content.splitlines()


def _own_words(file: File, generated: File | None) -> set[bytes]:
    """The words in the lines that are not in the generated file."""
    known = {*generated.content.splitlines()} if generated is not None else set()
    return {word for line in file.content.splitlines() if line not in known for word in re.findall(rb"\w+", line)}
