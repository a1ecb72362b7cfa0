"""Upgrade a project: render its template again and merge the result into the user's files.

    plan = make_plan(root)              what would happen to each file; nothing is written
    outcome = upgrade(root)             plan and apply
    outcome = set_answers(root, {"ema": "true"})
    continue_upgrade(root), abort_upgrade(root), undo_upgrade(root)

Every function raises a PaccelError with the command's exit code, and leaves the project as it was when it does.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from .. import __version__
from ..catalog.address import without_secrets
from ..catalog.catalog import Template, load_recorded, load_template
from ..catalog.changelog import changes_between
from ..catalog.draws import Draws
from ..catalog.migrate import carry_answers
from ..catalog.questions import Answer, resolve_answers
from ..catalog.secrets import hide, is_hidden, paths_with_secrets, recover, reveal
from ..check.finding import Finding
from ..errors import PaccelError, PreconditionError, StateError, UsageError
from ..files import disk
from ..files.tree import File, Tree, check_path
from ..merge.languages import language_of, parses
from ..merge.markers import OWN_LABEL, Labels, has_markers, has_own_markers
from ..merge.text import decode
from ..project.compare import spellings
from ..project.folder import read_paths
from ..project.snapshot import own_files, take_snapshot
from ..project.state import MANIFEST_PATH, Manifest, read_manifest, read_state, state_bytes
from ..render.formatter import Formatted
from ..vendor.rewrite import in_project, without_copy
from ..vendor.runtime import Vendored
from . import apply
from .change import FileChange, Summary
from .follow import Following, follow
from .git import dirty_files, modes_count, unmerged_files
from .journal import read_journal, write_journal
from .plan import UpgradeOptions, plan_files
from .verdict import judge_again, judge_plan

if TYPE_CHECKING:
    from packaging.version import Version

State = Literal["nothing", "planned", "done", "conflicts", "findings", "aborted", "undone"]

_PENDING = ""
"""The digest of no template: the next upgrade renders again, because files were left for later."""

_MAX_NAMES = 10

_MERGES = {"merged", "conflict", "moved", "updated"}

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
        findings: What is wrong with the project as it would be, and with neither side.
        follows: How the user's own code follows what was renamed.
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
        """Whether a file would change, or is left to the user; newer versions alone are none."""
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
        state: "nothing" to do; only "planned"; "done"; "conflicts" are in files now; "findings" alone are left to the
            user; "aborted"; "undone".
        changes: What happened to each file.
        conflicts: Paths left to the user.
        notes: What else the user should know.
        findings: What is wrong with the merged project, and with neither side.
        follows: How the user's own code follows what was renamed.
    """

    state: State
    changes: tuple[Summary, ...] = ()
    conflicts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    follows: Following = Following()

    @property
    def exit_code(self) -> int:
        """0 done; 1 conflicts or findings are left to the user, or would be."""
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
    """Render today's template and decide what to do with each file; writes nothing.

    Args:
        root: The project's folder.
        template: Another source to render from, from now on.
        answers: Question -> new value, as typed.
        skip: Files or folders that upgrades leave alone from now on.
        restore: Files that the user deleted and wants again; they are no longer skipped either.
        only: Files or folders to upgrade now, the others later. Empty: all.

    Raises:
        PreconditionError: The manifest is missing or damaged, a newer paccel or template made the project, or files hold
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
        _refuse_older_release(before, found)
    draws = Draws(before.drawn)
    carried, notes = carry_answers(before.answers, found, answers or {}, draws)
    stored = hide(found.questions, carried)
    typed = [question.name for question in found.questions if question.secret and question.name in (answers or {})]
    restore = [_project_path(path) for path in restore]
    chosen = [_project_path(path) for path in only]
    skipped = tuple(sorted({*before.skipped, *(_project_path(path) for path in skip)} - {*restore}))
    kept = {"digest": before.template.digest, "commit": before.template.commit}  # another commit alone is no upgrade
    settled = before._replace(skipped=skipped, template=found.ref._replace(**kept))
    same = (found.digest, stored, __version__) == (before.template.digest, before.answers, before.paccel) and not typed
    vendored = before.vendored.renewed() if before.vendored is not None else None
    same = same and vendored == before.vendored
    if before.answers_edited:
        same = False
        notes.append("the answers in the manifest were edited since the last upgrade: they apply from now on")
    began = [path for path in skipped if path not in before.skipped]
    notes += [f"upgrades skip `{path}` from now on; `paccel upgrade --restore {path}` stops skipping" for path in began]
    if same and not restore:  # the same render: nothing to merge
        _check_known(began, before.files, "--skip")
        _check_known(chosen, before.files, "upgrade")
        if settled == before:
            return Plan(root, before, before, None, (), tuple(notes))
        return Plan(root, before, settled, read_state(root)[1], (), (*notes, *found.warnings))
    base, unknown, lost = _read_base(root, before)
    known_files = without_copy(base, before.vendored)
    earlier = Formatted(known_files, before.unformatted) if before.paccel == __version__ else None
    rendered = _render(found, stored, earlier, draws, vendored)
    if not before.drawn and draws.recover(rendered.tree, base):  # made by a paccel that kept no record
        rendered = _render(found, stored, earlier, draws, vendored)
    # What is merged has the secret answers; what is kept in `.paccel` has stand-ins for them.
    secrets = recover(base, read_paths(root, paths_with_secrets(base)))
    known = {name: answer for name, answer in secrets.items() if name in stored and is_hidden(carried[name])}
    theirs, hidden_base = rendered.tree, base
    if stored != carried | known:
        # Only new files are rendered with the answers: in the others, what the template makes of them is the user's.
        theirs = _render(found, carried | known, None, draws, vendored).tree
        answers_now = {name: str(answer) for name, answer in (carried | known).items() if stored[name] != answer}
        theirs = {**theirs, **reveal({path: file for path, file in rendered.tree.items() if path in base}, answers_now)}
        base = reveal(base, secrets)
    notes += [
        f"the secret answer `{name}` is not stored, and is not in your files: `paccel set {name}=…` gives it again"
        for name, answer in carried.items()
        if is_hidden(answer) and name not in secrets
    ]
    _check_known(restore, {**theirs, **dict.fromkeys(before.skipped)}, "--restore")
    own = {path: True for path in began if (root / path).exists()}  # the user's, which follows what is renamed
    _check_known(began, {**before.files, **theirs, **own}, "--skip")
    _check_known(chosen, {**base, **theirs}, "upgrade")
    labels = _labels(before, found)
    snapshot = take_snapshot(root, {*base, *theirs, *unknown}, base)
    options = UpgradeOptions(
        labels=labels,
        formatter_files={path: file.content for path, file in read_paths(root, _FORMATTER_FILES).items()},
        moved=tuple((move.old, move.new) for move in found.metadata.moved),
        once=found.metadata.once,
        unknown=frozenset(unknown),
        skipped=skipped,
        restore=tuple(restore),
        only=tuple(chosen),
        why=changes_between(found.metadata.changes, before.template.release),
        modes=modes_count(root, base, snapshot.files),
    )
    followed = follow(root, before, found.metadata, base, theirs, snapshot, options)
    planned = followed.finish(plan_files(followed.base, followed.snapshot, theirs, options), options)
    _refuse_conflicts(root, planned.changes, [base, theirs])
    verdict = judge_plan(root, planned.changes, base, theirs, labels)
    notes += _own_files(root, planned.folders, {*base, *theirs})
    complete = planned.baseline == theirs or not chosen
    # A file that is skipped, or left for later, stays in the baseline as it was.
    new = {path for path, file in planned.baseline.items() if theirs.get(path) == file}
    baseline = {path: rendered.tree[path] if path in new else hidden_base[path] for path in planned.baseline}
    unformatted = {path: sha for path, sha in rendered.unformatted.items() if path in new}
    after = Manifest.of(found.ref, stored, baseline, skipped, unformatted, draws.to_json())._replace(vendored=vendored)
    if not complete:  # what is left for later still belongs to the old version, but comes from the new source
        pending = found.ref._replace(
            digest=before.template.digest if before.template.digest != found.digest else _PENDING
        )
        if found.ref.source == before.template.source:
            pending = pending._replace(release=before.template.release)
        after = after._replace(template=pending, answers=before.answers, answers_sha256=before.answers_sha256)
    notes += [*lost, *found.warnings, *verdict.notes]
    follows = followed.report
    return Plan(root, before, after, baseline, verdict.changes, tuple(notes), labels, verdict.findings, follows)


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
    """Plan and apply, all or nothing; arguments as for `make_plan`.

    Args:
        allow_dirty: Also touch files that differ from git's last commit.
        dry_run: Plan only.
        show: Is called with the plan before anything is written.

    Raises:
        PreconditionError: An upgrade is unfinished, files to change are dirty in git, or cannot be written.
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
    """Change answers through the same merge; today's template is rendered, so an older project is upgraded by it."""
    return upgrade(root, answers=answers, allow_dirty=allow_dirty, dry_run=dry_run, show=show)


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
    journal = apply.start(plan.root, plan.changes, state, markers, plan.findings)
    state_now: State = "conflicts" if journal.conflicts else "findings" if journal.findings else "done"
    return Outcome(state_now, journal.summary, journal.conflicts, plan.notes, journal.findings, plan.follows)


