"""Variants: an idea in a git worktree of its own, run with its parent's seeds and budget, and kept or dropped.

    .tries/<name>/            the worktree: edit there
    .tries/<name>.json        what is tried, from which commit, run and budget, and the verdict
    runs/try/<name>/          its runs, and variant.patch
    runs/try/parent-<hash>/   the runs of its parent, shared by all variants of the same code, run and budget

A variant begins with the project as it is on disk, uncommitted edits included: they are committed for the worktree alone,
on no branch. Git's index, branches and stash are left as they are.
"""

import ast
import hashlib
import json
import os
import re
import shutil
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import PreconditionError, UsageError, did_you_mean
from ..files import disk
from ..files.git import GitError, run_git
from ..merge.file import merge_file
from ..merge.markers import Labels, has_labelled_marker
from ..runs.comparison import Comparison, changed_files, compare, comparison_data
from ..runs.folder import FINISHED, RunFolder, find_runs, read_run
from ..runs.scores import choose_metric
from .code import link_the_rest, program_of
from .repeat import Outcome, make_jobs, run_jobs
from .verify import read_a_run

FOLDER = ".tries"
_SECONDS = 120
_MOST_BYTES = 1 << 20  # of a file that is new to git, to be taken for code
_AUTHOR = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "paccel try"), ("EMAIL", "paccel-try@localhost"))
}


class Variant(NamedTuple):
    """An idea that is tried.

    Attributes:
        name: Of its folder.
        what: In words.
        root: The project's folder.
        parent: The run that it is held against.
        base: The commit that it began with.
        seeds: To run.
        steps: Of each run; None is as many as the parent's settings say.
        seconds: After which each run is stopped; None is off.
        start: The checkpoint that all runs start from; None is from the seed.
        verdict: Of the last `--run`, as JSON; None before.
        merging: Where keeping it has met conflicts: the tree that was merged, and the files to resolve; else None.
    """

    name: str
    what: str
    root: Path
    parent: Path
    base: str
    seeds: tuple[int, ...]
    steps: int | None = None
    seconds: float | None = None
    start: Path | None = None
    verdict: Mapping[str, Any] | None = None
    merging: Mapping[str, Any] | None = None

    @property
    def worktree(self) -> Path:
        return self.root / FOLDER / self.name

    @property
    def folder(self) -> Path:
        """The project in the worktree."""
        return self.worktree / os.path.relpath(self.root.resolve(), _toplevel(self.root).resolve())

    @property
    def runs(self) -> Path:
        return self.root / "runs" / "try" / self.name

    def to_json(self) -> dict[str, Any]:
        paths = {"parent": str(self.parent), "start": None if self.start is None else str(self.start)}
        return self._asdict() | paths | {"root": str(self.root), "seeds": list(self.seeds), "path": str(self.folder)}


class Kept(NamedTuple):
    """What was merged back: the files that changed, and those with conflicts."""

    changed: tuple[str, ...]
    conflicts: Mapping[str, str]


def begin(
    root: Path,
    what: str,
    *,
    parent: Path | None = None,
    seeds: Sequence[int] = (),
    steps: int | None = None,
    seconds: float | None = None,
    start: Path | None = None,
) -> Variant:
    """Make a worktree for a variant.

    Raises:
        UsageError: Its name is taken, or something that is given cannot be used.
        PreconditionError: The project is in no git repository with a commit, or has no run to hold it against.
    """
    root = root.resolve()
    top = _toplevel(root)
    name = re.sub(r"[\W_]+", "-", unicodedata.normalize("NFC", what).lower()).strip("-")[:48].strip("-")
    if not name:
        raise UsageError(f"`{what}` says nothing that a folder could be called by: describe what is tried in words")
    if (root / FOLDER / f"{name}.json").exists():
        raise UsageError(f"`{name}` is being tried already: run it with `paccel try --run {name}`, or drop it first")
    run = read_a_run(parent) if parent is not None else _newest(root)
    if steps is not None and seconds is not None:
        raise UsageError("`--steps` and `--seconds` are both a budget: pass one of them")
    if steps is not None and "max_steps" not in run.settings:
        raise UsageError(f"`--steps`: `{run.path}` has no setting `max_steps`; add it to `Config`, or pass `--seconds`")
    if start is not None and not (start / "manifest.json").is_file():
        raise UsageError(f"`{start}` is not a checkpoint: give a folder such as `{run.path}/checkpoints/step-100`")
    own = run.settings.get("seed")
    chosen = tuple(seeds) or (own if isinstance(own, int) else 0,)
    base = _commit_of_disk(root, top, "HEAD", f"before {name}")
    if not (root / FOLDER).exists():
        (root / FOLDER).mkdir()
        disk.write_whole(root / FOLDER / ".gitignore", b"*\n")
    variant = Variant(
        name, what, root, run.path.resolve(), base, chosen, steps, seconds, None if start is None else start.resolve()
    )
    _git(top, "worktree", "add", "--detach", "--quiet", str(variant.worktree), base)
    link_the_rest(top, variant.worktree, run.path.resolve(), (root / FOLDER, root / "runs"))
    _write(variant)
    return variant


