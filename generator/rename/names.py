"""A function, class or constant of a module that has another name, or is in another module, now."""

import ast
import re
from typing import NamedTuple

from ..catalog.api import ApiName
from .edits import (
    Blocked,
    Found,
    Unclear,
    declared_words,
    in_strings,
    is_free,
    modules_of,
    quoted_words,
    references,
    word_at,
)
from .modules import Module, Project
from .scopes import Binding, Scope

_Span = tuple[int, int, str]


class _Step(NamedTuple):
    """One name of one module: the first is the one that is declared, others are modules that import it."""

    module: str
    old: str
    new: str
    new_module: str

    @property
    def moved(self) -> bool:
        return self.module != self.new_module


def rename_name(project: Project, old: ApiName, new: ApiName) -> dict[str, Found]:
    """Find the edits that a renamed function, class or constant needs, by file.

    Imports and their uses follow, and modules that import the name from one that imports it. Where the new name is taken in
    a file, `from model import new as old` leaves the rest as it is.

    Raises:
        Blocked: The user's own module defines something else under the new name.
    """
    found: dict[str, Found] = {}
    waiting = [_Step(old.module, old.name, new.name, new.module)]
    done: set[_Step] = set()
    while waiting:
        step = waiting.pop()
        if step in done:
            continue
        done.add(step)
        for module in modules_of(project, [step.old]):
            one = _Renamer(project, module, step)
            edits = one.edits()
            known = found.setdefault(module.path, Found([], []))
            known.edits.extend(edits)
            known.unclear.extend(one.unclear.unclear)
            if step.module == old.module:
                known.unclear.extend(in_strings(module, old))
            if one.passes_on:
                waiting.append(_Step(module.name, step.old, step.new, module.name))
    return {path: one for path, one in found.items() if one.edits or one.unclear}


