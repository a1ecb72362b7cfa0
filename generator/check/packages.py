"""The packages that a project requires, and pins of one package that contradict each other."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..files.tree import PROJECT_FILE, Tree
from ..merge.text import decode
from .finding import Finding, finding_with
from .parsed import read_toml, read_yaml, strings, table

if TYPE_CHECKING:
    from packaging.requirements import Requirement
    from packaging.version import Version


class _Pin(NamedTuple):
    """A requirement, and where it is declared."""

    requirement: "Requirement"
    path: str
    text: str


def check_pins(tree: Tree, project: Mapping[str, Any]) -> Iterator[Finding]:
    """Pairs of requirements that are installed together but that no version meets."""
    groups = [group for group in _installed_together(tree, project) if len(group) > 1]
    if not groups:
        return
    from packaging.utils import canonicalize_name

    reported = set()
    for group in groups:
        by_name: dict[str, list[_Pin]] = {}
        for pin in group:
            by_name.setdefault(canonicalize_name(pin.requirement.name), []).append(pin)
        for name, pins in by_name.items():
            for place, pin in enumerate(pins):
                for other in pins[:place]:
                    pair = (name, other.path, other.text, pin.path, pin.text)
                    if (
                        pair not in reported
                        and _both_apply(pin, other)
                        and _is_empty([pin.requirement, other.requirement])
                    ):
                        reported.add(pair)
                        where = "" if other.path == pin.path else f" of `{other.path}`"
                        message = f"no version of `{name}` is both `{pin.text}` and `{other.text}`{where}"
                        yield finding_with(pin.path, tree[pin.path], pin.text, "contradicting-pins", message, name)


def required_packages(tree: Tree) -> frozenset[str]:
    """The packages that a project requires, including its extras."""
    from packaging.utils import canonicalize_name

    pins = [pin for group in _installed_together(tree, read_toml(tree)) for pin in group]
    return frozenset(canonicalize_name(pin.requirement.name) for pin in pins)


def transitive_packages(tree: Tree) -> frozenset[str]:
    """The packages that a project requires and their own dependencies, as far as they are installed beside paccel."""
    from importlib import metadata  # slow to import, and only needed here

    from packaging.utils import canonicalize_name

    pins = [pin.requirement for group in _installed_together(tree, read_toml(tree)) for pin in group]
    waiting = [(pin.name, extra) for pin in pins for extra in ("", *pin.extras)]
    done: set[tuple[str, str]] = set()
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) not in done:
            done.add((name, extra))
            try:
                requirements = metadata.requires(name) or ()
            except (metadata.PackageNotFoundError, ValueError):
                continue  # not installed beside paccel
            waiting += [one for text in requirements for one in _required(text, extra)]
    return frozenset(canonicalize_name(name) for name, _ in done)


def _required(text: str, extra: str) -> list[tuple[str, str]]:
    """A dependency of a package, as (name, "") and (name, extra) for each extra; empty if it belongs to another extra.

    By patterns: there are hundreds, and parsing them takes a second. Markers other than extras are ignored.
    """
    found = re.match(r"\s*([\w.-]+)\s*(?:\[([^]]*)\])?", text)
    condition = re.search(r"""\bextra\s*==\s*["']([^"']+)""", text)
    if found is None or (condition is not None and condition[1] != extra):
        return []
    return [(found[1], ""), *((found[1], one.strip()) for one in (found[2] or "").split(",") if one.strip())]


def extras(tree: Tree) -> frozenset[str]:
    """The extras of a project."""
    return frozenset(table(read_toml(tree), "project", "optional-dependencies"))


def _installed_together(tree: Tree, project: Mapping[str, Any]) -> list[list[_Pin]]:
    """The requirements of each extra, dependency group and file, together with those that always apply."""
    always = _read(strings(table(project, "project").get("dependencies")), PROJECT_FILE)
    groups = [always]
    for key in ("project", "optional-dependencies"), ("dependency-groups",):
        groups += [[*always, *_read(strings(some), PROJECT_FILE)] for some in table(project, *key).values()]
    for path in sorted(tree):
        if path.endswith(".txt"):
            lines = decode(tree[path].content).lines
            groups.append([*(always if "/" not in path else ()), *_read(lines, path)])
        elif path in {"environment.yml", "environment.yaml"}:
            data = read_yaml(tree[path].content)
            listed = data.get("dependencies") if isinstance(data, dict) else []
            inner = [item.get("pip") for item in listed or [] if isinstance(item, dict)]
            groups.append(_read([*strings(listed), *(text for some in inner for text in strings(some))], path))
    return groups


def _read(texts: Sequence[str], path: str) -> list[_Pin]:
    if not texts:
        return []
    from packaging.requirements import InvalidRequirement, Requirement  # slow to import, and only needed here

    found = []
    for text in texts:
        # Strip pip's comments and options; conda's pins with a single `=` are not requirements.
        bare = re.split(r"(?:^|\s)(?:#|--)", text, maxsplit=1)[0].rstrip("\\ ").strip()
        try:
            found.append(_Pin(Requirement(bare), path, bare))
        except InvalidRequirement:
            continue
    return found


def _both_apply(one: _Pin, other: _Pin) -> bool:
    """Whether both certainly apply somewhere: they have the same marker, or only one has a marker."""
    markers = {str(pin.requirement.marker) for pin in (one, other) if pin.requirement.marker}
    return len(markers) <= 1 and not (one.requirement.url or other.requirement.url)


def _is_empty(requirements: Iterable["Requirement"]) -> bool:
    """Whether no version meets all; tries every version that they name, and its neighbours."""
    from packaging.version import InvalidVersion, Version

    specifiers = [specifier for requirement in requirements for specifier in requirement.specifier]
    tried: set[Version] = {Version("0")}
    for specifier in specifiers:
        if specifier.operator == "===":
            return False
        try:
            tried |= _near(Version(specifier.version.removesuffix(".*")))
        except InvalidVersion:
            return False
    return not any(all(one.contains(version, prereleases=True) for one in specifiers) for version in tried)


def _near(version: "Version") -> "set[Version]":
    """A version, and its neighbours: each part incremented or decremented."""
    from packaging.version import Version

    parts = [*version.release, 0, 0, 0]
    nexts = [[*parts[:place], parts[place] + 1] for place in range(len(parts))]
    before = [[*parts[:place], parts[place] - 1, 999999] for place in range(len(parts)) if parts[place]]
    return {version, *(Version(f"{version.epoch}!" + ".".join(map(str, some))) for some in (*nexts, *before))}
