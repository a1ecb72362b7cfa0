"""Merge a variant back into the project."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ..errors import PreconditionError
from ..files import disk
from ..merge.file import merge_file
from ..merge.markers import Labels, has_labelled_marker
from .variant import Variant
from .worktree import file_at, git, is_executable, toplevel, tree_of


class Kept(NamedTuple):
    """What was merged: the files that changed, and path -> reason for those with conflicts."""

    changed: tuple[str, ...]
    conflicts: Mapping[str, str]


def keep(variant: Variant) -> Kept:
    """Merge the edits of a variant into the project, with conflict markers where both have changed the same lines.

    The worktree is removed once everything is merged. With conflicts it stays until `keep` is called again and no marker is
    left, or until it is dropped.

    Raises:
        PreconditionError: Nothing has changed in the worktree, it was edited after a merge with conflicts, or another
            command is working on the variant.
    """
    with variant.locked():
        top = toplevel(variant.root)
        commit = variant.commit()
        tree = tree_of(top, commit)
        if variant.merging is not None:
            return _finish(variant, variant.merging, top, tree)
        listed = git(top, "diff", "--name-only", "--no-renames", "-z", variant.base, commit)
        paths = [os.fsdecode(name) for name in listed.split(b"\0") if name]
        if not paths:
            raise PreconditionError(f"Nothing has changed in `{variant.folder}`: there is nothing to keep")
        conflicts: dict[str, str] = {}
        changed = []
        for path in paths:
            if outcome := _merge_path(variant, top, commit, path):
                changed.append(path)
                if outcome != "merged":
                    conflicts[path] = outcome
        if conflicts:
            variant._replace(merging={"tree": tree, "files": list(conflicts)}).save()
        else:
            variant.remove()
        return Kept(tuple(changed), conflicts)


def _finish(variant: Variant, merging: Mapping[str, object], top: Path, tree: str) -> Kept:
    """Remove a variant that was merged with conflicts, if they are resolved. Nothing is merged twice."""
    if merging.get("tree") != tree:
        raise PreconditionError(
            f"`{variant.folder}` was edited after it was merged with conflicts: copy these edits into the project by hand, then"
            f" run `paccel try --drop {variant.name}`"
        )
    recorded = merging.get("files")
    files = [str(path) for path in recorded] if isinstance(recorded, list) else []
    markers = {f" {label}" for label in _labels(variant)}
    unresolved = {
        path: "it still has conflict markers"
        for path in files
        if (top / path).is_file() and has_labelled_marker((top / path).read_bytes(), markers)
    }
    if not unresolved:
        variant.remove()
    return Kept(tuple(files), unresolved)


def _labels(variant: Variant) -> Labels:
    return Labels("the project", "before", variant.name)


def _merge_path(variant: Variant, top: Path, commit: str, path: str) -> str | None:
    """Merge one file. Returns `merged`, the reason for a conflict, or None if the project has the change already."""
    base, theirs = file_at(top, variant.base, path), file_at(top, commit, path)
    place, beside = top / path, (top / path).with_name(f"{Path(path).name}.{variant.name}")
    if place.is_symlink() or (place.exists() and not place.is_file()):
        return "it is not a regular file in the project, and was left as it is"
    ours = place.read_bytes() if place.is_file() else None
    if ours == theirs:
        return None
    if theirs is None:
        if ours != base:
            return "the variant removes it, but the project has changed it since: the project's version is kept"
        disk.remove_file(place)
        return "merged"
    if ours is None:
        if base is not None:
            disk.write_whole(beside, theirs)
            return f"the project has removed it: the variant's version is in `{path}.{variant.name}`"
        place.parent.mkdir(parents=True, exist_ok=True)
        disk.write_whole(place, theirs, 0o755 if is_executable(top, commit, path) else 0o644)
        return "merged"
    result = merge_file(base, ours, theirs, path, _labels(variant))
    disk.write_whole(place, result.content, place.stat().st_mode & 0o777)
    if result.incoming is not None:
        disk.write_whole(beside, result.incoming)
        return f"it is binary: the variant's version is in `{path}.{variant.name}`"
    return f"{result.conflicts} to resolve, between conflict markers" if result.conflicts else "merged"
