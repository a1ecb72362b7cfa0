"""Why a file changed: the new lines of the template's changelog."""

import re
from collections.abc import Iterable

from .metadata import Change


def changes_between(changes: Iterable[Change], old: str) -> dict[str, tuple[str, ...]]:
    """Return path -> changelog lines of the versions after `old`; the key "" has the lines about every file."""
    lines: dict[str, tuple[str, ...]] = {}
    for change in changes:
        if is_after(change.version, old):
            for path in change.files or ("",):
                lines[path] = (*lines.get(path, ()), f"{change.version}: {change.text}")
    return lines


def is_after(version: str, old: str) -> bool:
    """Whether `version` comes after `old`."""
    return _key(old) < _key(version)


def newest(changes: Iterable[Change]) -> str:
    """Return the newest version in the changelog; empty if there is none."""
    return max((change.version for change in changes), key=_key, default="")


def _key(version: str) -> tuple[list[tuple[int, str]], bool, list[tuple[int, str]]]:
    """Sort versions by their numbers; a version with a suffix, like 0.2.0rc1, comes before the one without."""
    found = re.match(r"[vV]?([0-9]+(?:\.[0-9]+)*)", version)
    numbers = _parts(found[1]) if found else []
    while numbers and not numbers[-1][1]:
        numbers.pop()
    suffix = version[found.end() :] if found else version
    return numbers, not suffix, _parts(suffix)


def _parts(text: str) -> list[tuple[int, str]]:
    """Split a version into sortable numbers and words. Numbers sort by length, then by digits: they may have any size."""
    parts = re.findall(r"[0-9]+|[^0-9.]+", text)
    return [(len(part.lstrip("0")), part.lstrip("0")) if part[0] in "0123456789" else (-1, part) for part in parts]