def read_variants(root: Path) -> list[Variant]:
    """The variants of a project, by name; a record that is damaged is passed over."""
    found = []
    for path in sorted((root / FOLDER).glob("*.json")):
        try:
            known = json.loads(path.read_bytes())
            start = known.get("start")
            found.append(
                Variant(
                    path.stem,
                    str(known["what"]),
                    root.resolve(),
                    Path(known["parent"]),
                    str(known["base"]),
                    tuple(int(seed) for seed in known["seeds"]),
                    known.get("steps"),
                    known.get("seconds"),
                    None if start is None else Path(start),
                    known.get("verdict"),
                    known.get("merging"),
                )
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return found


def find_variant(root: Path, name: str) -> Variant:
    """The variant of that name, or the one whose name begins so.

    Raises:
        UsageError: There is none, or there are several.
    """
    variants = read_variants(root)
    found = [v for v in variants if v.name == name] or [v for v in variants if v.name.startswith(name)]
    if len(found) != 1:
        names = ", ".join(f"`{v.name}`" for v in found)
        reason = (
            f"may be {names}: give more of its name"
            if found
            else f"is not being tried{did_you_mean(name, [v.name for v in variants])}"
        )
        raise UsageError(f"`{name}` {reason}; see `paccel try --list`")
    return found[0]


def diff_of(variant: Variant) -> str:
    """What the variant changes, as a diff."""
    top = _toplevel(variant.root)
    options = ("--no-color", "--no-ext-diff", "--full-index", "--binary", "--no-renames")
    return os.fsdecode(_git(top, "diff", *options, variant.base, _commit_of_variant(variant)))


def run_variant(
    variant: Variant, *, at_once: int = 1, tell: Callable[[str], None] = lambda text: None
) -> tuple[Variant, list[Outcome], Comparison | None]:
    """Run a variant and its parent with the same seeds and budget, and compare them. What is finished is not run again.

    Returns:
        The variant with its verdict, how its runs ended, and the comparison; None where none has a score.

    Raises:
        PreconditionError: Nothing was changed in the worktree, or the parent cannot be read.
    """
    with _alone(variant):
        return _run(variant, at_once, tell)


def _alone(variant: Variant) -> AbstractContextManager[None]:
    """Keep other commands from this variant while it is run, kept or dropped."""
    if not variant.worktree.is_dir():
        return nullcontext()
    busy = f"Another paccel command is working on `{variant.name}`: wait until it has finished"
    return disk.locked_folder(variant.worktree, busy)


def _run(
    variant: Variant, at_once: int, tell: Callable[[str], None]
) -> tuple[Variant, list[Outcome], Comparison | None]:
    patch = diff_of(variant)
    if not patch:
        raise PreconditionError(f"Nothing is changed in `{variant.folder}`: edit there, then run it")
    parent = read_a_run(variant.parent)
    program = program_of(parent)
    variant.runs.mkdir(parents=True, exist_ok=True)
    kept = variant.runs / "variant.patch"
    if kept.is_file() and kept.read_text(encoding="utf-8", errors="surrogateescape") != patch:
        shutil.rmtree(variant.runs / "variant", ignore_errors=True)  # of what it was before further edits
        tell("edited since the last time: its runs start anew")
    disk.write_whole(kept, patch.encode("utf-8", "surrogateescape"))
    fixed = {} if variant.steps is None else {"max_steps": [variant.steps]}
    before = _base_folder(variant)
    try:
        ours = [
            job._replace(name=f"parent {job.name}", start=variant.start)
            for job in make_jobs(parent, before, variant.seeds, fixed, _parent_runs(variant))
        ]
        freed = _edited_defaults(before / program, variant.folder / program) - {"seed", "max_steps"}
        theirs = [
            job._replace(
                name=f"variant {job.name}",
                settings={k: v for k, v in job.settings.items() if k not in freed},
                start=variant.start,
            )
            for job in make_jobs(parent, variant.folder, variant.seeds, fixed, variant.runs / "variant")
        ]
        reused = _parent_as_baseline(variant, parent, before)
        outcomes: list[Outcome] = []
        if not reused:
            ours[0].run_dir.parent.mkdir(parents=True, exist_ok=True)
            busy = "Another variant is making the runs of the parent: waiting for it"
            with disk.locked_folder(ours[0].run_dir.parent, busy, tell):
                outcomes += run_jobs(ours, parent, program, at_once=at_once, seconds=variant.seconds, tell=tell)
        outcomes += run_jobs(theirs, parent, program, at_once=at_once, seconds=variant.seconds, tell=tell)
    finally:
        _remove_worktree(variant.root, before)
    ended = ("finished", "stopped") if variant.seconds is not None else ("finished",)
    made = [outcome.job for outcome in outcomes if outcome.state in ended]
    baseline = (
        [replace(parent, name="parent")] if reused else [read_run(job.run_dir, job.name) for job in made if job in ours]
    )
    tried = [read_run(job.run_dir, job.name) for job in made if job in theirs]
    found = None
    if baseline and tried:
        found = compare([*baseline, *tried], against=baseline[0].name, metric=choose_metric(baseline))
        found = _labelled(found, ("parent", variant.name))
        variant = variant._replace(verdict=comparison_data(found)["verdicts"][0] if found.verdicts else None)
        _write(variant)
    return variant, outcomes, found


def _labelled(comparison: Comparison, labels: Sequence[str]) -> Comparison:
    """The comparison with its groups called as they are here, also in what is said of them."""
    if len(comparison.groups) != len(labels):
        return comparison  # some runs of one side differ among themselves
    new = dict(zip((group.label for group in comparison.groups), labels, strict=True))

    def in_words(text: str) -> str:
        for old, label in sorted(new.items(), key=lambda names: -len(names[0])):
            text = text.replace(f"`{old}`", f"`{label}`")
        return text

    return replace(
        comparison,
        groups=[replace(group, label=new[group.label]) for group in comparison.groups],
        verdicts=[
            replace(v, group=new[v.group], against=new[v.against], sentence=in_words(v.sentence))
            for v in comparison.verdicts
        ],
        cautions=[in_words(caution) for caution in comparison.cautions],
        code={new[label]: files for label, files in comparison.code.items()},
    )


def keep(variant: Variant) -> Kept:
    """Merge what a variant changes into the project. Where both have changed the same lines, both are there with markers.

    The worktree goes once everything is merged; with conflicts it stays until it is kept again, without markers in the
    project, or dropped.

    Raises:
        PreconditionError: Nothing was changed in the worktree; or it was edited after a merge with conflicts.
    """
    with _alone(variant):
        return _keep(variant)


def _keep(variant: Variant) -> Kept:
    top = _toplevel(variant.root)
    tip = _commit_of_variant(variant)
    tree = _git(top, "rev-parse", f"{tip}^{{tree}}").decode().strip()
    if variant.merging is not None:
        return _end_merge(variant, top, tree)
    listed = _git(top, "diff", "--name-only", "--no-renames", "-z", variant.base, tip)
    paths = [os.fsdecode(name) for name in listed.split(b"\0") if name]
    if not paths:
        raise PreconditionError(f"Nothing is changed in `{variant.folder}`: there is nothing to keep")
    conflicts: dict[str, str] = {}
    changed = []
    for path in paths:
        if outcome := _merge_path(variant, top, tip, path):
            changed.append(path)
            if outcome != "merged":
                conflicts[path] = outcome
    if conflicts:
        _write(variant._replace(merging={"tree": tree, "files": list(conflicts)}))
    else:
        _drop(variant)
    return Kept(tuple(changed), conflicts)


def _end_merge(variant: Variant, top: Path, tree: str) -> Kept:
    """Drop a variant that was merged with conflicts, if these are resolved; nothing is merged twice."""
    assert variant.merging is not None
    if variant.merging.get("tree") != tree:
        raise PreconditionError(
            f"`{variant.folder}` was edited after it was merged with conflicts: put these edits into the project by hand, then "
            f"`paccel try --drop {variant.name}`"
        )
    files = [str(path) for path in variant.merging.get("files", ())]
    ends = {f" {label}" for label in _labels(variant)}
    open_ = {path: "it still has conflict markers" for path in files if _has_marker(top / path, ends)}
    if not open_:
        _drop(variant)
    return Kept(tuple(files), open_)


def _labels(variant: Variant) -> Labels:
    return Labels("the project", "before", variant.name)


def _has_marker(path: Path, ends: set[str]) -> bool:
    return path.is_file() and has_labelled_marker(path.read_bytes(), ends)


def drop(variant: Variant) -> None:
    """Remove the worktree and the record of a variant; its runs and its patch stay.

    Raises:
        PreconditionError: It is being run.
    """
    with _alone(variant):
        _drop(variant)


def _drop(variant: Variant) -> None:
    _remove_worktree(variant.root, variant.worktree)
    disk.remove_file(variant.root / FOLDER / f"{variant.name}.json")


def _merge_path(variant: Variant, top: Path, tip: str, path: str) -> str | None:
    """Merge one file: None where the project has the change already, `merged`, or the reason for a conflict."""
    base, theirs = _blob(top, variant.base, path), _blob(top, tip, path)
    place = top / path
    if place.is_symlink() or (place.exists() and not place.is_file()):
        return "it is no regular file in the project, which is kept"
    ours = place.read_bytes() if place.is_file() else None
    if ours == theirs:
        return None
    if theirs is None:
        if ours != base:
            return "the variant removes it, and the project has changed it since: the project's is kept"
        disk.remove_file(place)
        return "merged"
    if ours is None:
        if base is not None:
            disk.write_whole(place.with_name(f"{place.name}.{variant.name}"), theirs)
            return f"the project has removed it: the variant's is in `{path}.{variant.name}`"
        place.parent.mkdir(parents=True, exist_ok=True)
        disk.write_whole(place, theirs, 0o755 if _is_executable(top, tip, path) else 0o644)
        return "merged"
    result = merge_file(base, ours, theirs, path, _labels(variant))
    disk.write_whole(place, result.content, place.stat().st_mode & 0o777)
    if result.incoming is not None:
        disk.write_whole(place.with_name(f"{place.name}.{variant.name}"), result.incoming)
        return f"it is binary: the variant's is in `{path}.{variant.name}`"
    return f"{result.conflicts} to resolve, between the markers" if result.conflicts else "merged"


def _blob(top: Path, commit: str, path: str) -> bytes | None:
    try:
        return run_git("cat-file", "--filters", f"{commit}:{path}", folder=top, seconds=_SECONDS)
    except GitError:
        return None


def _is_executable(top: Path, commit: str, path: str) -> bool:
    return _git(top, "ls-tree", commit, "--", f":(top,literal){path}").startswith(b"100755")


def _newest(root: Path) -> RunFolder:
    """The newest finished run of a project that is not itself part of a trial.

    Raises:
        PreconditionError: There is none.
    """
    runs = find_runs(root / "runs").runs if (root / "runs").is_dir() else []
    finished = [run for run in runs if run.state == FINISHED and run.settings and not run.name.startswith("try/")]
    if not finished:
        raise PreconditionError(
            "There is no finished run to hold a variant against: train one first, or pass `--parent RUN`"
        )
    return max(
        finished, key=lambda run: ("/" not in run.name, run.started)
    )  # one of a group only where nothing else is


def _parent_runs(variant: Variant) -> Path:
    """The folder for runs of the parent: one for the same files, settings, budget and start."""
    tree = _git(_toplevel(variant.root), "rev-parse", f"{variant.base}^{{tree}}").decode().strip()
    parts = tree, str(variant.parent), str(variant.steps), str(variant.seconds), str(variant.start)
    return variant.root / "runs" / "try" / f"parent-{hashlib.sha256(' '.join(parts).encode()).hexdigest()[:10]}"


def _parent_as_baseline(variant: Variant, parent: RunFolder, base: Path) -> bool:
    """Whether the parent itself is what the variant is to be held against: same code, seed and budget, and finished."""
    same_budget = variant.steps in (None, parent.settings.get("max_steps")) and variant.seconds is None
    code = parent.environment.get("code")
    files = code.get("files") if isinstance(code, Mapping) else None
    if not same_budget or variant.start is not None or not isinstance(files, Mapping) or parent.state != FINISHED:
        return False
    now = RunFolder(base, "", environment={"code": {"files": {n: _digest(base / n) for n in files}}})
    return variant.seeds == (parent.settings.get("seed"),) and changed_files(parent, now) == []


def _digest(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _edited_defaults(before: Path, after: Path) -> set[str]:
    """Fields of dataclasses whose default a variant has changed, or that it has removed: they are not set from its parent."""
    old, new = _defaults(before), _defaults(after)
    return {name for name, default in old.items() if new.get(name) != default}


def _defaults(path: Path) -> dict[str, str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return {}
    return dict(_fields(tree))


def _fields(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and any("dataclass" in ast.unparse(mark) for mark in node.decorator_list):
            for field in node.body:
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                    yield field.target.id, "" if field.value is None else ast.unparse(field.value)


def _base_folder(variant: Variant) -> Path:
    """A worktree of the commit that the variant began with, for the runs of its parent; the project in it."""
    top = _toplevel(variant.root)
    worktree = variant.root / FOLDER / f"{variant.name}.parent"
    _remove_worktree(variant.root, worktree)
    _git(top, "worktree", "add", "--detach", "--quiet", str(worktree), variant.base)
    link_the_rest(top, worktree, variant.parent, (variant.root / FOLDER, variant.root / "runs"))
    return worktree / os.path.relpath(variant.root, top.resolve())


def _remove_worktree(root: Path, folder: Path) -> None:
    top = _toplevel(root)
    worktree = next((p for p in [folder, *folder.parents] if p.parent == root / FOLDER), folder)
    try:
        run_git("worktree", "remove", "--force", "--force", str(worktree), folder=top, seconds=_SECONDS)
    except GitError:  # it was never made, or is gone
        disk.remove_folder(worktree)
        _git(top, "worktree", "prune")


def _commit_of_variant(variant: Variant) -> str:
    if not variant.folder.is_dir():
        raise PreconditionError(f"`{variant.folder}` is gone: `paccel try --drop {variant.name}`, and try it again")
    return _commit_of_disk(variant.folder, variant.worktree, variant.base, variant.what)


def _commit_of_disk(folder: Path, top: Path, parent: str, message: str) -> str:
    """Commit the files on disk, on no branch and without touching the index: tracked ones, and small new ones.

    Raises:
        PreconditionError: There is no commit to begin with.
    """
    try:
        head = run_git("rev-parse", "--verify", f"{parent}^{{commit}}", folder=top, seconds=_SECONDS).decode().strip()
    except GitError as error:
        raise PreconditionError(f"`{top}` has no commit yet: run `git add -A && git commit` first") from error
    index = (
        Path(os.fsdecode(_ask_git(top, "rev-parse", "--absolute-git-dir")).strip("\n"))
        / f"paccel-try-index-{os.getpid()}"
    )
    try:
        variables = {"GIT_INDEX_FILE": str(index)}
        _ask_git(top, "read-tree", head, **variables)
        _ask_git(top, "add", "--update", "--", ".", **variables)
        listed = _ask_git(top, "ls-files", "-z", "--others", "--exclude-standard", **variables).split(b"\0")
        new = [name for name in listed if name and _is_small(top / os.fsdecode(name))]
        if new:
            run_git(
                "add",
                "--pathspec-from-file=-",
                "--pathspec-file-nul",
                folder=top,
                seconds=_SECONDS,
                typed=b"\0".join(new),
                GIT_LITERAL_PATHSPECS="1",
                **variables,
            )
        tree = _ask_git(top, "write-tree", **variables).decode().strip()
    except GitError as error:
        raise PreconditionError(f"git cannot commit what is in `{folder}`: {error.reason}") from error
    finally:
        index.unlink(missing_ok=True)
    if tree == _ask_git(top, "rev-parse", f"{head}^{{tree}}").decode().strip():
        return head
    return _ask_git(top, "commit-tree", tree, "-p", head, "-m", message, **_AUTHOR).decode().strip()


def _is_small(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and path.stat().st_size <= _MOST_BYTES


def _git(top: Path, *arguments: str) -> bytes:
    try:
        return _ask_git(top, *arguments)
    except GitError as error:
        raise PreconditionError(f"`git {arguments[0]}` failed in `{top}`: {error.reason}") from error


def _ask_git(top: Path, *arguments: str, **variables: str) -> bytes:
    return run_git(*arguments, folder=top, seconds=_SECONDS, typed=b"", **variables)


def _toplevel(root: Path) -> Path:
    try:
        return Path(os.fsdecode(_ask_git(root, "rev-parse", "--show-toplevel")).rstrip("\n"))
    except GitError as error:
        raise PreconditionError(
            f"`{root}` is in no git repository, which `paccel try` needs: run `git init && git add -A && git commit`"
            f" ({error.reason})"
        ) from error


def _write(variant: Variant) -> None:
    content = json.dumps(variant.to_json(), indent=2) + "\n"
    disk.write_whole(variant.root / FOLDER / f"{variant.name}.json", content.encode())
