"""Moved files: declared by the template, or detected from paths and content.

Paths come before content, because many files are alike: empty `__init__.py`, licence headers, the configs of several
experiments. If neither tells two candidates apart, none is paired: the template then deletes the old file and adds the new
one, and an edited file is a conflict. No step compares all pairs of files.
"""

import codecs
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from itertools import product
from pathlib import PurePosixPath
from typing import NamedTuple

from ..files.likeness import line_counts, shared
from ..files.tree import Tree
from ..merge.text import is_binary

TEMPLATE_LIKENESS = 0.5
"""Two files of the template are one if they share at least this fraction of their lines."""

USER_LIKENESS = 0.6
"""The same for a file of the user's; higher, as a file of their own may be similar without being the template's."""

SAME_NAME = 0.8
"""The fraction of that threshold that files of the same name need."""

MIN_LINES = 3
"""A file with fewer lines is not recognized by its content."""

MIN_NAMES = 2
"""A folder is not recognized as renamed if fewer names match."""

MAX_CANDIDATES = 32
"""A line or a name that more files share does not identify them."""

Parts = tuple[str, ...]


def template_moves(base: Tree, theirs: Tree, declared: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Old path -> new path of the files that the template moved: declared moves first, then detected ones."""
    gone = [path for path in base if path not in theirs]
    new = {path for path in theirs if path not in base}
    moves: dict[str, str] = {}
    # A file may have moved several times: follow the declarations up to a path of the new render.
    steps = dict(declared)
    for path in gone:
        target, seen = path, {path}
        while target in steps and steps[target] not in seen:
            target = steps[target]
            seen.add(target)
            if target in new:
                moves[path] = target
                break
    taken = set(moves.values())
    old = {path: base[path] for path in gone if path not in moves}
    free = {path: theirs[path] for path in theirs if path in new and path not in taken}
    pairing = _Pairing(old, free, TEMPLATE_LIKENESS, moves)
    pairing.by_tail(2, short_too=True)
    pairing.by_content()
    pairing.by_folder()
    pairing.by_likeness()
    pairing.by_folder()
    pairing.by_word()
    pairing.by_names(_folders(base) - _folders(theirs), _folders(theirs) - _folders(base))
    return pairing.pairs


def user_moves(missing: Tree, strays: Tree) -> dict[str, str]:
    """Template's path -> user's path of the files that the user moved or renamed, as detected.

    Args:
        missing: Files of the baseline that the user no longer has at their path.
        strays: The user's files at paths that are not the template's.
    """
    pairing = _Pairing(missing, strays, USER_LIKENESS, {})
    pairing.by_tail(2, short_too=False)
    pairing.by_content()
    pairing.by_likeness()
    pairing.by_folder()
    return pairing.pairs


def moved_folders(moves: Mapping[str, str], theirs: Tree) -> dict[str, str]:
    """Old folder -> new folder of folders that the template moved as a whole, leaving no file."""
    left = _folders(theirs)
    found: dict[str, str] = {}
    for folder, places in sorted(_votes(moves).items(), key=lambda item: len(item[0])):
        inside = any("/".join(folder[:depth]) in found for depth in range(1, len(folder)))
        if folder and folder not in left and not inside:
            found["/".join(folder)] = "/".join(places.most_common(1)[0][0])
    return found


class _Look(NamedTuple):
    """What a file is recognized by.

    Attributes:
        path: Its path.
        parts: The parts of the path.
        lines: The count of each line; empty for a binary file.
        key: Equal for files with equal content up to line endings; None for a blank file.
    """

    path: str
    parts: Parts
    lines: Counter[bytes]
    key: bytes | None

    def tail(self, length: int) -> Parts | None:
        """The last parts of the path; None if it has fewer."""
        return self.parts[-length:] if len(self.parts) >= length else None

    @property
    def short(self) -> bool:
        """Whether the content does not identify it: it has few lines, or is binary."""
        return self.lines.total() < MIN_LINES


class _Pairing:
    """Pairs old files with new ones, step by step; `old` and `new` hold the files that have no pair yet."""

    def __init__(self, old: Tree, new: Tree, least: float, known: Mapping[str, str]) -> None:
        self.least = least
        self.old = {path: _look(path, file.content) for path, file in old.items()}
        self.new = {path: _look(path, file.content) for path, file in new.items()}
        self.pairs = dict(known)

    def by_tail(self, depth: int, short_too: bool) -> None:
        """Pair files whose paths end alike, the longest common end first.

        Args:
            depth: How many last parts of the paths must be equal.
            short_too: Whether also to pair files that their content does not identify.
        """
        deepest = max((len(look.parts) for look in self.old.values()), default=0)
        for length in range(deepest, depth - 1, -1):
            for olds, news in self._groups(lambda look: look.tail(length)):  # noqa: B023
                self._take_best(
                    (_closeness(one, other), one, other)
                    for one, other in product(olds, news)
                    if self._alike(one, other, short_too)
                )

    def by_content(self) -> None:
        """Pair files of equal content; among several, those with the closest paths."""
        for name in (_name, _suffix):
            for olds, news in self._groups(lambda look: (look.key, name(look)) if look.key else None):  # noqa: B023
                self._take_best((_closeness(one, other), one, other) for one, other in product(olds, news))

    def by_folder(self) -> None:
        """Pair each file with the one where most other files of its folder went."""
        votes = {folder: places.most_common(MAX_CANDIDATES) for folder, places in _votes(self.pairs).items()}
        for one in list(self.old.values()):
            for depth in range(len(one.parts) - 1, -1, -1):
                folder, rest = one.parts[:depth], one.parts[depth:]
                found = [(count, self.new.get("/".join((*place, *rest)))) for place, count in votes.get(folder, ())]
                there = [(count, other) for count, other in found if other is not None]
                if not there or (len(there) > 1 and there[0][0] == there[1][0]):
                    continue
                if folder or one.short or there[0][1].short:  # from the top folder, only what content does not identify
                    self._take(one, there[0][1])
                    break

    def by_word(self) -> None:
        """Pair files whose path contains the name of a renamed folder, as `tests/test_<name>.py` does."""
        renamed = Counter(
            {
                (folder[-1], place[-1]): count
                for folder, places in _votes(self.pairs).items()
                for place, count in places.most_common(1)
                if folder and place and folder[:-1] == place[:-1]
            }
        )
        for (word, new), _ in renamed.most_common(MAX_CANDIDATES):
            for one in [one for one in self.old.values() if word in one.path]:
                path = one.path.replace(word, new)
                if path in self.new:
                    self._take(one, self.new[path])

    def by_likeness(self) -> None:
        """Pair the files with the largest fraction of lines in common."""
        olds = [look for look in self.old.values() if not look.short]
        by_line: defaultdict[bytes, list[_Look]] = defaultdict(list)
        for other in self.new.values():
            for line in other.lines if not other.short else ():
                by_line[line].append(other)
        scored: dict[tuple[str, str], tuple[tuple[float, ...], _Look, _Look]] = {}
        namesakes = {look.path: news for olds, news in self._groups(_name) for look in olds}
        for one in olds:
            common = Counter(
                other.path for line in one.lines if len(by_line[line]) <= MAX_CANDIDATES for other in by_line[line]
            )
            near = [self.new[path] for path, _ in common.most_common(MAX_CANDIDATES)] + namesakes.get(one.path, [])
            for other in near:
                score = self._likeness(one, other)
                wanted = self.least * (SAME_NAME if one.parts[-1] == other.parts[-1] else 1)
                if not other.short and _suffix(one) == _suffix(other) and score >= wanted:
                    scored[one.path, other.path] = (score, *_closeness(one, other)), one, other
        self._take_best(scored.values())

    def by_names(self, gone: set[Parts], new: set[Parts]) -> None:
        """Pair the files of an old folder with those of the new folder that shares the most names, at least half.

        Args:
            gone: Old folders without any file left.
            new: Folders that did not exist before.
        """
        olds: defaultdict[Parts, list[_Look]] = defaultdict(list)
        by_rest: defaultdict[Parts, list[Parts]] = defaultdict(list)
        for one in self.old.values():
            for depth in range(1, len(one.parts)):
                if one.parts[:depth] in gone:
                    olds[one.parts[:depth]].append(one)
        for other in self.new.values():
            for depth in range(1, len(other.parts)):
                if other.parts[:depth] in new:
                    by_rest[other.parts[depth:]].append(other.parts[:depth])
        counts = Counter(
            (folder, place)
            for folder, looks in olds.items()
            for one in looks
            if len(places := by_rest[one.parts[len(folder) :]]) <= MAX_CANDIDATES
            for place in places
        )
        rivals = Counter((side, folder, count) for pair, count in counts.items() for side, folder in enumerate(pair))
        done: set[Parts] = set()
        for (folder, place), count in counts.most_common():
            unclear = rivals[0, folder, count] > 1 or rivals[1, place, count] > 1
            if not done.isdisjoint((folder, place)) or count < MIN_NAMES or 2 * count < len(olds[folder]):
                continue
            done |= {folder, place}
            for one in olds[folder] if not unclear else ():
                path = "/".join((*place, *one.parts[len(folder) :]))
                if path in self.new and one.path in self.old:
                    self._take(one, self.new[path])

    def _alike(self, one: _Look, other: _Look, short_too: bool) -> bool:
        """Whether two files with the same name may be the same; `short_too` as for `by_tail`."""
        if one.short or other.short:
            return short_too or (one.key is not None and one.key == other.key)
        return self._likeness(one, other) >= self.least * SAME_NAME

    def _likeness(self, one: _Look, other: _Look) -> float:
        return shared([(one.lines, other.lines)])

    def _take(self, one: _Look, other: _Look) -> None:
        self.pairs[one.path] = other.path
        del self.old[one.path], self.new[other.path]

    def _take_best(self, scored: Iterable[tuple[tuple[float, ...], _Look, _Look]]) -> None:
        """Pair by the highest score first; a file with two best partners is left to the next step."""
        by_score: defaultdict[tuple[float, ...], list[tuple[_Look, _Look]]] = defaultdict(list)
        for score, one, other in scored:
            by_score[score].append((one, other))
        unclear: set[tuple[str, str]] = set()
        for _, pairs in sorted(by_score.items(), reverse=True):
            free = [(one, other) for one, other in pairs if one.path in self.old and other.path in self.new]
            sides = [{("old", one.path), ("new", other.path)} for one, other in free]
            partners = Counter(side for pair in sides for side in pair)
            for (one, other), pair in zip(free, sides, strict=True):
                if unclear.isdisjoint(pair) and all(partners[side] == 1 for side in pair):
                    self._take(one, other)
                else:
                    unclear |= pair

    def _groups(self, key: Callable[[_Look], object]) -> Iterator[tuple[list[_Look], list[_Look]]]:
        """Yield the old and the new files that share a key; None is not a key."""
        for olds, news in _grouped(self.old.values(), self.new.values(), key):
            yield from _split(olds, news, 1)


def _grouped(
    olds: Iterable[_Look], news: Iterable[_Look], key: Callable[[_Look], object]
) -> list[tuple[list[_Look], list[_Look]]]:
    groups: defaultdict[object, tuple[list[_Look], list[_Look]]] = defaultdict(lambda: ([], []))
    for side, looks in enumerate((olds, news)):
        for look in looks:
            found = key(look)
            if found is not None:
                groups[found][side].append(look)
    return [group for group in groups.values() if all(group)]


def _split(olds: list[_Look], news: list[_Look], depth: int) -> Iterator[tuple[list[_Look], list[_Look]]]:
    """Split a group by its top folders until it is small enough to compare all pairs."""
    if max(len(olds), len(news)) <= MAX_CANDIDATES:
        yield olds, news
    elif depth < max(len(look.parts) for look in olds):
        for some, others in _grouped(olds, news, lambda look: look.parts[:depth]):
            yield from _split(some, others, depth + 1)


def _look(path: str, content: bytes) -> _Look:
    text = content.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n")
    lines = Counter[bytes]() if is_binary(content) else line_counts(text)
    return _Look(path, tuple(path.split("/")), lines, sha256(text).digest() if text.strip() else None)


def _name(look: _Look) -> str:
    return look.parts[-1]


def _suffix(look: _Look) -> str:
    return PurePosixPath(look.path).suffix


def _closeness(one: _Look, other: _Look) -> tuple[float, ...]:
    """How much two paths have in common: (same name, number of last folders, number of first folders)."""
    folders, others = one.parts[:-1], other.parts[:-1]
    return one.parts[-1] == other.parts[-1], _common(folders[::-1], others[::-1]), _common(folders, others)


def _common(one: Parts, other: Parts) -> int:
    """The length of the common prefix."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _folders(tree: Iterable[str]) -> set[Parts]:
    """All folders that contain files, at any depth."""
    found: set[Parts] = set()
    for path in tree:
        parts = tuple(path.split("/"))
        found.update(parts[:depth] for depth in range(1, len(parts)))
    return found


def _votes(moves: Mapping[str, str]) -> dict[Parts, Counter[Parts]]:
    """Old folder -> count of each new folder: how many files below the one moved to the other."""
    votes: defaultdict[Parts, Counter[Parts]] = defaultdict(Counter)
    for old, new in moves.items():
        parts, places = tuple(old.split("/")), tuple(new.split("/"))
        for length in range(1, max(_common(parts[::-1], places[::-1]), 1) + 1):
            if parts[:-length] != places[:-length]:
                votes[parts[:-length]][places[:-length]] += 1
    return votes
