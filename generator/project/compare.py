"""Compare two trees file by file, as a unified diff that people and `patch` read."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ..files.tree import File, Tree

Status = Literal["added", "deleted", "modified", "mode"]


@dataclass(frozen=True)
class FileDiff:
    """How one file differs; `text` is its unified diff."""

    path: str
    status: Status
    text: str


def compare(old: Tree, new: Tree) -> list[FileDiff]:
    """Return how `new` differs from `old`, in path order."""
    return [
        FileDiff(path, _status(old.get(path), new.get(path)), _diff(path, old.get(path), new.get(path)))
        for path in sorted(old.keys() | new.keys())
        if old.get(path) != new.get(path)
    ]


def _status(old: File | None, new: File | None) -> Status:
    if old is None:
        return "added"
    if new is None:
        return "deleted"
    return "modified" if old.content != new.content else "mode"


def _diff(path: str, old: File | None, new: File | None) -> str:
    lines = [f"diff --git a/{path} b/{path}\n"]
    if old is not None and new is not None and old.executable != new.executable:
        lines += [f"old mode {_mode(old)}\n", f"new mode {_mode(new)}\n"]
    if old is None and new is not None:
        lines.append(f"new file mode {_mode(new)}\n")
    if new is None and old is not None:
        lines.append(f"deleted file mode {_mode(old)}\n")
    before, after = _lines(old), _lines(new)
    if before is None or after is None:
        lines.append(f"Binary files a/{path} and b/{path} differ\n")
    elif before != after:
        names = ("/dev/null" if old is None else f"a/{path}", "/dev/null" if new is None else f"b/{path}")
        lines += _with_newlines(difflib.unified_diff(before, after, *names))
    return "".join(lines)


def _mode(file: File) -> str:
    return "100755" if file.executable else "100644"


def _lines(file: File | None) -> list[str] | None:
    """Return the lines with their ends, or None for a binary file; only `\\n` ends a line, as in git."""
    content = file.content if file else b""
    if b"\0" in content:
        return None
    try:
        parts = content.decode().split("\n")
    except UnicodeDecodeError:
        return None
    return [part + "\n" for part in parts[:-1]] + parts[-1:] * bool(parts[-1])


def _with_newlines(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
