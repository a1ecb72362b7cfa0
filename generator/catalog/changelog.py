"""Why a file changed: the new lines of the template's changelog."""

import re
from collections.abc import Iterable

from .metadata import Change


def changes_between(changes: Iterable[Change], old: str) -> dict[str, tuple[str, ...]]:
    """Path -> changelog lines of the versions after `old`; "" for lines about every file."""
    lines: dict[str, tuple[str, ...]] = {}
    for change in changes:
        if _key(old) < _key(change.version):
            for path in change.files or ("",):
                lines[path] = (*lines.get(path, ()), f"{change.version}: {change.text}")
    return lines


def newest(changes: Iterable[Change]) -> str:
    """Return the newest version in the changelog; empty if there is none."""
    return max((change.version for change in changes), key=_key, default="")


def _key(version: str) -> tuple[tuple[int, ...], bool, str]:
    """Order versions by their numbers; a version with a suffix, like 0.2.0rc1, comes before the one without."""
    found = re.match(r"v?(\d+(?:\.\d+)*)", version)
    numbers = tuple(int(part) for part in found[1].split(".")) if found else ()
    while numbers and numbers[-1] == 0:
        numbers = numbers[:-1]
    suffix = version[found.end() :] if found else version
    return numbers, not suffix, suffix
