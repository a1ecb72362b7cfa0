"""Contradictions in what a project declares: pins that no version meets, jobs and services that need a missing one, scripts
without a target.
"""

import ast
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from ..files.tree import PROJECT_FILE, Tree
from ..merge.text import decode
from .finding import Finding, finding_at

if TYPE_CHECKING:
    from packaging.requirements import Requirement
    from packaging.version import Version


def check_declarations(tree: Tree) -> list[Finding]:
    """Every contradiction that is certain; files that do not parse are ignored."""
    project = _toml(tree)
    return [*_pins(tree, project), *_jobs(tree), *_services(tree), *_scripts(tree, project)]


def _toml(tree: Tree) -> dict[str, Any]:
    try:
        return tomllib.loads(tree[PROJECT_FILE].content.decode("utf-8-sig")) if PROJECT_FILE in tree else {}
    except (ValueError, RecursionError):
        return {}


def _yaml(content: bytes) -> Any:
    import yaml  # a dependency of cookiecutter; slow to import, and few projects need it here

    try:
        return yaml.load(content, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError, RecursionError):
        return None


def _table(data: Any, *keys: str) -> dict[str, Any]:
    """A table in parsed data; empty if it is missing or not a table."""
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data if isinstance(data, dict) else {}


def _strings(data: Any) -> list[str]:
    return [item for item in data if isinstance(item, str)] if isinstance(data, list) else []


def _finding(tree: Tree, path: str, rule: str, message: str, *names: str, line: str = "") -> Finding:
    """A finding at the first line that contains `line`, or else the first name."""
    lines = decode(tree[path].content).lines
    wanted = line or names[0]
    number = next((number for number, text in enumerate(lines, 1) if wanted in text), 0)
    return finding_at(path, tree[path], number, rule, message, *names)


# --- pins ------------------------------------------------------------------------------------------------------------


class _Pin(NamedTuple):
    """A requirement, and where it is declared."""

    requirement: "Requirement"
    path: str
    text: str


def _pins(tree: Tree, project: Mapping[str, Any]) -> Iterator[Finding]:
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
                        yield _finding(tree, pin.path, "contradicting-pins", message, name, line=pin.text)


def required_packages(tree: Tree) -> frozenset[str]:
    """The packages that a project requires, including its extras."""
    from packaging.utils import canonicalize_name

    pins = [pin for group in _installed_together(tree, _toml(tree)) for pin in group]
    return frozenset(canonicalize_name(pin.requirement.name) for pin in pins)


def transitive_packages(tree: Tree) -> frozenset[str]:
    """The packages that a project requires and their own dependencies, as far as they are installed beside paccel."""
    from importlib import metadata  # slow to import, and only needed here

    from packaging.utils import canonicalize_name

    pins = [pin.requirement for group in _installed_together(tree, _toml(tree)) for pin in group]
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
    return frozenset(_table(_toml(tree), "project", "optional-dependencies"))


def _installed_together(tree: Tree, project: Mapping[str, Any]) -> list[list[_Pin]]:
    """The requirements of each extra, dependency group and file, together with those that always apply."""
    always = _read(_strings(_table(project, "project").get("dependencies")), PROJECT_FILE)
    groups = [always]
    for key in ("project", "optional-dependencies"), ("dependency-groups",):
        groups += [[*always, *_read(_strings(some), PROJECT_FILE)] for some in _table(project, *key).values()]
    for path in sorted(tree):
        if path.endswith(".txt"):
            lines = decode(tree[path].content).lines
            groups.append([*(always if "/" not in path else ()), *_read(lines, path)])
        elif path in {"environment.yml", "environment.yaml"}:
            data = _yaml(tree[path].content)
            listed = data.get("dependencies") if isinstance(data, dict) else []
            inner = [item.get("pip") for item in listed or [] if isinstance(item, dict)]
            groups.append(_read([*_strings(listed), *(text for some in inner for text in _strings(some))], path))
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


# --- jobs ------------------------------------------------------------------------------------------------------------


def _jobs(tree: Tree) -> Iterator[Finding]:
    """Jobs that need a job which their workflow does not have."""
    for path in sorted(tree):
        if path.startswith(".github/workflows/"):
            jobs = _table(_yaml(tree[path].content), "jobs")
        elif path == ".gitlab-ci.yml":
            data = _yaml(tree[path].content)
            jobs = {} if not isinstance(data, dict) or "include" in data else data
        else:
            continue
        for job, about in jobs.items():
            needs = about.get("needs") if isinstance(about, dict) else None
            for item in [needs] if isinstance(needs, str) else needs if isinstance(needs, list) else []:
                needed = item if isinstance(item, str) else None
                if isinstance(item, dict) and not {"project", "pipeline", "optional"} & item.keys():
                    needed = item.get("job")
                if isinstance(needed, str) and needed not in jobs:
                    message = f"the job `{job}` needs the job `{needed}`, which the workflow does not have"
                    line = _line_of_need(decode(tree[path].content).lines, str(job), needed)
                    yield _finding(tree, path, "missing-job", message, needed, str(job), line=line)


