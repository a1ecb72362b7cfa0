"""Upgrade a project: render its template again and merge the result into the user's files.

    plan = make_plan(root)              what would happen to each file; nothing is written
    outcome = upgrade(root)             plan and apply
    outcome = set_answers(root, {"ema": "true"})
    continue_upgrade(root), abort_upgrade(root), undo_upgrade(root)

Every function raises a PaccelError with the command's exit code, and leaves the project as it was when it does.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from .. import __version__
from ..catalog.catalog import Template, load_template
from ..catalog.changelog import changes_between
from ..catalog.migrate import carry_answers
from ..catalog.questions import Answer, resolve_answers
from ..errors import PaccelError, PreconditionError, StateError, UsageError
from ..files import disk
from ..files.tree import File, Tree, check_path
from ..merge.markers import Labels, has_markers
from ..project.folder import read_paths
from ..project.snapshot import take_snapshot
from ..project.state import Manifest, read_manifest, read_state, state_bytes
from ..render.formatter import Formatted
from . import apply
from .git import dirty_files
from .journal import read_journal
from .plan import FileChange, Summary, UpgradeOptions, plan_files

State = Literal["nothing", "planned", "done", "conflicts", "aborted", "undone"]

_FORMATTER_FILES = ("pyproject.toml", "ruff.toml", ".ruff.toml")


class Plan(NamedTuple):
    """What an upgrade would do.

    Attributes:
        root: The project.
        before: The manifest now.
        after: The manifest afterwards.
        baseline: The files of the new baseline; None where it stays as it is.
        changes: One for each file that the template, or the answers, changed, in path order.
        notes: What else the user should know.
        labels: What conflict markers call the sides.
    """

    root: Path
    before: Manifest
    after: Manifest
    baseline: Tree | None
    changes: tuple[FileChange, ...]
    notes: tuple[str, ...] = ()
    labels: Labels = Labels()

    @property
    def found(self) -> bool:
        """Whether there is anything to do, even if only to record a newer version."""
        return self.baseline is not None

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
            "notes": list(self.notes),
        }


class Outcome(NamedTuple):
    """The result of an upgrade.

    Attributes:
        state: "nothing" to do; only "planned"; "done"; "conflicts" are in files now; "aborted"; "undone".
        changes: What happened to each file.
        conflicts: Paths left to the user.
        notes: What else the user should know.
    """

    state: State
    changes: tuple[Summary, ...] = ()
    conflicts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 done; 1 conflicts were written, or would be."""
        return 1 if self.conflicts else 0

    def to_json(self) -> dict[str, Any]:
        return {
            "state": self.state,
            "changes": [change.to_json() for change in self.changes],
            "conflicts": list(self.conflicts),
            "notes": list(self.notes),
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
    """Render today's template and decide what to do with each file; writes nothing.

    Args:
        root: The project's folder.
        template: Another source to render from, from now on.
        answers: Question -> new value, as typed.
        skip: Files or folders that upgrades leave alone from now on.
        restore: Files that the user deleted and wants again; they are no longer skipped either.
        only: Files or folders to upgrade now, the others later. Empty: all.

    Raises:
        PreconditionError: The manifest is missing or damaged, or files hold conflict markers.
        UsageError: An answer or a path cannot be used.
        TemplateError: The template cannot be found or rendered.
    """
    before = read_manifest(root)
    found = load_template(template or before.template.source)
    carried, notes = carry_answers(before.answers, found, answers or {})
    restore = [_project_path(path) for path in restore]
    chosen = [_project_path(path) for path in only]
    skipped = tuple(sorted({*before.skipped, *(_project_path(path) for path in skip)} - {*restore}))
    settled = before._replace(skipped=skipped, template=found.ref._replace(digest=before.template.digest))
    same = (found.digest, carried, __version__) == (before.template.digest, before.answers, before.paccel)
    began = [path for path in skipped if path not in before.skipped]
    notes += [f"upgrades skip `{path}` from now on; `paccel upgrade --restore {path}` stops skipping" for path in began]
    if same and not restore:  # the same render: nothing to merge
        _check_known(began, before.files, "--skip")
        _check_known(chosen, before.files, "upgrade")
        if settled == before:
            return Plan(root, before, before, None, (), tuple(notes))
        return Plan(root, before, settled, read_state(root)[1], (), tuple(notes))
    base, unknown, lost = _read_base(root, before)
    earlier = Formatted(base, before.unformatted) if before.paccel == __version__ else None
    rendered = _render(found, carried, earlier)
    theirs = rendered.tree
    _check_known(restore, {**theirs, **dict.fromkeys(before.skipped)}, "--restore")
    _check_known(began, {**before.files, **theirs}, "--skip")
    _check_known(chosen, {**base, **theirs}, "upgrade")
    labels = _labels(before, found)
    options = UpgradeOptions(
        labels=labels,
        formatter_files={path: file.content for path, file in read_paths(root, _FORMATTER_FILES).items()},
        moved=tuple((move.old, move.new) for move in found.metadata.moved),
        unknown=frozenset(unknown),
        skipped=skipped,
        restore=tuple(restore),
        only=tuple(chosen),
        why=changes_between(found.metadata.changes, before.template.release),
    )
    snapshot = take_snapshot(root, {*base, *theirs, *unknown}, base)
    planned = plan_files(base, snapshot, theirs, options)
    _refuse_markers(planned.changes, theirs)
    complete = planned.baseline == theirs or not chosen
    # A file that is skipped, or left for later, stays in the baseline as it was.
    unformatted = {
        path: sha for path, sha in rendered.unformatted.items() if planned.baseline.get(path) == theirs[path]
    }
    after = Manifest.of(found.ref, carried, planned.baseline, skipped, unformatted)
    if not complete:  # what is left for later still belongs to the old version
        after = after._replace(paccel=before.paccel, template=before.template, answers=before.answers)
    return Plan(root, before, after, planned.baseline, planned.changes, (*notes, *lost, *found.warnings), labels)


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
) -> Outcome:
    """Plan and apply, all or nothing; arguments as for `make_plan`.

    Args:
        allow_dirty: Also touch files that differ from git's last commit.
        dry_run: Plan only.

    Raises:
        PreconditionError: An upgrade is unfinished, files to change are dirty in git, or cannot be written.
    """
    if dry_run:
        plan = make_plan(root, template=template, answers=answers, skip=skip, restore=restore, only=only)
        return Outcome("planned", plan.summaries, plan.conflicts, plan.notes)
    with disk.locked(root):
        refuse_unfinished(root)
        apply.clear_leftovers(root)
        plan = make_plan(root, template=template, answers=answers, skip=skip, restore=restore, only=only)
        return apply_plan(plan, allow_dirty=allow_dirty)


