"""What is wrong in a template, where, and how to say that it is meant."""

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from ..catalog.metadata import METADATA_FILE

RULES = {
    "jinja-syntax": "a file, path or default that Jinja cannot parse",
    "undefined-name": "a name that nothing defines",
    "not-jinja": "text that looks like Jinja, and is not, or that Jinja would take for its own",
    "unused-question": "a question whose answer changes nothing",
    "dead-branch": "a branch that no choice reaches",
    "render-error": "answers with which the template cannot be rendered",
    "invalid-output": "answers with which a file is not valid Python, JSON, TOML or YAML",
    "not-black": "a file that black changes, in a project that uses black",
    "drawn": "output that is random or from the clock",
    "unstable": "output that differs from one render to the next",
    "no-since": "a rename, rewrite or changed meaning without `since`",
    "undeclared-move": "a renamed file without `[[moved]]`",
    "removed-question": "a removed question without `[[renamed_answers]]` or `[[dropped_answers]]`",
    "removed-choice": "a removed choice without `values` in `[[renamed_answers]]`",
    "changed-default": "another default in generated code, without `[[changed_meaning]]`",
    "changed-unit": "another unit in documentation, without `[[changed_meaning]]`",
}
"""Rule -> what it finds, in the order in which they are explained."""

_IGNORE = re.compile(r"paccel:\s*ignore\[([\w, -]+)\][ \t]*([^\s#]*)")


class Finding(NamedTuple):
    """One mistake.

    Attributes:
        rule: One of `RULES`.
        path: The file, from the template's folder.
        line: The line in it, from 1; 0 where there is none.
        text: What is wrong and what to do, in one sentence.
        subject: What it is about, if not a place: a question.
    """

    rule: str
    path: str
    line: int
    text: str
    subject: str = ""

    @property
    def silence(self) -> str:
        """What to write, and where, if it is meant."""
        if self.line and not self.path.endswith((".json", METADATA_FILE)) and not self.subject:
            return f"put `paccel: ignore[{self.rule}]` into a comment in this line or the one above"
        return f"put `# paccel: ignore[{self.rule}] {self.subject or self.path}` into `{METADATA_FILE}`"

    def to_json(self) -> dict[str, Any]:
        return {**self._asdict(), "silence": self.silence}


def without_silenced(findings: Iterable[Finding], texts: Mapping[str, str]) -> list[Finding]:
    """Return the findings that no comment silences, by file and line, each once.

    Args:
        findings: In any order.
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