def continue_upgrade(root: Path, *, accept: bool = False) -> Outcome:
    """Finish an upgrade that was interrupted, or whose conflicts and findings are resolved.

    Where the upgrade was waiting for the user, the project is checked again. What is found then stops the upgrade as
    before, with the state "findings".

    Args:
        accept: Keep the project as it is, whatever the check found.

    Raises:
        PreconditionError: There is none, or conflict markers are left.
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
        if journal.findings and not left:
            found = "; ".join(str(finding) for finding in journal.findings[:_MAX_NAMES])
            raise PreconditionError(
                f"The last upgrade is not finished: the check found {found}; resolve this and run `paccel upgrade"
                " --continue`, keep it with `paccel upgrade --accept`, or go back with `paccel upgrade --abort`"
            )
        names = ", ".join(f"`{path}`" for path in left or journal.conflicts)
        what = f"resolve the conflicts in {names}, then" if left else f"the conflicts in {names} are resolved;"
        raise PreconditionError(
            f"The last upgrade is not finished: {what} run `paccel upgrade --continue`, or go back with"
            " `paccel upgrade --abort`"
        )
    raise PreconditionError(
        "The last upgrade was interrupted: finish it with `paccel upgrade --continue`, or go back with `paccel upgrade --abort`"
    )


def conflicted(root: Path, files: Mapping[str, File], templates: Sequence[Tree]) -> list[str]:
    """The files with unresolved conflicts, of paccel or of git; a text that shows conflict markers is none.

    Args:
        files: The project's files, or some of them.
        templates: Renders; markers in a file of theirs are the template's text.
    """
    marked = {path: file.content for path, file in files.items() if has_markers(file.content)}
    unmerged = unmerged_files(root, marked)
    texts = {path for path in marked for tree in templates if path in tree and has_markers(tree[path].content)}
    return [
        path
        for path, content in marked.items()
        if path in unmerged
        or (path not in texts and has_own_markers(content))
        or (path not in texts and not parses(language_of(path), "\n".join(decode(content).lines)))
    ]


def refuse_newer(manifest: Manifest) -> None:
    """Check that no newer paccel made the project: this one would take its changes back.

    Raises:
        PreconditionError: One did.
        StateError: What the manifest names is not a version.
    """
    if manifest.paccel == __version__:
        return
    made, here = _version_of(manifest.paccel), _version_of(__version__)
    if made is None or here is None:
        raise StateError(
            f"`{MANIFEST_PATH}` names the paccel that made the project `{manifest.paccel}`, which is not a version number",
            "restore the file from your backup or from git, or run `paccel adopt`",
        )
    if made > here:
        raise PreconditionError(
            f"The project was made by paccel {made}, and this is paccel {here}, which would take its changes back: run"
            " `pip install -U paccel`"
        )


def _refuse_older_release(manifest: Manifest, template: Template) -> None:
    """Raise PreconditionError if the template is an older release than the one that made the project."""
    if manifest.template.release == template.ref.release:
        return
    made, offered = _version_of(manifest.template.release), _version_of(template.ref.release)
    # A template may name its releases as it likes: those that are no version numbers have no order.
    if made is not None and offered is not None and offered < made:
        source = manifest.template.source
        raise PreconditionError(
            f"The project was made from release {made} of its template, and `{source}` is release {offered}: update it"
            f" there, or go back with `--template {source}`"
        )


def _version_of(text: str) -> "Version | None":
    """A version in the order of PEP 440, without the `+…` that tells builds of one release apart; None if it is none."""
    from packaging.version import InvalidVersion, Version  # slow to import, and rarely needed

    try:
        return Version(Version(text).public)
    except InvalidVersion:
        return None


def _read_base(root: Path, manifest: Manifest) -> tuple[dict[str, File], set[str], list[str]]:
    """The baseline; if it is lost, what can be recovered: (files, paths whose content is lost, notes)."""
    try:
        return read_state(root)[1], set(), []
    except StateError as error:
        if isinstance(error.__cause__, OSError):
            raise  # it is there, but cannot be read now
        problem = error.problem
    try:
        template = load_recorded(manifest.template, root, as_rendered=True)
        draws = Draws(manifest.drawn)
        answers = resolve_answers(template, manifest.answers, draws=draws)
        tree = _render(template, answers, None, draws, manifest.vendored).tree
        if {path: (file.sha256, file.executable) for path, file in tree.items()} == dict(manifest.files):
            return dict(tree), set(), [f"{problem}; it was rendered again"]
    except PaccelError:
        pass  # the old template is gone, or renders something else today
    # The manifest still knows what each file was: the ones that are as they were are their own baseline.
    base: dict[str, File] = {}
    for path, file in read_paths(root, manifest.files).items():
        sha, executable = manifest.files[path]
        known = [File(content, executable) for content in spellings(file.content)]
        for generated in known:
            if generated.sha256 == sha:
                base[path] = generated
    return (
        base,
        set(manifest.files) - set(base),
        [f"{problem}; the files that you edited are kept as they are, unmerged"],
    )


def _render(
    template: Template,
    answers: Mapping[str, Answer],
    earlier: Formatted | None,
    draws: Draws,
    vendored: Vendored | None,
) -> Formatted:
    from ..render.render import render_formatted  # loads Jinja, which a project that is up to date does not need

    rendered = render_formatted(template, answers, earlier, draws)
    return rendered._replace(tree=in_project(rendered.tree, vendored))


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


def _own_files(root: Path, folders: Mapping[str, str], known: set[str]) -> list[str]:
    """Name the user's own files in folders that the template moved: they stay, and may import what has gone."""
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


def _refuse_conflicts(root: Path, changes: Sequence[FileChange], templates: Sequence[Tree]) -> None:
    files = {change.moved_from or change.path: change.before for change in changes if change.status in _MERGES}
    found = conflicted(root, {path: file for path, file in files.items() if file is not None}, templates)
    if found:
        names = ", ".join(f"`{path}`" for path in found)
        raise PreconditionError(
            f"There are conflict markers in {names}: resolve these conflicts first, or leave the file out with `--skip"
            f" {found[0]}`"
        )


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
        "source": without_secrets(manifest.template.source),
        "version": manifest.template.digest,
        "digest": manifest.template.digest,
    }