def set_answers(
    root: Path, answers: Mapping[str, object], *, allow_dirty: bool = False, dry_run: bool = False
) -> Outcome:
    """Change answers through the same merge; today's template is rendered, so an older project is upgraded by it."""
    return upgrade(root, answers=answers, allow_dirty=allow_dirty, dry_run=dry_run)


def apply_plan(plan: Plan, *, allow_dirty: bool = False) -> Outcome:
    """Apply a plan of what is on the disk now; hold `disk.locked` while planning and applying."""
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
    markers = (plan.labels.ours, plan.labels.base, plan.labels.theirs)
    journal = apply.start(plan.root, plan.changes, state, markers)
    return Outcome("conflicts" if journal.conflicts else "done", journal.summary, journal.conflicts, plan.notes)


def continue_upgrade(root: Path) -> Outcome:
    """Finish an upgrade that was interrupted, or whose conflicts are resolved.

    Raises:
        PreconditionError: There is none, or conflict markers are left.
    """
    unfinished = read_journal(root)
    if unfinished is not None and unfinished.phase == "undo":
        return abort_upgrade(root)._replace(state="undone", changes=unfinished.summary)
    with disk.locked(root):
        journal = apply.resume(root)
    return Outcome(
        "done",
        tuple(
            change._replace(status="resolved", reason="as you left it") if change.path in journal.conflicts else change
            for change in journal.summary
        ),
    )


def abort_upgrade(root: Path) -> Outcome:
    """Put everything back as it was before the unfinished upgrade.

    Raises:
        PreconditionError: There is none.
    """
    with disk.locked(root):
        edited = apply.abort(root)
    notes = (f"your edits made since are kept in `{apply.ABORTED_DIR}/{path}`" for path in edited)
    return Outcome("aborted", notes=tuple(notes))


