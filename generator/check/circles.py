"""Circular imports: a module asks for a name that the other does not have yet.

No tool finds these, as every import resolves. So the top level of each module is followed in the order Python runs it.
"""

import ast
from collections.abc import Iterator
from functools import lru_cache
from pathlib import PurePosixPath
from typing import NamedTuple

from ..files.tree import File, Tree
from ..merge.languages import parse_python
from ..merge.text import decode
from .blame import Trees
from .finding import Finding, finding_at, new_findings

_MAX_MODULES = 1_000
"""Each module that no other imports is run: the time is quadratic."""


class _Event(NamedTuple):
    """What a statement at the top level of a module does: it imports names from `source`, or only binds names."""

    line: int
    names: tuple[str, ...]
    source: str = ""
    level: int = 0


def new_circles(trees: Trees) -> list[Finding]:
    """Imports that fail because of a circle in the merged project, and in neither side."""
    changed = any(trees.merged.get(path) not in (trees.ours.get(path), None) for path in trees.theirs)
    merged = _circles(trees.merged) if changed else []
    return new_findings(merged, _circles(trees.ours), _circles(trees.theirs)) if merged else []


def _circles(tree: Tree) -> list[Finding]:
    modules = {_name(path): path for path in tree if path.endswith(".py")}
    if len(modules) > _MAX_MODULES:
        return []
    found = {}
    reached: set[str] = set()
    imported = {path for own in modules.values() for path in _Start(tree, modules).imports(own)}
    # First the modules that no other imports: these are run. Then circles that none of them reaches.
    for path in sorted(modules.values(), key=lambda path: path in imported):
        if path not in imported or path not in reached:
            start = _Start(tree, modules)
            for failed in start.run(path):
                found[failed.path, failed.line] = failed
            reached |= start.bound.keys()
    return [found[key] for key in sorted(found)]


def _name(path: str) -> str:
    parts = PurePosixPath(path).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


class _Start:
    """A run of Python that starts with one module."""

    def __init__(self, tree: Tree, modules: dict[str, str]) -> None:
        self.tree, self.modules = tree, modules
        self.bound: dict[str, set[str]] = {}
        self.running: list[str] = []

    def run(self, path: str) -> Iterator[Finding]:
        """Import a module, and yield each import that fails."""
        if path in self.bound or len(self.running) > 100:
            return
        self.bound[path] = set()
        self.running.append(path)
        for event in _events(self.tree[path]):
            if event.source or event.level:
                yield from self._import(path, event)
            self.bound[path] |= {*event.names}
        self.running.pop()

    def imports(self, path: str) -> set[str]:
        """The files of the project that a module imports."""
        found = {self.modules.get(name) for event in _events(self.tree[path]) for name in self._sources(path, event)}
        return {other for other in found if other is not None and other != path}

    def _sources(self, path: str, event: _Event) -> list[str]:
        """The modules that an import loads: the one that it names, and the submodules that it imports from it."""
        if not (event.source or event.level):
            return []
        package = PurePosixPath(path).with_suffix("").parts
        above = ".".join(package[: len(package) - event.level]) if event.level else ""
        source = ".".join(part for part in (above, event.source) if part)
        return [source, *(f"{source}.{name}" for name in event.names if f"{source}.{name}" in self.modules)]

    def _import(self, path: str, event: _Event) -> Iterator[Finding]:
        source, *submodules = self._sources(path, event)
        other = self.modules.get(source)
        for name in (source, *submodules):
            if self.modules.get(name, path) != path:
                yield from self.run(self.modules[name])
        if other is None or other == path or other not in self.running:
            return
        for name in event.names:
            missing = name not in self.bound[other] and f"{source}.{name}" not in submodules
            if missing and self._binds(other, name):
                message = (
                    f"`{source}` has no `{name}` yet when this imports it: `{other}` is imported first, and imports"
                    " this file"
                )
                stem = PurePosixPath(path).stem
                yield finding_at(path, self.tree[path], event.line, "circular-import", message, name, source, stem)

    def _binds(self, path: str, name: str) -> bool:
        """Whether a module ever binds a name; if not, the tools report the import."""
        return any(name in event.names for event in _events(self.tree[path]))


@lru_cache(maxsize=1024)
def _events(file: File) -> tuple[_Event, ...]:
    module = parse_python("\n".join(decode(file.content).lines))
    return tuple(_of_block(module.body)) if module else ()


def _of_block(body: list[ast.stmt]) -> Iterator[_Event]:
    for node in body:
        if isinstance(node, ast.ImportFrom):
            # With an alias, the name itself is asked for, and the alias is bound.
            yield _Event(node.lineno, tuple(a.name for a in node.names), node.module or "", node.level)
            yield _Event(node.lineno, tuple(a.asname for a in node.names if a.asname))
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield _Event(node.lineno, (), alias.name)
                yield _Event(node.lineno, (alias.asname or alias.name.partition(".")[0],))
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield _Event(node.lineno, (node.name,))
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from _of_block(node.orelse)
        elif isinstance(node, ast.If) and "__main__" in ast.unparse(node.test):
            continue
        elif isinstance(node, ast.Try):
            for part in (*node.body, *node.orelse, *node.finalbody):  # a failing import is caught
                yield from (event._replace(source="", level=0) for event in _of_block([part]))
        elif isinstance(node, (ast.If, ast.With, ast.For, ast.While)):
            yield from _of_block([*node.body, *getattr(node, "orelse", [])])
        else:
            names = [n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
            yield _Event(node.lineno, tuple(names))
