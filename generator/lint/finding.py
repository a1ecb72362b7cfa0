"""Mistakes in a template, and the comments that silence them."""

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from ..catalog.metadata import METADATA_FILE

RULES = {
    "jinja-syntax": "a file, path or default that Jinja cannot parse",
    "undefined-name": "a name that nothing defines",
    "not-jinja": "text that looks like Jinja but is not rendered, or that Jinja renders by mistake",
    "unused-question": "a question whose answer changes nothing",
    "dead-branch": "a branch that no choice reaches",
    "render-error": "answers for which the template cannot be rendered",
    "invalid-output": "answers for which a file is not valid Python, JSON, TOML or YAML",
    "not-black": "a file that black changes, in a project that uses black",
    "drawn": "output that is random or depends on the time",
    "unstable": "output that differs from one render to the next",
    "no-since": "a rename, rewrite or changed meaning without `since`",
    "undeclared-move": "a renamed file without `[[moved]]`",
    "removed-question": "a removed question without `[[renamed_answers]]` or `[[dropped_answers]]`",
    "removed-choice": "a removed choice without `values` in `[[renamed_answers]]`",
    "changed-default": "a changed default in generated code, without `[[changed_meaning]]`",
    "changed-unit": "a changed unit in documentation, without `[[changed_meaning]]`",
}
"""Rule -> what it finds."""

_IGNORE = re.compile(r"paccel:\s*ignore\[([\w, -]+)\][ \t]*([^\s#]*)")


class Finding(NamedTuple):
    """One mistake.

    Attributes:
        rule: One of `RULES`.
        path: The file, relative to the template's folder.
        line: The line, from 1; 0 if there is none.
        text: What is wrong and what to do, in one sentence.
        subject: The question or name that it is about; empty if it is about a line.
    """

    rule: str
    path: str
    line: int
    text: str
    subject: str = ""

    @property
    def silence(self) -> str:
        """How to silence the finding if it is intended."""
        if self.line and not self.path.endswith((".json", METADATA_FILE)) and not self.subject:
            return f"put `paccel: ignore[{self.rule}]` into a comment on this line or the one above"
        return f"put `# paccel: ignore[{self.rule}] {self.subject or self.path}` into `{METADATA_FILE}`"

    def to_json(self) -> dict[str, Any]:
        return {**self._asdict(), "silence": self.silence}


def without_silenced(findings: Iterable[Finding], texts: Mapping[str, str]) -> list[Finding]:
    """Return the findings that no comment silences, without duplicates, sorted by file and line.

    Args:
        findings: The findings.
        texts: Path -> text of the template's files.
    """
    everywhere = [
        (rules.split(","), pattern)
        for line in texts.get(METADATA_FILE, "").splitlines()
        if line.lstrip().startswith("#")
        for rules, pattern in _IGNORE.findall(line)
    ]

    def silenced(finding: Finding) -> bool:
        lines = texts.get(finding.path, "").splitlines()
        near = "\n".join(lines[max(finding.line - 2, 0) : finding.line]) if finding.line else ""
        named = [rules.split(",") for rules, _ in _IGNORE.findall(near)]
        named += [
            rules
            for rules, pattern in everywhere
            if not pattern
            or pattern == finding.subject
            or fnmatchcase(finding.path, pattern)
            or finding.path == pattern
        ]
        return any(finding.rule in (rule.strip() for rule in rules) for rules in named)

    return sorted(
        {finding for finding in findings if not silenced(finding)}, key=lambda one: (one.path, one.line, one.rule)
    )
