"""What a check finds at one place of a project, and which findings a merge has brought about."""

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

from ..files.tree import check_path

MAX_TEXT = 160


class Place(NamedTuple):
    """A line that has to do with a finding.

    Attributes:
        path: The file.
        line: Counted from 1, in the merged file; for a removed line, where it was.
        text: The line, without what is around it.
        side: Whose change it is.
        removed: Whether the line is there no longer.
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
    """Something that a tool says about a line.

    Attributes:
        path: The file.
        line: Counted from 1; 0 where it is about the whole file.
        tool: Which tool says so: "ty", "ruff" or "paccel".
        rule: The tool's name for what it looks for.
        message: What is wrong, in the tool's words.
        text: The line, without what is around it.
        names: What it is about: the names in it that may be defined or removed elsewhere, the likeliest first.
        cause: The other change that meets here, where one can be named.
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
            ValueError, KeyError, TypeError, TemplateError: It is something else.
        """
        tool, rule, message, text = (str(data[key]) for key in ("tool", "rule", "message", "text"))
        cause = Place.from_json(data["cause"]) if data.get("cause") else None
        return cls(check_path(data["path"]), int(data["line"]), tool, rule, message, text, cause=cause)


# What makes two findings the same: lines move, types in a message change with any edit, and files are renamed.
_KEYS: tuple[Callable[[Finding], Hashable], ...] = (
    lambda finding: (finding.path, finding.tool, finding.rule, _plain(finding.message)),
    lambda finding: (finding.path, finding.tool, finding.rule, finding.text or _plain(finding.message)),
    lambda finding: (finding.tool, finding.rule, _plain(finding.message), finding.text),
)


def new_findings(merged: Iterable[Finding], *before: Iterable[Finding]) -> list[Finding]:
    """The findings of a merged project that none of the projects before it has.

    What both had may be there twice: each brings its own.
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
    return re.sub(r"\b(lines?|columns?|cell) \d+(:\d+)*", r"\1", message)
