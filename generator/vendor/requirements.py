"""Replace `paccel[runtime]` by the runtime's requirements, wherever a project lists or installs packages."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

_REQUIREMENT = r"paccel[ \t]*\[[ \t\w,.-]*\bruntime\b[ \t\w,.-]*\]"
_FLAGS = re.ASCII | re.IGNORECASE
_QUOTED = re.compile(rf"(?P<quote>\\?[\"'])(?P<text>{_REQUIREMENT}(?:(?!(?P=quote))[^\n])*)(?P=quote)", _FLAGS)
_ARGUMENT = re.compile(rf"(?<![\w\"'.-])(?P<text>{_REQUIREMENT}[\w.,<>=!~]*)", _FLAGS)
_LINE = re.compile(rf"(?m)^(?P<before>[ \t]*(?:-[ \t]+)?)(?P<text>{_REQUIREMENT}[^\n#\\\r]*)", _FLAGS)
_ITEM = re.compile(r"[ \t]*-[ \t]+")
_ALONE = re.compile(r"[ \t#-]*")  # the text before a requirement on a line of its own
_INSTALLS = re.compile(r"\b(install|add)\b")


def replace_requirement(text: str, needed: Mapping[str, str]) -> str:
    """Replace `paccel[runtime]` in lists of TOML, YAML and Python, requirements files and commands.

    Args:
        text: The text of a file.
        needed: Name -> requirement, from `runtime_requirements`. One that a list in a TOML file has already, with at least
            that bound, is not added to it.
    """
    listed = list(_lists(text)) if "paccel" in text.lower() else []

    def several(found: re.Match[str], quote: str) -> str:
        start = text.rfind("\n", 0, found.start()) + 1
        before = text[start : found.start()]
        wanted = _wanted(found["text"], needed, listed)
        quoted = [f"{quote}{one}{quote}" for one in wanted]
        if _INSTALLS.search(before) or _is_continued(text, start):
            return " ".join(quoted)
        if _ITEM.fullmatch(before):
            return f"\n{before}".join(quoted)
        return (f",\n{before}" if _ALONE.fullmatch(before) else ", ").join(quoted)

    def lines(found: re.Match[str]) -> str:
        before, own = found["before"], found["text"]
        wanted = _wanted(own, needed, [])
        behind = own[len(own.rstrip()) :]  # the space before a comment
        if _is_continued(text, found.start()):
            return before + " ".join(f"'{one}'" for one in wanted) + behind
        if text[found.end() : found.end() + 1] == "\\":  # an option of paccel follows, such as a hash
            return found[0]
        return f"\n{before}".join(["", *wanted])[1:] + behind

    def argument(found: re.Match[str]) -> str:
        start = text.rfind("\n", 0, found.start()) + 1
        is_command = _INSTALLS.search(text[start : found.start()]) or _is_continued(text, start)
        return several(found, "'") if is_command else found[0]

    text = _QUOTED.sub(lambda found: several(found, found["quote"]), text)
    text = _LINE.sub(lines, text)
    return _ARGUMENT.sub(argument, text)


def _is_continued(text: str, start: int) -> bool:
    """Whether a line continues the command of the line above it."""
    return text[:start].rstrip("\r\n").endswith("\\")


def _wanted(requirement: str, needed: Mapping[str, str], listed: list[list[str]]) -> list[str]:
    """Return the replacement of one requirement, with its marker, and without those that its list has already."""
    marker = requirement.partition(";")[2].strip()
    beside = next((names for names in listed if requirement in names), [])
    found = [one for name, one in needed.items() if not any(_covers(other, name, one) for other in beside)]
    return [f"{one}; {marker}" if marker else one for one in found or needed.values()]


def _covers(listed: str, name: str, needed: str) -> bool:
    """Whether a requirement in a list is at least as strict as the one that is needed."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name
    from packaging.version import Version

    try:
        one, other = Requirement(listed), Requirement(needed)
    except InvalidRequirement:
        return False
    if canonicalize_name(one.name) != name or one.marker is not None:
        return False
    least = [Version(spec.version) for spec in other.specifier if spec.operator == ">="]
    own = [Version(spec.version) for spec in one.specifier if spec.operator in {">=", "=="} and "*" not in spec.version]
    return not least or bool(own and max(own) >= max(least))


def _lists(text: str) -> Iterator[list[str]]:
    """Yield the lists of strings in a TOML file, at any depth; none if it is not TOML."""
    try:
        waiting: list[Any] = [tomllib.loads(text.replace("\r\n", "\n"))]
    except (ValueError, RecursionError):
        return
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
            yield [item for item in value if isinstance(item, str)]