class _Renamer:
    def __init__(self, project: Project, module: Module, step: _Step) -> None:
        self.project, self.module, self.step = project, module, step
        self.source = module.source
        self.unclear = Found([], [])
        self.passes_on = False

    def edits(self) -> list[_Span]:
        return [*self._definition(), *self._imports(), *self._attributes(), *self._starred()]

    def _definition(self) -> list[_Span]:
        """The name where it is defined, and its uses in that file."""
        old, new, scope = self.step.old, self.step.new, self.source.scope
        bindings = scope.names.get(old, [])
        if self.module.name != self.step.module or not bindings or old == new:
            return []
        if any(isinstance(binding.node, ast.alias) for binding in bindings):
            return []  # it comes from elsewhere; `_imports` sees to it
        places = references(self.source, old, scope)
        if not is_free(self.source, new, scope, [place for _, place in places]):
            raise Blocked(f"`{new}` is something else in `{self.module.path}`")
        for node, _ in places:
            if not [*word_at(self.source, node, old)]:
                self._leave(node, f"`{old}` is now `{new}`")
        spans = self._words(scope, bindings, places)
        return [*spans, *self._exported()]

    def _words(self, scope: Scope, bindings: list[Binding], places: list[tuple[ast.Name, Scope]]) -> list[_Span]:
        nodes = [node for node, _ in places] + [
            binding.node for binding in bindings if not isinstance(binding.node, ast.alias)
        ]
        spans = [span for node in nodes for span in word_at(self.source, node, self.step.old)]
        spans += declared_words(self.source, self.step.old, scope)
        spans += quoted_words(self.source, self.step.old, scope)
        return [(start, end, self.step.new) for start, end in spans]

    def _exported(self) -> list[_Span]:
        """The name in `__all__`."""
        spans: list[_Span] = []
        for node in self.source.tree.body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            if not any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
                continue
            for text in ast.walk(node):
                if isinstance(text, ast.Constant) and text.value == self.step.old:
                    start, end = self.source.start(text), self.source.end(text)
                    if self.source.text[start:end] in (f'"{self.step.old}"', f"'{self.step.old}'"):
                        spans.append((start + 1, end - 1, self.step.new))
        return spans

    def _imports(self) -> list[_Span]:
        """`from module import name`, with the uses of that name."""
        spans: list[_Span] = []
        scopes = {*self.source.scopes.values()}
        for scope in scopes:
            for name, bindings in scope.names.items():
                mine = [binding for binding in bindings if self._is_import(binding)]
                if mine:
                    spans += self._import(scope, name, bindings, mine)
        return spans

    def _is_import(self, binding: Binding) -> bool:
        node, statement = binding
        return (
            isinstance(node, ast.alias)
            and isinstance(statement, ast.ImportFrom)
            and node.name == self.step.old
            and self.project.imported(self.module, statement) == self.step.module
        )

    def _import(self, scope: Scope, name: str, bindings: list[Binding], mine: list[Binding]) -> list[_Span]:
        old, new = self.step.old, self.step.new
        renames = name == old != new and len(mine) == len(bindings)
        places = references(self.source, name, scope)
        # `import name as name` says that the module offers it under that name.
        renames = renames and all(isinstance(one.node, ast.alias) and one.node.asname is None for one in mine)
        renames = renames and is_free(self.source, new, scope, [place for _, place in places])
        # Inside an f-string, Python 3.11 does not always know where a name stands.
        renames = renames and all([*word_at(self.source, node, name)] for node, _ in places)
        spans: list[_Span] = []
        for node, statement in mine:
            assert isinstance(node, ast.alias)
            assert isinstance(statement, ast.ImportFrom)
            asname = node.asname or ("" if renames or old == new else old)
            if self.step.moved:
                moved = self._moved(statement, node, asname)
                if not moved:
                    return []
                spans += moved
                continue
            start = self.source.start(node)
            text = new if node.asname or renames else f"{new} as {old}"
            spans.append((start, start + len(old), text))
        if renames:
            spans += self._words(scope, [], places)
            if scope is self.source.scope:
                spans += self._exported()
                self.passes_on = True
        return spans

    def _moved(self, statement: ast.ImportFrom, node: ast.alias, asname: str) -> list[_Span]:
        """The import of a name that is in another module now, as a statement of its own."""
        start, end = self.source.start(statement), self.source.end(statement)
        text = self.source.text[start:end]
        added = f"from {self.step.new_module} import {self.step.new}" + (f" as {asname}" if asname else "")
        if len(statement.names) == 1 and "#" not in text and statement.names[0] is node:
            return [(start, end, added)]
        before = self.source.text[self.source.starts[statement.lineno - 1] : start]
        if before.strip() or "#" in text:
            self._leave(statement, f"`{self.step.old}` is now in `{self.step.new_module}`")
            return []
        rest = [f"{one.name} as {one.asname}" if one.asname else one.name for one in statement.names if one is not node]
        kept = f"from {'.' * statement.level}{statement.module or ''} import {', '.join(rest)}"
        ends = re.compile(r"\r\n|\r|\n").search(self.source.text)
        return [(start, end, f"{kept}{ends[0] if ends else chr(10)}{before}{added}")]

    def _attributes(self) -> list[_Span]:
        """`module.name`, whatever the module is called here."""
        wanted = f"{self.step.module}.{self.step.old}"
        spans: list[_Span] = []
        for node in ast.walk(self.source.tree):
            if not isinstance(node, ast.Attribute) or node.attr != self.step.old:
                continue
            if self.project.path_of(self.module, node) != wanted:
                continue
            if self.step.moved:
                self._leave(node, f"`{wanted}` is now `{self.step.new_module}.{self.step.new}`")
            else:
                spans += [(*span, self.step.new) for span in word_at(self.source, node, self.step.old)]
        return spans

    def _starred(self) -> list[_Span]:
        """The name where `from module import *` brings it."""
        stars = [
            node
            for node in self.source.tree.body
            if isinstance(node, ast.ImportFrom)
            and node.names[0].name == "*"
            and self.project.imported(self.module, node) == self.step.module
        ]
        if not stars or self.step.old == self.step.new:
            return []
        old, new = self.step.old, self.step.new
        places = [(node, place) for node, place in self.source.places if node.id == old and place.owner(old) is None]
        if self.step.moved or not all(place.owner(new) is None for _, place in places):
            for node, _ in places:
                self._leave(node, f"`{old}` is now `{self.step.new_module}.{new}`")
            return []
        self.passes_on = True
        return [(*span, new) for node, _ in places for span in word_at(self.source, node, old)]

    def _leave(self, node: ast.AST, reason: str) -> None:
        self.unclear.unclear.append(Unclear(self.module.path, node.lineno, reason))  # type: ignore[attr-defined]
