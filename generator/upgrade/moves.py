"""Files that moved: as a template declares, or as their content shows."""

from collections.abc import Iterable
from pathlib import PurePosixPath

from ..files.likeness import likeness, line_counts
from ..files.tree import File, Tree
from ..merge.text import is_binary

TEMPLATE_LIKENESS = 0.5
USER_LIKENESS = 0.6
"""Higher than for the template's own moves: a user's file that is merely similar must not be taken for a renamed one."""

MIN_LINES = 3


def template_moves(base: Tree, theirs: Tree, declared: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Old path -> new path of the files that the template moved: as declared, then by likeness."""
    gone = [path for path in base if path not in theirs]
    new = [path for path in theirs if path not in base]
    moves: dict[str, str] = {}
    # A file may have moved more than once since: follow the declarations to what there is now.
    steps = dict(declared)
    for path in gone:
        target, seen = path, {path}
        while target in steps and steps[target] not in seen:
            target = steps[target]
            seen.add(target)
            if target in new:
                moves[path] = target
                break
    free = {path: theirs[path] for path in new if path not in moves.values()}
    return moves | likely_moves({path: base[path] for path in gone if path not in moves}, free, TEMPLATE_LIKENESS)


def likely_moves(old: Tree, new: Tree, least: float) -> dict[str, str]:
    """Pair files by likeness, the most alike first; each file is in one pair at most."""
    scored = sorted(
        (
            (_score(file, other), PurePosixPath(path).name == PurePosixPath(place).name, path, place)
            for path, file in old.items()
            for place, other in new.items()
            if PurePosixPath(path).suffix == PurePosixPath(place).suffix
        ),
        reverse=True,
    )
    pairs: dict[str, str] = {}
    for score, same_name, path, place in scored:
        if score >= (least if not same_name else least * 0.8) and path not in pairs and place not in pairs.values():
            pairs[path] = place
    return pairs


def _score(one: File, other: File) -> float:
    """How alike two files are, from 0 to 1; binary files and files of few lines must be equal."""
    if one.content == other.content:
        return 1.0 if one.content.strip() else 0.0
    if is_binary(one.content) or is_binary(other.content):
        return 0.0
    if min(line_counts(file.content).total() for file in (one, other)) < MIN_LINES:
        return 0.0
    return likeness([(one.content, other.content)])
