"""Replace `paccel[runtime]` by what the runtime needs, wherever a project lists or installs packages."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

_REQUIREMENT = r"paccel[ \t]*\[[ \t\w,.-]*\bruntime\b[ \t\w,.-]*\]"
_QUOTED = re.compile(rf"(?P<quote>\\?[\"'])(?P<text>{_REQUIREMENT}(?:(?!(?P=quote))[^\n])*)(?P=quote)", re.ASCII)
_ARGUMENT = re.compile(rf"(?<![\w\"'.-])(?P<text>{_REQUIREMENT}[\w.,<>=!~]*)", re.ASCII)
_LINE = re.compile(rf"(?m)^(?P<before>[ \t]*(?:-[ \t]+)?)(?P<text>{_REQUIREMENT}[^\n#\\\r]*)", re.ASCII)
_ALONE = re.compile(r"[ \t#-]*")  # what may be before a requirement that has a line for itself
_INSTALLS = re.compile(r"\b(install|add)\b")


def replace_requirement(text: str, needed: Mapping[str, str]) -> str:
    """Return a text with `paccel[runtime]` replaced: in lists of TOML, YAML and Python, requirements files, commands.

    Args:
        text: A whole file.
        needed: Name -> requirement, see `runtime_requirements`. Those that the same list of a TOML file has with at least
            that bound are left out.
    """
    listed = list(_lists(text)) if "paccel" in text else []

    def several(found: re.Match[str], quote: str) -> str:
        start = text.rfind("\n", 0, found.start()) + 1
        before = text[start : found.start()]
        wanted = _wanted(found["text"], needed, listed)
        quoted = [f"{quote}{one}{quote}" for one in wanted]
        if _INSTALLS.search(before):
            return " ".join(quoted)
        return (f",\n{before}" if _ALONE.fullmatch(before) else ", ").join(quoted)

    text = _QUOTED.sub(lambda found: several(found, found["quote"]), text)
    text = _LINE.sub(lambda found: "\n".join(found["before"] + one for one in _wanted(found["text"], needed, [])), text)
    return _ARGUMENT.sub(
        lambda found: (
            several(found, "'")
            if _INSTALLS.search(text[text.rfind("\n", 0, found.start()) + 1 : found.start()])
            else found[0]
        ),
        text,
    )


def _wanted(requirement: str, needed: Mapping[str, str], listed: list[list[str]]) -> list[str]:
    """What replaces one requirement: its marker is kept, what its list has already is left out."""
    marker = requirement.partition(";")[2].strip()
    beside = next((names for names in listed if requirement in names), [])
    found = [one for name, one in needed.items() if not any(_covers(other, name, one) for other in beside)]
    return [f"{one}; {marker}" if marker else one for one in found or needed.values()]


def _covers(listed: str, name: str, needed: str) -> bool:
    """Whether a requirement in a list asks for at least what is needed."""
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
    """The lists of texts in a TOML file, at any depth; none in what is not TOML."""
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
