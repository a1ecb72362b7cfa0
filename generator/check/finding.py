"""Findings of a check, each at one line of a project, and which of them a merge has caused."""

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

from ..files.tree import File, check_path
from ..merge.text import decode

MAX_TEXT = 160


class Place(NamedTuple):
    """A line that explains a finding.

    Attributes:
        path: The file.
        line: Counted from 1, in the merged file; for a removed line, where it was.
        text: The line, stripped.
        side: Who changed it.
        removed: Whether the change removed it.
    """

    path: str
    line: int
    text: str
    side: Literal["you", "template"]
    removed: bool = False

    def to_json(self) -> dict[str, Any]:
        return self._asdict()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Place":
        side: Literal["you", "template"] = "you" if data["side"] == "you" else "template"
        text = str(data["text"])[:MAX_TEXT]
        return cls(check_path(data["path"]), int(data["line"]), text, side, bool(data["removed"]))


class Finding(NamedTuple):
    """What a tool reports about a line.

    Attributes:
        path: The file.
        line: Counted from 1; 0 for the whole file.
        tool: "ty", "ruff" or "paccel".
        rule: The tool's name of the rule.
        message: The tool's message.
        text: The line, stripped.
        names: Names in it that may be defined or removed elsewhere, the most likely cause first.
        cause: The change of the other side that causes it, if known.
    """

    path: str
    line: int
    tool: str
    rule: str
    message: str
    text: str = ""
    names: tuple[str, ...] = ()
    cause: Place | None = None

    def __str__(self) -> str:
        return f"`{self.path}`{f' line {self.line}' if self.line else ''}: {self.message} ({self.tool}: {self.rule})"

    def to_json(self) -> dict[str, Any]:
        data = {key: value for key, value in self._asdict().items() if key != "names"}
        return data | {"cause": self.cause and self.cause.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Finding":
        """Read what `to_json` returns.

        Raises:
            ValueError, KeyError, TypeError, TemplateError: It is not a finding.
        """
        tool, rule, message, text = (str(data[key]) for key in ("tool", "rule", "message", "text"))
        cause = Place.from_json(data["cause"]) if data.get("cause") else None
        return cls(check_path(data["path"]), int(data["line"]), tool, rule, message, text, cause=cause)


def finding_at(path: str, file: File, line: int, rule: str, message: str, *names: str) -> Finding:
    """A finding of paccel's own at a line of a file."""
    lines = decode(file.content).lines
    text = lines[line - 1].strip()[:MAX_TEXT] if 0 < line <= len(lines) else ""
    return Finding(path, line, "paccel", rule, message, text, names)


def finding_with(path: str, file: File, text: str, rule: str, message: str, *names: str) -> Finding:
    """A finding of paccel's own at the first line that contains `text`."""
    lines = decode(file.content).lines
    number = next((number for number, line in enumerate(lines, 1) if text in line), 0)
    return finding_at(path, file, number, rule, message, *names)


# Two findings are the same if they agree in one of these: lines move, an edit changes the types in a message, and files
# are renamed.
_KEYS: tuple[Callable[[Finding], Hashable], ...] = (
    lambda finding: (finding.path, finding.tool, finding.rule, _plain(finding.message)),
    lambda finding: (finding.path, finding.tool, finding.rule, finding.text or _plain(finding.message)),
    lambda finding: (finding.tool, finding.rule, _plain(finding.message), finding.text),
)


def new_findings(merged: Iterable[Finding], *before: Iterable[Finding]) -> list[Finding]:
    """The findings of a merged project that none of the projects before has.

    If both sides have a finding, the merged project may have it twice.
    """
    known = [Counter(key(finding) for findings in before for finding in findings) for key in _KEYS]
    found = []
    for finding in sorted(merged):
        keys = [key(finding) for key in _KEYS]
        if not any(counts[key] > 0 for counts, key in zip(known, keys, strict=True)):
            found.append(finding)
        for counts, key in zip(known, keys, strict=True):
            counts[key] -= 1
    return found


def _plain(message: str) -> str:
    """The message without line numbers."""
    return re.sub(r"\b(lines?|columns?|cell) \d+(:\d+)*", r"\1", message)