def _line_of_need(lines: Iterable[str], job: str, needed: str) -> str:
    """The first line below the job's name that names the job it needs."""
    inside = False
    for line in lines:
        inside = inside or line.strip().split("#")[0].strip() in {f"{job}:", f'"{job}":', f"'{job}':"}
        if inside and re.search(rf"(?<![\w-]){re.escape(needed)}(?![\w-])", line):
            return line
    return needed


# --- services --------------------------------------------------------------------------------------------------------

_COMPOSE = re.compile(r"(?:docker-)?compose(?:\.[\w-]+)*\.ya?ml")


def _services(tree: Tree) -> Iterator[Finding]:
    """Services that depend on a service which no Compose file in their folder has."""
    folders: dict[PurePosixPath, dict[str, dict[str, Any]]] = {}
    for path in sorted(tree):
        place = PurePosixPath(path)
        if _COMPOSE.fullmatch(place.name) and isinstance(data := _yaml(tree[path].content), dict):
            folders.setdefault(place.parent, {})[path] = data
    for files in folders.values():
        if any("include" in data for data in files.values()):
            continue
        known = {name for data in files.values() for name in _table(data, "services")}
        for path, data in files.items():
            for service, about in _table(data, "services").items():
                needs = about.get("depends_on") if isinstance(about, dict) else None
                if isinstance(needs, dict):
                    needs = [name for name, how in needs.items() if _table(how).get("required", True)]
                for needed in _strings(needs):
                    if needed not in known:
                        message = f"the service `{service}` depends on the service `{needed}`, which does not exist"
                        line = _line_of_need(decode(tree[path].content).lines, str(service), needed)
                        yield _finding(tree, path, "missing-service", message, needed, str(service), line=line)


# --- scripts ---------------------------------------------------------------------------------------------------------


def _scripts(tree: Tree, project: Mapping[str, Any]) -> Iterator[Finding]:
    """Scripts and entry points that name a module or a function which the project does not have."""
    about = _table(project, "project")
    groups = [about.get("scripts"), about.get("gui-scripts"), *_table(about, "entry-points").values()]
    for name, target in (item for group in groups if isinstance(group, dict) for item in group.items()):
        if not isinstance(target, str):
            continue
        module, _, attribute = (part.strip() for part in target.partition("[")[0].partition(":"))
        message = ""
        path = _module(tree, project, module)
        if path is None:
            message = f"`{name}` starts `{target}`, but the project has no module `{module}`"
        elif attribute and not _binds(tree[path].content, attribute.partition(".")[0]):
            message = f"`{name}` starts `{target}`, but `{path}` has no `{attribute}`"
        if message:
            last = attribute.partition(".")[0] or module.rpartition(".")[2]
            yield _finding(tree, PROJECT_FILE, "dead-script", message, last, line=target)


def _module(tree: Tree, project: Mapping[str, Any], module: str) -> str | None:
    """The file of a module, for a package its `__init__.py`; None if there is none."""
    setuptools = _table(project, "tool", "setuptools")
    roots = {"", "src", *_strings(_table(setuptools, "packages", "find").get("where"))}
    relative = module.replace(".", "/")
    names = {f"{root.strip('./')}/{relative}".lstrip("/") for root in roots}
    for package, folder in _table(setuptools, "package-dir").items():
        if package == "":
            names.add(f"{str(folder).strip('./')}/{relative}".lstrip("/"))
        elif module == package or module.startswith(f"{package}."):
            names.add(str(folder).strip("./") + module.removeprefix(package).replace(".", "/"))
    for name in sorted(names):
        for path in (f"{name}.py", f"{name}/__init__.py"):
            if path in tree:
                return path
    return None


def _binds(content: bytes, name: str) -> bool:
    """Whether a module may bind a name; True if it does not parse, or has `__getattr__` or `import *`."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError):
        return True
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and node.name in {
            name,
            "__getattr__",
        }:
            return True
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id == name:
            return True
        if isinstance(node, ast.alias) and {name, "*"} & {node.asname, node.name, node.name.partition(".")[0]}:
            return True
    return False
