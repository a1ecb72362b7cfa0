"""Upgrade a project: render its template again and merge the result into the user's files.

    plan = make_plan(root)              what would happen to each file; writes nothing
    outcome = upgrade(root)             plan and apply
    outcome = set_answers(root, {"ema": "true"})
    continue_upgrade(root), abort_upgrade(root), undo_upgrade(root)

Every function raises a PaccelError with the command's exit code, and then leaves the project as it was.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from .. import __version__
from ..catalog.catalog import load_recorded, load_template
from ..catalog.changelog import changes_between
from ..catalog.migrate import carry_answers
from ..catalog.questions import Answer
from ..catalog.secrets import hide
from ..catalog.template import Template
from ..check.finding import Finding
from ..errors import PaccelError, PreconditionError, UsageError
from ..fetch.credentials import without_secrets
from ..files import disk
from ..files.tree import Tree, check_path
from ..merge.markers import OWN_LABEL, Labels
from ..project.folder import read_paths
from ..project.snapshot import own_files, take_snapshot
from ..project.state import Manifest, read_manifest, read_state, state_bytes
from ..sandbox.draws import Draws
from . import apply
from .change import FileChange, Summary
from .follow import Following, follow
from .git import dirty_files, modes_count
from .journal import read_journal, write_journal
from .plan import FilePlan, UpgradeOptions, covers, plan_files
from .preconditions import refuse_conflicts, refuse_newer, refuse_older_release, refuse_unfinished
from .renders import Renders, read_renders
from .verdict import judge_again, judge_plan

State = Literal["nothing", "planned", "done", "conflicts", "findings", "aborted", "undone"]

_PENDING = ""
"""The digest of no template: the next upgrade renders again, because files were left for later."""

_MAX_NAMES = 10

_FORMATTER_FILES = ("pyproject.toml", "ruff.toml", ".ruff.toml")


class Plan(NamedTuple):
    """What an upgrade would do.

    Attributes:
        root: The project.
        before: The manifest now.
        after: The manifest after the upgrade.
        baseline: The files of the new baseline; None if nothing changes.
        changes: One for each file that the template or the answers changed, by path.
        notes: What else the user should know.
        labels: The labels of the sides in conflict markers.
        findings: What is wrong with the merged project and with neither side.
        follows: The renames that are applied to the user's code.
    """

    root: Path
    before: Manifest
    after: Manifest
    baseline: Tree | None
    changes: tuple[FileChange, ...]
    notes: tuple[str, ...] = ()
    labels: Labels = Labels()
    findings: tuple[Finding, ...] = ()
    follows: Following = Following()

    @property
    def found(self) -> bool:
        """Whether a file would change or have a conflict; a newer version alone does not count."""
        return any(change.writes or change.conflicts for change in self.changes)

    @property
    def summaries(self) -> tuple[Summary, ...]:
        """What to tell the user about each change."""
        return tuple(change.summary for change in self.changes)

    @property
    def conflicts(self) -> tuple[str, ...]:
        return tuple(change.path for change in self.changes if change.status == "conflict")

    def to_json(self, with_diff: bool = False) -> dict[str, Any]:
        return {
            "found": self.found,
            "from": _version(self.before),
            "to": _version(self.after),
            "answers": dict(self.after.answers),
            "changes": [
                change.summary.to_json() | ({"diff": change.diff()} if with_diff else {}) for change in self.changes
            ],
            "conflicts": list(self.conflicts),
            "findings": [finding.to_json() for finding in self.findings],
            "notes": list(self.notes),
            **self.follows.to_json(),
        }


class Outcome(NamedTuple):
    """The result of an upgrade.

    Attributes:
        state: "nothing" to do; only "planned"; "done"; "conflicts" to resolve; only "findings" to resolve or accept;
            "aborted"; "undone".
        changes: What happened to each file.
        conflicts: Paths with conflicts.
        notes: What else the user should know.
        findings: What is wrong with the merged project and with neither side.
        follows: The renames that were applied to the user's code.
    """

    state: State
    changes: tuple[Summary, ...] = ()
    conflicts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    follows: Following = Following()

    @property
    def exit_code(self) -> int:
        """0 if done, 1 if there are conflicts or findings, or would be."""
        return 1 if self.conflicts or self.findings else 0

    def to_json(self) -> dict[str, Any]:
        return {
            "state": self.state,
            "changes": [change.to_json() for change in self.changes],
            "conflicts": list(self.conflicts),
            "findings": [finding.to_json() for finding in self.findings],
            "notes": list(self.notes),
            **self.follows.to_json(),
        }


def make_plan(
    root: Path,
    *,
    template: str | None = None,
    answers: Mapping[str, object] | None = None,
    skip: Sequence[str] = (),
    restore: Sequence[str] = (),
    only: Sequence[str] = (),
) -> Plan:
    """Render the current template and decide what to do with each file; writes nothing.

    Args:
        root: The project's folder.
        template: Another template source, to be used from now on.
        answers: Question -> new value, as typed.
        skip: Files or folders that upgrades leave alone from now on.
        restore: Files that the user deleted and wants back; they are no longer skipped either.
        only: Files or folders to upgrade now, the others later; empty for all.

    Raises:
        PreconditionError: The manifest is missing or damaged, a newer paccel or template made the project, or files have
            unresolved conflicts.
        UsageError: An answer or a path cannot be used.
        TemplateError: The template cannot be found or rendered.
    """
    before = read_manifest(root)
    refuse_newer(before)
    if template is not None:
        found = load_template(template).recorded_in(root)
    else:
        found = load_recorded(before.template, root)
        refuse_older_release(before, found)
    draws = Draws(before.drawn)
    carried, notes = carry_answers(before.answers, found, answers or {}, draws)
    stored = hide(found.questions, carried)
    vendored = before.vendored.renewed() if before.vendored is not None else None
    restored = [_project_path(path) for path in restore]
    chosen = [_project_path(path) for path in only]
    skipped = tuple(sorted({*before.skipped, *(_project_path(path) for path in skip)} - {*restored}))
    newly_skipped = [path for path in skipped if path not in before.skipped]
    if before.answers_edited:
        notes.append("the answers in the manifest were edited since the last upgrade: they apply from now on")
    notes += [
        f"upgrades skip `{path}` from now on; `paccel upgrade --restore {path}` stops skipping"
        for path in newly_skipped
    ]
    renders_the_same = (
        (found.digest, stored, __version__) == (before.template.digest, before.answers, before.paccel)
        and vendored == before.vendored
        and not before.answers_edited
        and not any(question.secret and question.name in (answers or {}) for question in found.questions)
    )
    if renders_the_same and not restored:
        _check_known(newly_skipped, before.files, "--skip")
        _check_known(chosen, before.files, "upgrade")
        # Another commit of the template alone is no upgrade.
        ref = found.ref._replace(digest=before.template.digest, commit=before.template.commit)
        after = before._replace(skipped=skipped, template=ref)
        if after == before:
            return Plan(root, before, before, None, (), tuple(notes))
        return Plan(root, before, after, read_state(root)[1], (), (*notes, *found.warnings))

    renders = read_renders(root, before, found, carried, stored, draws, vendored)
    base, theirs = renders.base, renders.theirs
    notes += renders.notes
    _check_known(restored, {*theirs, *before.skipped}, "--restore")
    # The user may also skip a file of their own, to keep renames out of it.
    own = [path for path in newly_skipped if (root / path).exists()]
    _check_known(newly_skipped, {*before.files, *theirs, *own}, "--skip")
    _check_known(chosen, {*base, *theirs}, "upgrade")
    labels = _labels(before, found)
    snapshot = take_snapshot(root, {*base, *theirs, *renders.unknown}, base)
    options = UpgradeOptions(
        labels=labels,
        formatter_files={path: file.content for path, file in read_paths(root, _FORMATTER_FILES).items()},
        moved=tuple((move.old, move.new) for move in found.metadata.moved),
        once=found.metadata.once,
        unknown=renders.unknown,
        skipped=skipped,
        restore=tuple(restored),
        only=tuple(chosen),
        why=changes_between(found.metadata.changes, before.template.release),
        modes=modes_count(root, base, snapshot.files),
    )
    followed = follow(root, before, found.metadata, base, theirs, snapshot, options)
    planned = followed.finish(plan_files(followed.base, followed.snapshot, theirs, options), options)
    refuse_conflicts(root, planned.changes, [base, theirs])
    verdict = judge_plan(root, planned.changes, base, theirs, labels)
    notes += _notes_on_moved_folders(root, planned.folders, {*base, *theirs})
    baseline, unformatted = _new_baseline(planned, renders)
    after = Manifest.of(found.ref, stored, baseline, skipped, unformatted, draws.to_json())._replace(vendored=vendored)
    if chosen and planned.baseline != theirs:
        after = _pending(after, before)
    notes += [*renders.lost, *found.warnings, *verdict.notes]
    follows = followed.report
    return Plan(root, before, after, baseline, verdict.changes, tuple(notes), labels, verdict.findings, follows)


def _new_baseline(planned: FilePlan, renders: Renders) -> tuple[Tree, dict[str, str]]:
    """The new baseline as stored in `.paccel`, and the hashes of its files before formatting.

    A file that is skipped, or left for later, stays as it was.
    """
    new = {path for path, file in planned.baseline.items() if renders.theirs.get(path) == file}
    baseline = {
        path: renders.stored.tree[path] if path in new else renders.stored_base[path] for path in planned.baseline
    }
    return baseline, {path: sha256 for path, sha256 in renders.stored.unformatted.items() if path in new}


def _pending(after: Manifest, before: Manifest) -> Manifest:
    """The new manifest while files are left for later: with the old version and answers, but the new source."""
    same_template = before.template.digest == after.template.digest
    ref = after.template._replace(digest=_PENDING if same_template else before.template.digest)
    if ref.source == before.template.source:
        ref = ref._replace(release=before.template.release)
    return after._replace(template=ref, answers=before.answers, answers_sha256=before.answers_sha256)


def upgrade(
    root: Path,
    *,
    template: str | None = None,
    answers: Mapping[str, object] | None = None,
    skip: Sequence[str] = (),
    restore: Sequence[str] = (),
    only: Sequence[str] = (),
    allow_dirty: bool = False,
    dry_run: bool = False,
    show: Callable[[Plan], None] | None = None,
) -> Outcome:
    """Plan and apply, all or nothing; other arguments and errors as for `make_plan`.

    Args:
        allow_dirty: Also change files that differ from git's last commit.
        dry_run: Plan only.
        show: Called with the plan before anything is written.

    Raises:
        PreconditionError: An upgrade is unfinished, or files to change have uncommitted edits or cannot be written.
    """
    if dry_run:
        plan = make_plan(root, template=template, answers=answers, skip=skip, restore=restore, only=only)
        return Outcome("planned", plan.summaries, plan.conflicts, plan.notes, plan.findings, plan.follows)
    with disk.locked(root):
        refuse_unfinished(root)
        apply.clear_leftovers(root)
        plan = make_plan(root, template=template, answers=answers, skip=skip, restore=restore, only=only)
        if show is not None:
            show(plan)
        return apply_plan(plan, allow_dirty=allow_dirty)


def set_answers(
    root: Path,
    answers: Mapping[str, object],
    *,
    allow_dirty: bool = False,
    dry_run: bool = False,
    show: Callable[[Plan], None] | None = None,
) -> Outcome:
    """Change answers through the same merge; the current template is rendered, so this also upgrades the project."""
    return upgrade(root, answers=answers, allow_dirty=allow_dirty, dry_run=dry_run, show=show)


def apply_plan(plan: Plan, *, allow_dirty: bool = False) -> Outcome:
    """Apply a plan for the files that are on the disk now; hold `disk.locked` while planning and applying."""
    if plan.baseline is None:
        return Outcome("nothing", (), (), plan.notes)
    touched = [path for change in plan.changes if change.writes for path in (change.path, change.moved_from) if path]
    dirty = [] if allow_dirty else dirty_files(plan.root, touched)
    if dirty:
        names = ", ".join(f"`{path}`" for path in dirty)
        raise PreconditionError(
            f"The upgrade changes files with uncommitted edits: {names}; commit them, or add `--allow-dirty`"
        )
    state = state_bytes(plan.after, plan.baseline)
    journal = apply.start(plan.root, plan.changes, state, plan.labels, plan.findings)
    state_now: State = "conflicts" if journal.conflicts else "findings" if journal.findings else "done"
    return Outcome(state_now, journal.summary, journal.conflicts, plan.notes, journal.findings, plan.follows)


def continue_upgrade(root: Path, *, accept: bool = False) -> Outcome:
    """Finish an upgrade that was interrupted, or whose conflicts and findings are resolved.

    If the upgrade was waiting for the user, the project is checked again. New findings stop the upgrade as before, with
    the state "findings".

    Args:
        accept: Keep the project as it is, whatever the check finds.

    Raises:
        PreconditionError: There is no unfinished upgrade, or conflict markers are left.
    """
    unfinished = read_journal(root)
    if unfinished is not None and unfinished.phase == "undo":
        return abort_upgrade(root)._replace(state="undone", changes=unfinished.summary)
    notes: tuple[str, ...] = ()
    with disk.locked(root):
        if unfinished is not None and unfinished.phase == "apply" and unfinished.findings:
            apply.resume(root, resolve=False)
        journal = read_journal(root)
        if journal is not None and journal.phase == "resolve" and not accept and not apply.unresolved(root, journal):
            verdict = judge_again(root, journal)
            notes = verdict.notes
            if verdict.findings:
                write_journal(root, journal._replace(findings=verdict.findings))
                return Outcome("findings", findings=verdict.findings, notes=notes)
        journal = apply.resume(root)
    conflicts = {*journal.conflicts}
    return Outcome(
        "done",
        tuple(
            (
                change._replace(status="resolved", reason="as you left it", incoming=None)
                if change.path in conflicts
                else change
            )
            for change in journal.summary
        ),
        notes=notes,
    )


def abort_upgrade(root: Path) -> Outcome:
    """Restore everything as it was before the unfinished upgrade.

    Raises:
        PreconditionError: There is no unfinished upgrade.
    """
    with disk.locked(root):
        edited = apply.abort(root)
    notes = (f"your edits made since are kept in `{apply.ABORTED_DIR}/{path}`" for path in edited)
    return Outcome("aborted", notes=tuple(notes))


def undo_upgrade(root: Path) -> Outcome:
    """Restore everything as it was before the last upgrade, byte for byte. An unfinished upgrade is aborted.

    Raises:
        PreconditionError: There is no upgrade to undo, or files were edited since.
    """
    if read_journal(root) is not None:
        return abort_upgrade(root)
    with disk.locked(root):
        apply.clear_leftovers(root)
        journal = apply.undo(root)
    return Outcome("undone", journal.summary)


def _labels(before: Manifest, template: Template) -> Labels:
    if template.digest == before.template.digest:
        return Labels(OWN_LABEL, "template with old answers", "template with new answers")
    if before.template.release != template.ref.release:
        return Labels(
            OWN_LABEL, f"template {before.template.release}".strip(), f"template {template.ref.release}".strip()
        )
    if before.paccel != __version__:
        return Labels(OWN_LABEL, f"paccel {before.paccel} template", f"paccel {__version__} template")
    if before.template.digest == _PENDING:
        return Labels()
    return Labels(OWN_LABEL, f"template {before.template.digest[:8]}", f"template {template.digest[:8]}")


def _notes_on_moved_folders(root: Path, folders: Mapping[str, str], known: set[str]) -> list[str]:
    """A note for each moved folder with files of the user's own: they stay there, and may import what moved."""
    notes = []
    for old, new in folders.items():
        files = own_files(root, old, known)
        if files:
            names = ", ".join(f"`{path}`" for path in files[:_MAX_NAMES])
            more = f" and {len(files) - _MAX_NAMES} more" if len(files) > _MAX_NAMES else ""
            notes.append(
                f"the template moved `{old}/` to `{new}/`; your own files stay where they are: {names}{more}; move them"
                " too if they belong together"
            )
    return notes


def _project_path(path: str) -> str:
    clean = path.replace("\\", "/").removeprefix("./").rstrip("/")
    try:
        return check_path(clean)
    except PaccelError as error:
        raise UsageError(f"`{path}` is not a path inside the project") from error


def _check_known(paths: Sequence[str], known: Collection[str], option: str) -> None:
    for path in paths:
        if not covers([path], known):
            raise UsageError(f"`{option} {path}`: the template has no such file")


def _version(manifest: Manifest) -> dict[str, Answer]:
    return {
        "paccel": manifest.paccel,
        "template": manifest.template.name,
        "source": without_secrets(manifest.template.source),
        "version": manifest.template.digest,
        "digest": manifest.template.digest,
    }
