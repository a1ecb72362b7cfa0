"""Secret answers: they are in the project's files, but nowhere in `.paccel`, which is committed.

Manifest and baseline hold a placeholder for each secret answer. An upgrade reads the answer itself from the project's
files, at the places where the baseline has the placeholder.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..files.tree import File, Tree
from .questions import Question

_MARK = "__paccel_secret_"
_PLACEHOLDER = re.compile(_MARK + r"(\w+?)__")


def is_hidden(answer: object) -> bool:
    """Return whether an answer is the placeholder of a secret."""
    return isinstance(answer, str) and _PLACEHOLDER.fullmatch(answer) is not None


def hide(questions: Iterable[Question], answers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answers to store: placeholders replace secrets that are not empty."""
    secret = {question.name for question in questions if question.secret}
    return {name: _placeholder(name) if name in secret and answer else answer for name, answer in answers.items()}


def reveal(tree: Tree, secrets: Mapping[str, str]) -> dict[str, File]:
    """Replace placeholders in files by the secrets."""
    shown: dict[str, File] = {}
    for path, file in tree.items():
        content = file.content
        for name, secret in secrets.items():
            content = content.replace(_placeholder(name).encode(), secret.encode())
        shown[path] = File(content, file.executable)
    return shown


def paths_with_secrets(tree: Tree) -> list[str]:
    """Return the paths of the files that contain a placeholder."""
    return [path for path, file in tree.items() if _MARK.encode() in file.content]


def recover(baseline: Tree, files: Tree) -> dict[str, str]:
    """Read the secret answers from a project's files.

    Args:
        baseline: The generated files, with placeholders.
        files: The user's files at the same paths.

    Returns:
        Question -> answer, where exactly one value matches.
    """
    by_text: dict[str, set[str]] = {}
    by_line: dict[str, set[str]] = {}
    for path in paths_with_secrets(baseline):
        if path not in files:
            continue
        before = baseline[path].content.decode(errors="surrogateescape").splitlines()
        after = files[path].content.decode(errors="surrogateescape").splitlines()
        for number, line in enumerate(before):
            names = _PLACEHOLDER.findall(line)
            if not names:
                continue
            parts = _PLACEHOLDER.split(line)[::2]
            # A line with text around the secret is found by this text, anywhere; others only by their line number.
            has_text = any(part.strip() for part in parts)
            lines = after if has_text else after[number : number + 1]
            groups = [f"(?P<{name}>.+)" if name not in names[:at] else f"(?P={name})" for at, name in enumerate(names)]
            shape = re.compile(
                "".join(re.escape(part) + group for part, group in zip(parts, [*groups, ""], strict=True))
            )
            for match in filter(None, map(shape.fullmatch, lines)):
                for name, secret in match.groupdict().items():
                    if not is_hidden(secret):
                        (by_text if has_text else by_line).setdefault(name, set()).add(secret)
    found = by_line | by_text
    return {name: secrets.pop() for name, secrets in found.items() if len(secrets) == 1}


def _placeholder(name: str) -> str:
    return f"{_MARK}{name}__"
