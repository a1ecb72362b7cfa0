"""Compare two trees file by file, as a unified diff for people and `patch`, and tell the user's edits from other changes.

A checkout may change line ends (git's `core.autocrlf`), an editor may add a byte order mark, and a disk may not keep modes
(exFAT, network shares, Windows drives in WSL). These are not edits.
"""

import codecs
import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ..files.tree import File, Tree
from ..merge.text import decode, encode, is_binary

Status = Literal["added", "deleted", "modified", "mode"]


@dataclass(frozen=True)
class FileDiff:
    """How one file differs; `text` is its unified diff."""

    path: str
    status: Status
    text: str


def as_generated(generated: File, here: File, modes: bool = True) -> File:
    """Return `here` with the line ends and byte order mark of `generated`. Line ends edited in single lines are kept.

    Args:
        generated: The file as it was rendered.
        here: The user's file.
        modes: Whether the disk keeps modes, see `modes_tell`. If not, the mode is that of `generated` too.
    """
    executable = here.executable if modes else generated.executable
    if here.content == generated.content or is_binary(here.content) or is_binary(generated.content):
        return File(here.content, executable)
    wanted, text = decode(generated.content), decode(here.content)
    ends = set(text.crlf[: len(text.crlf) - (not text.final_newline)])
    if (text.lines, text.final_newline) == (wanted.lines, wanted.final_newline) and len(ends) <= 1:
        text = text._replace(crlf=wanted.crlf)
    elif text.mostly_crlf != wanted.mostly_crlf:
        text = text._replace(crlf=(wanted.mostly_crlf,) * len(text.lines))
    return File(encode(text._replace(bom=wanted.bom)), executable)


def same(generated: File, here: File, modes: bool = True) -> bool:
    """Whether the user's file is unedited; for the arguments, see `as_generated`."""
    return as_generated(generated, here, modes) == generated


def modes_tell(base: Tree, here: Tree) -> bool:
    """Whether the modes of the user's files are reliable.

    A disk that does not keep modes shows all files as executable, or none: False if all modes are equal, but several
    should differ.
    """
    pairs = [(file.executable, here[path].executable) for path, file in base.items() if path in here]
    wrong = sum(wanted != found for wanted, found in pairs)
    return wrong < 2 or len({found for _, found in pairs}) > 1


def spellings(content: bytes) -> Iterator[bytes]:
    """Yield a file's possible contents before a checkout or an editor changed its line ends and byte order mark."""
    yield content
    if not is_binary(content):
        plain = content.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n")
        for text in (plain, plain.replace(b"\n", b"\r\n")):
            yield text
            yield codecs.BOM_UTF8 + text


def edits(base: Tree, here: Tree, modes: bool = True) -> list[FileDiff]:
    """Return the user's edits, in path order.

    Args:
        base: The files as they were rendered.
        here: The user's files. A missing file counts as deleted.
        modes: Whether the disk keeps modes, see `modes_tell`.
    """
    return compare(base, {path: as_generated(base[path], file, modes) for path, file in here.items()})


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
    """Return the lines with their ends, or None for a binary file. As in git, only `\\n` ends a line."""
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
