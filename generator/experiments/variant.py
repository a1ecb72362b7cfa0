"""Variants: an idea in a git worktree, trained like its parent run, and kept or dropped.

    .tries/<name>/            the worktree: edit there
    .tries/<name>.json        the idea, its commit, parent run and budget, and the verdict
    runs/try/<name>/          its runs, and variant.patch
    runs/try/parent-<hash>/   the runs of its parent, shared by all variants of the same code, run and budget

A variant starts from the project as it is on disk, uncommitted edits included: they are committed on no branch. Git's
index, branches and stash stay as they are.
"""

import json
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import PreconditionError, UsageError, did_you_mean
from ..files import disk
from ..runs.folder import RunFolder, find_runs, require_run
from ..runs.state import FINISHED
from .code import link_the_rest
from .worktree import add_worktree, commit_files, git, project_in, remove_worktree, toplevel

FOLDER = ".tries"


class Variant(NamedTuple):
    """An idea that is being tried.

    Attributes:
        name: Its name, derived from `what`: also that of its worktree.
        what: The idea in words.
        root: The project's folder.
        parent: The run that it is compared with.
        base: The commit that it starts from.
        seeds: The seeds to run.
        steps: The length of each run; None: as the parent's settings say.
        seconds: After which each run is stopped; None: never.
        start: The checkpoint that all runs start from; None: fresh weights.
        verdict: The verdict of the last `--run`, as JSON; None before.
        merging: After `--keep` met conflicts: the tree that was merged, and the files to resolve; else None.
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
        return project_in(self.worktree, self.root, toplevel(self.root))

    @property
    def runs(self) -> Path:
        return self.root / "runs" / "try" / self.name

    def to_json(self) -> dict[str, Any]:
        paths = {"parent": str(self.parent), "start": None if self.start is None else str(self.start)}
        return self._asdict() | paths | {"root": str(self.root), "seeds": list(self.seeds), "path": str(self.folder)}

    def save(self) -> None:
        """Write its record."""
        content = json.dumps(self.to_json(), indent=2) + "\n"
        disk.write_whole(self.root / FOLDER / f"{self.name}.json", content.encode())

    def locked(self) -> AbstractContextManager[None]:
        """Keep other commands from this variant while it is run, kept or dropped.

        Raises:
            PreconditionError: Another command is working on it.
        """
        if not self.worktree.is_dir():
            return nullcontext()
        busy = f"Another paccel command is working on `{self.name}`: wait until it has finished"
        return disk.locked_folder(self.worktree, busy)

    def commit(self) -> str:
        """Commit the files of the worktree, and return the commit.

        Raises:
            PreconditionError: The worktree is missing, or git fails.
        """
        if not self.folder.is_dir():
            raise PreconditionError(
                f"`{self.folder}` is missing: run `paccel try --drop {self.name}`, then try the idea again"
            )
        return commit_files(self.worktree, self.base, self.what)

    def diff(self) -> str:
        """Return what it changes, as a diff; empty if nothing."""
        options = ("--no-color", "--no-ext-diff", "--full-index", "--binary", "--no-renames")
        return os.fsdecode(git(toplevel(self.root), "diff", *options, self.base, self.commit()))

    def remove(self) -> None:
        """Remove the worktree and the record; the runs and the patch stay."""
        remove_worktree(toplevel(self.root), self.worktree)
        disk.remove_file(self.root / FOLDER / f"{self.name}.json")


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
    """Create a variant and its worktree.

    Args:
        root: The project's folder.
        what: The idea in words.
        parent: The run to compare with. None: the newest finished run.
        seeds: The seeds to run. None: the parent's.
        steps: The length of each run. None: as the parent's settings say.
        seconds: After which each run is stopped. None: never.
        start: The checkpoint that all runs start from. None: fresh weights.

    Raises:
        UsageError: The variant exists already, or an argument cannot be used.
        PreconditionError: The project is in no git repository with a commit, or has no run to compare with.
    """
    root = root.resolve()
    top = toplevel(root)
    name = re.sub(r"[\W_]+", "-", unicodedata.normalize("NFC", what).lower()).strip("-")[:48].strip("-")
    if not name:
        raise UsageError(f"`{what}` has no letters or digits to name a folder after: describe the idea in words")
    if (root / FOLDER / f"{name}.json").exists():
        raise UsageError(
            f"The variant `{name}` exists already: run it with `paccel try --run {name}`, or drop it first"
        )
    run = require_run(parent) if parent is not None else _newest_run(root)
    if steps is not None and seconds is not None:
        raise UsageError("`--steps` and `--seconds` are both a budget: pass one of them")
    if steps is not None and "max_steps" not in run.settings:
        raise UsageError(f"`--steps`: `{run.path}` has no setting `max_steps`; add it to `Config`, or pass `--seconds`")
    if start is not None and not (start / "manifest.json").is_file():
        raise UsageError(f"`{start}` is not a checkpoint: pass a folder such as `{run.path}/checkpoints/step-100`")
    own = run.settings.get("seed")
    chosen = tuple(seeds) or (own if isinstance(own, int) else 0,)
    base = commit_files(top, "HEAD", f"before {name}")
    if not (root / FOLDER).exists():
        (root / FOLDER).mkdir()
        disk.write_whole(root / FOLDER / ".gitignore", b"*\n")
    variant = Variant(
        name, what, root, run.path.resolve(), base, chosen, steps, seconds, None if start is None else start.resolve()
    )
    add_project_worktree(variant, variant.worktree)
    variant.save()
    return variant


def add_project_worktree(variant: Variant, worktree: Path) -> None:
    """Check out the commit that a variant starts from, and link data and other files that git does not track."""
    top = toplevel(variant.root)
    add_worktree(top, worktree, variant.base)
    link_the_rest(top, worktree, variant.parent, (variant.root / FOLDER, variant.root / "runs"))


def read_variants(root: Path) -> list[Variant]:
    """Read the variants of a project, by name. A damaged record is skipped."""
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
    """Return the variant with this name, or the only one whose name starts with it.

    Raises:
        UsageError: There is none, or there are several.
    """
    variants = read_variants(root)
    found = [v for v in variants if v.name == name] or [v for v in variants if v.name.startswith(name)]
    if len(found) == 1:
        return found[0]
    if found:
        reason = f"is ambiguous: {', '.join(f'`{v.name}`' for v in found)}; give more of the name"
    else:
        reason = f"is not a variant{did_you_mean(name, [v.name for v in variants])}"
    raise UsageError(f"`{name}` {reason}; see `paccel try --list`")


def drop(variant: Variant) -> None:
    """Remove the worktree and the record of a variant; its runs and its patch stay.

    Raises:
        PreconditionError: Another command is working on it.
    """
    with variant.locked():
        variant.remove()


def _newest_run(root: Path) -> RunFolder:
    """Return the newest finished run of a project; runs of variants do not count.

    Raises:
        PreconditionError: There is none.
    """
    runs = find_runs(root / "runs").runs if (root / "runs").is_dir() else []
    finished = [run for run in runs if run.state == FINISHED and run.settings and not run.name.startswith("try/")]
    if not finished:
        raise PreconditionError(
            "There is no finished run to compare a variant with: train one first, or pass `--parent RUN`"
        )
    # A run in a subfolder, as of `paccel repeat`, only where there is no other.
    return max(finished, key=lambda run: ("/" not in run.name, run.started))