def undo_upgrade(root: Path) -> Outcome:
    """Put everything back as it was before the last upgrade, byte for byte. An unfinished one is aborted.

    Raises:
        PreconditionError: There is none, or files were edited since it was finished.
    """
    if read_journal(root) is not None:
        return abort_upgrade(root)
    with disk.locked(root):
        apply.clear_leftovers(root)
        journal = apply.undo(root)
    return Outcome("undone", journal.summary)


def refuse_unfinished(root: Path) -> None:
    """Raise PreconditionError if an upgrade is unfinished."""
    journal = read_journal(root)
    if journal is None:
        return
    if journal.phase == "resolve":
        left = apply.unresolved(root, journal)
        names = ", ".join(f"`{path}`" for path in left or journal.conflicts)
        what = f"resolve the conflicts in {names}, then" if left else f"the conflicts in {names} are resolved;"
        raise PreconditionError(
            f"The last upgrade is not finished: {what} run `paccel upgrade --continue`, or go back with"
            " `paccel upgrade --abort`"
        )
    raise PreconditionError(
        "The last upgrade was interrupted: finish it with `paccel upgrade --continue`, or go back with `paccel upgrade --abort`"
    )


def _read_base(root: Path, manifest: Manifest) -> tuple[dict[str, File], set[str], list[str]]:
    """The baseline; if it is lost, what can be recovered: (files, paths whose content is lost, notes)."""
    try:
        return read_state(root)[1], set(), []
    except StateError as error:
        problem = error.problem
    try:
        template = load_template(manifest.template.source)
        tree = _render(template, resolve_answers(template, manifest.answers)).tree
        if {path: (file.sha256, file.executable) for path, file in tree.items()} == dict(manifest.files):
            return dict(tree), set(), [f"{problem}; it was rendered again"]
    except PaccelError:
        pass  # the old template is gone, or renders something else today
    # The manifest still knows what each file was: the ones that are as they were are their own baseline.
    here = read_paths(root, manifest.files)
    base = {path: file for path, file in here.items() if (file.sha256, file.executable) == manifest.files[path]}
    return (
        base,
        set(manifest.files) - set(base),
        [f"{problem}; the files that you edited are kept as they are, unmerged"],
    )


def _render(template: Template, answers: Mapping[str, Answer], earlier: Formatted | None = None) -> Formatted:
    from ..render.render import render_formatted  # loads Jinja, which a project that is up to date does not need

    return render_formatted(template, answers, earlier)


def _labels(before: Manifest, template: Template) -> Labels:
    if template.digest == before.template.digest:
        return Labels("yours", "template with old answers", "template with new answers")
    if before.template.release != template.ref.release:
        return Labels(
            "yours", f"template {before.template.release}".strip(), f"template {template.ref.release}".strip()
        )
    if before.paccel != __version__:
        return Labels("yours", f"paccel {before.paccel} template", f"paccel {__version__} template")
    return Labels("yours", f"template {before.template.digest[:8]}", f"template {template.digest[:8]}")


def _refuse_markers(changes: Sequence[FileChange], theirs: Tree) -> None:
    marked = [
        change.path
        for change in changes
        if change.status in {"merged", "conflict", "moved", "updated"}
        and change.before is not None
        and has_markers(change.before.content)
        and not (change.path in theirs and has_markers(theirs[change.path].content))
    ]
    if marked:
        names = ", ".join(f"`{path}`" for path in marked)
        raise PreconditionError(f"There are conflict markers in {names}: resolve these conflicts first")


def _project_path(path: str) -> str:
    clean = path.replace("\\", "/").removeprefix("./").rstrip("/")
    try:
        return check_path(clean)
    except PaccelError as error:
        raise UsageError(f"`{path}` is not a path inside the project") from error


def _check_known(paths: Sequence[str], tree: Mapping[str, object], option: str) -> None:
    for path in paths:
        if not any(name == path or name.startswith(path + "/") for name in tree):
            raise UsageError(f"`{option} {path}`: the template has no such file")


def _version(manifest: Manifest) -> dict[str, Answer]:
    return {
        "paccel": manifest.paccel,
        "template": manifest.template.name,
        "source": manifest.template.source,
        "version": manifest.template.digest,
        "digest": manifest.template.digest,
    }
