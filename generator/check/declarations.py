"""Contradictions in what a project declares: pins that no version meets, missing jobs and services, dead scripts."""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from ..files.tree import PROJECT_FILE, Tree
from ..merge.text import decode
from .finding import Finding, finding_with
from .packages import check_pins
from .parsed import read_toml, read_yaml, strings, table


def check_declarations(tree: Tree) -> list[Finding]:
    """Every contradiction that is certain; files that do not parse are ignored."""
    project = read_toml(tree)
    return [*check_pins(tree, project), *_jobs(tree), *_services(tree), *_scripts(tree, project)]


# --- jobs ------------------------------------------------------------------------------------------------------------


def _jobs(tree: Tree) -> Iterator[Finding]:
    """Jobs that need a job which their workflow does not have."""
    for path in sorted(tree):
        if path.startswith(".github/workflows/"):
            jobs = table(read_yaml(tree[path].content), "jobs")
        elif path == ".gitlab-ci.yml":
            data = read_yaml(tree[path].content)
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
                    yield finding_with(path, tree[path], line, "missing-job", message, needed, str(job))


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
        if _COMPOSE.fullmatch(place.name) and isinstance(data := read_yaml(tree[path].content), dict):
            folders.setdefault(place.parent, {})[path] = data
    for files in folders.values():
        if any("include" in data for data in files.values()):
            continue
        known = {name for data in files.values() for name in table(data, "services")}
        for path, data in files.items():
            for service, about in table(data, "services").items():
                needs = about.get("depends_on") if isinstance(about, dict) else None
                if isinstance(needs, dict):
                    needs = [name for name, how in needs.items() if table(how).get("required", True)]
                for needed in strings(needs):
                    if needed not in known:
                        message = f"the service `{service}` depends on the service `{needed}`, which does not exist"
                        line = _line_of_need(decode(tree[path].content).lines, str(service), needed)
                        yield finding_with(path, tree[path], line, "missing-service", message, needed, str(service))


# --- scripts ---------------------------------------------------------------------------------------------------------


def _scripts(tree: Tree, project: Mapping[str, Any]) -> Iterator[Finding]:
    """Scripts and entry points that name a module or a function which the project does not have."""
    about = table(project, "project")
    groups = [about.get("scripts"), about.get("gui-scripts"), *table(about, "entry-points").values()]
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
            yield finding_with(PROJECT_FILE, tree[PROJECT_FILE], target, "dead-script", message, last)


def _module(tree: Tree, project: Mapping[str, Any], module: str) -> str | None:
    """The file of a module, for a package its `__init__.py`; None if there is none."""
    setuptools = table(project, "tool", "setuptools")
    roots = {"", "src", *strings(table(setuptools, "packages", "find").get("where"))}
    relative = module.replace(".", "/")
    names = {f"{root.strip('./')}/{relative}".lstrip("/") for root in roots}
    for package, folder in table(setuptools, "package-dir").items():
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
