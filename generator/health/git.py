"""Check how git treats a project's state: whether it ignores it, or changes it in a clone. Git is only asked."""

import os
from collections.abc import Iterator
from pathlib import Path

from ..files.git import GitError, GitMissingError, run_git
from ..project.state import BASELINE_PATH, MANIFEST_PATH

TIMEOUT_SECONDS = 30

_STATE = (MANIFEST_PATH, BASELINE_PATH)
_OFF = {"unspecified", "unset"}


def examine_git(root: Path) -> list[str]:
    """Return a line for each rule of git that ignores the state or changes it in a clone; none without a repository."""
    if not any((folder / ".git").exists() for folder in [root.absolute(), *root.absolute().parents]):
        return []
    try:
        return [*_ignored(root), *_converted(root)]
    except GitMissingError:
        return []
    except GitError as error:
        return [f"git does not say how it treats `{BASELINE_PATH}`: {error.reason}"]


def _ignored(root: Path) -> Iterator[str]:
    answers = _fields(_ask(root, ["check-ignore", "-v", "-z", "--stdin"], "\0".join((*_STATE, "."))), 4)
    rules = {path: (source, line, rule) for source, line, rule, path in answers if not rule.startswith("!")}
    hidden = [path for path in _STATE if path in rules]
    if hidden and "." not in rules:  # if the whole project is ignored, no commit has it
        source, line, rule = rules[hidden[-1]]
        names = " and ".join(f"`{path}`" for path in hidden)
        yield (
            f"git ignores {names} because of `{rule}` in line {line} of `{source}`, so a clone could not be upgraded: run"
            " `git add --force .paccel`"
        )


def _converted(root: Path) -> Iterator[str]:
    asked = ("filter", "working-tree-encoding", "ident", "text", "eol")
    values: dict[str, dict[str, str]] = {path: {} for path in _STATE}
    for path, attribute, value in _fields(_ask(root, ["check-attr", "-z", *asked, "--", *_STATE], ""), 3):
        values[path][attribute] = value
    for path, found in values.items():
        harmful = [name for name in asked[:3] if found[name] not in _OFF]
        # Changed line ends do not matter in JSON, and `text=auto` recognizes a ZIP file as binary.
        if path == BASELINE_PATH and (
            found["text"] == "set" or (found["text"] not in {"unset", "auto"} and found["eol"] not in _OFF)
        ):
            harmful.append("text" if found["text"] == "set" else "eol")
        if harmful:
            name = harmful[0]
            yield (
                f"git changes `{path}` in a clone, which may damage it (attribute `{name}={found[name]}`): add the line"
                f" `{path} -text -filter -ident !working-tree-encoding` at the end of `.gitattributes`"
            )


def _ask(root: Path, command: list[str], typed: str) -> list[str]:
    try:
        answer = run_git(
            *command, folder=root, seconds=TIMEOUT_SECONDS, typed=os.fsencode(typed), GIT_OPTIONAL_LOCKS="0"
        )
    except GitError as error:
        if error.code != 1:  # 1: nothing is ignored
            raise
        answer = b""
    return os.fsdecode(answer).split("\0")[:-1]


def _fields(values: list[str], count: int) -> Iterator[tuple[str, ...]]:
    return zip(*[iter(values)] * count, strict=True)
