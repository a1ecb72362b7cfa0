"""Secret answers: in the project's files, but nowhere in `.paccel`, which is committed.

Manifest and baseline have a stand-in for each secret answer. What an upgrade needs of the answer itself it reads from the
project's own files, where the stand-in of the baseline stands for it.
"""

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..files.tree import File, Tree

if TYPE_CHECKING:
    from .questions import Question

_MARK = "__paccel_secret_"
_STAND_IN = re.compile(_MARK + r"(\w+?)__")


def is_hidden(answer: object) -> bool:
    """Return whether an answer is the stand-in of a secret one."""
    return isinstance(answer, str) and _STAND_IN.fullmatch(answer) is not None


def hide(questions: "Iterable[Question]", answers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answers as they are stored: a stand-in for each secret one that is not empty."""
    secret = {question.name for question in questions if question.secret}
    return {name: _stand_in(name) if name in secret and answer else answer for name, answer in answers.items()}


def reveal(tree: Tree, secrets: Mapping[str, str]) -> dict[str, File]:
    """Put secret answers in the place of their stand-ins."""
    shown = dict(tree)
    for path, file in tree.items():
        content = file.content
        for name, secret in secrets.items():
            content = content.replace(_stand_in(name).encode(), secret.encode())
        shown[path] = File(content, file.executable)
    return shown


def paths_with_secrets(tree: Tree) -> list[str]:
    """Return the paths of the files that have a stand-in."""
    return [path for path, file in tree.items() if _MARK.encode() in file.content]


def recover(baseline: Tree, files: Tree) -> dict[str, str]:
    """Read the secret answers from a project's files.

    Args:
        baseline: The files as generated, with stand-ins.
        files: The user's files at the same paths.

    Returns:
        Question -> answer, of those of which only one can be meant.
    """
    found: dict[str, set[str]] = {}
    by_place: dict[str, set[str]] = {}
    for path in paths_with_secrets(baseline):
        if path not in files:
            continue
        before = baseline[path].content.decode(errors="surrogateescape").splitlines()
        after = files[path].content.decode(errors="surrogateescape").splitlines()
        for number, line in enumerate(before):
            names = _STAND_IN.findall(line)
            if not names:
                continue
            parts = _STAND_IN.split(line)[::2]
            # A line that is nothing but the secret has no other mark than its place.
            has_mark = any(part.strip() for part in parts)
            lines = after if has_mark else after[number : number + 1]
            groups = [f"(?P<{name}>.+)" if name not in names[:at] else f"(?P={name})" for at, name in enumerate(names)]
            shape = re.compile(
                "".join(re.escape(part) + group for part, group in zip(parts, [*groups, ""], strict=True))
            )
            for match in filter(None, map(shape.fullmatch, lines)):
                for name, secret in match.groupdict().items():
                    if not is_hidden(secret):
                        (found if has_mark else by_place).setdefault(name, set()).add(secret)
    found = by_place | found
    return {name: secrets.pop() for name, secrets in found.items() if len(secrets) == 1}


def _stand_in(name: str) -> str:
    return f"{_MARK}{name}__"
