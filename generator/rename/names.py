"""A function, class or constant of a module that was renamed, or moved to another module."""

import ast
import re
from typing import NamedTuple

from ..catalog.api import ApiName
from .edits import Blocked, Finder, Found, Span, in_strings, modules_of
from .modules import Module, Project
from .scopes import Binding, Scope
from .words import is_free, references, word_at, words_of


class _Step(NamedTuple):
    """A rename in one module: the first is the declared one, others are of modules that import the name."""

    module: str
    old: str
    new: str
    new_module: str

    @property
    def moved(self) -> bool:
        return self.module != self.new_module


def rename_name(project: Project, old: ApiName, new: ApiName) -> dict[str, Found]:
    """Find the edits that a renamed function, class or constant needs, by file.

    This follows imports, their uses, and modules that import the name and so offer it to others. If the new name is taken
    in a file, the import becomes `from model import new as old`, and the rest of the file does not change.

    Raises:
        Blocked: The module itself uses the new name for something else.
    """
    found: dict[str, Found] = {}
    waiting = [_Step(old.module, old.name, new.name, new.module)]
    done: set[_Step] = set()
    while waiting:
        step = waiting.pop()
        if step in done:
            continue
        done.add(step)
        for module in modules_of(project, step.old):
            finder = _NameFinder(project, module, step)
            finder.find()
            known = found.setdefault(module.path, Found([], []))
            known.edits.extend(finder.found.edits)
            known.unclear.extend(finder.found.unclear)
            if step.module == old.module:
                known.unclear.extend(in_strings(module, old))
            if finder.exports:
                waiting.append(_Step(module.name, step.old, step.new, module.name))
    return {path: one for path, one in found.items() if one.edits or one.unclear}


class _NameFinder(Finder):
    """Finds definitions, imports and uses.

    Attributes:
        exports: Whether other modules can import the name, which is renamed here, from this module.
    """

    def __init__(self, project: Project, module: Module, step: _Step) -> None:
        super().__init__(project, module)
        self.step = step
        self.exports = False

    def find(self) -> None:
        self._definition()
        for scope in {*self.source.scopes.values()}:
            for name, bindings in scope.names.items():
                imports = [binding for binding in bindings if self._is_import(binding)]
                if imports:
                    self.found.edits.extend(self._imports(scope, name, bindings, imports))
        self._attributes()
        self._starred()

    def _definition(self) -> None:
        """Rename the name where it is defined, with its uses in that module."""
        old, new, scope = self.step.old, self.step.new, self.source.scope
        bindings = scope.names.get(old, [])
        if self.module.name != self.step.module or not bindings or old == new:
            return
        if any(isinstance(binding.node, ast.alias) for binding in bindings):
            return  # the module imports it from elsewhere, see `_imports`
        if not self.rename_binding(scope, old, new):
            raise Blocked(f"`{new}` is something else in `{self.module.path}`")
        self.found.edits.extend(self._exported())

    def _exported(self) -> list[Span]:
        """The name in `__all__`."""
        spans: list[Span] = []
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

    def _is_import(self, binding: Binding) -> bool:
        node, statement = binding
        return (
            isinstance(node, ast.alias)
            and isinstance(statement, ast.ImportFrom)
            and node.name == self.step.old
            and self.project.imported(self.module, statement) == self.step.module
        )

    def _imports(self, scope: Scope, name: str, bindings: list[Binding], imports: list[Binding]) -> list[Span]:
        """The edits of `from module import name` in a scope, and of the uses of that name."""
        old, new = self.step.old, self.step.new
        renames = (
            name == old != new
            and len(imports) == len(bindings)
            # `import name as name` means that the module offers it under that name.
            and all(isinstance(one.node, ast.alias) and one.node.asname is None for one in imports)
            and is_free(self.source, old, new, scope)
            # Python 3.11 does not always know the position of a name in an f-string.
            and all([*word_at(self.source, node, name)] for node, _ in references(self.source, name, scope))
        )
        spans: list[Span] = []
        for node, statement in imports:
            assert isinstance(node, ast.alias)
            assert isinstance(statement, ast.ImportFrom)
            if self.step.moved:
                moved = self._moved(statement, node, node.asname or ("" if renames or old == new else old))
                if not moved:
                    return []
                spans += moved
                continue
            start = self.source.start(node)
            spans.append((start, start + len(old), new if node.asname or renames else f"{new} as {old}"))
        if renames:
            spans += [(*span, new) for span in words_of(self.source, old, scope)]
            if scope is self.source.scope:
                spans += self._exported()
                self.exports = True
        return spans

    def _moved(self, statement: ast.ImportFrom, node: ast.alias, asname: str) -> list[Span]:
        """The edit that imports a name from its new module; empty if the import is left to the user."""
        start, end = self.source.start(statement), self.source.end(statement)
        text = self.source.text[start:end]
        added = f"from {self.step.new_module} import {self.step.new}" + (f" as {asname}" if asname else "")
        if len(statement.names) == 1 and "#" not in text:
            return [(start, end, added)]
        before = self.source.text[self.source.starts[statement.lineno - 1] : start]
        if before.strip() or "#" in text:
            self.leave(statement, f"`{self.step.old}` is now in `{self.step.new_module}`")
            return []
        rest = [f"{one.name} as {one.asname}" if one.asname else one.name for one in statement.names if one is not node]
        kept = f"from {'.' * statement.level}{statement.module or ''} import {', '.join(rest)}"
        newline = re.search(r"\r\n|\r|\n", self.source.text)
        return [(start, end, f"{kept}{newline[0] if newline else chr(10)}{before}{added}")]

    def _attributes(self) -> None:
        """Rename in `module.name`, whatever the module is called here."""
        wanted = f"{self.step.module}.{self.step.old}"
        for node in ast.walk(self.source.tree):
            if not isinstance(node, ast.Attribute) or node.attr != self.step.old:
                continue
            if self.project.path_of(self.module, node) != wanted:
                continue
            if self.step.moved:
                self.leave(node, f"`{wanted}` is now `{self.step.new_module}.{self.step.new}`")
            else:
                self.replace(node, self.step.old, self.step.new)

    def _starred(self) -> None:
        """Rename where the name comes from `from module import *`."""
        old, new = self.step.old, self.step.new
        is_starred = any(
            isinstance(node, ast.ImportFrom)
            and node.names[0].name == "*"
            and self.project.imported(self.module, node) == self.step.module
            for node in self.source.tree.body
        )
        if not is_starred or old == new:
            return
        places = [(node, place) for node, place in self.source.places if node.id == old and place.owner(old) is None]
        if self.step.moved or not all(place.owner(new) is None for _, place in places):
            for node, _ in places:
                self.leave(node, f"`{old}` is now `{self.step.new_module}.{new}`")
            return
        self.exports = True
        for node, _ in places:
            self.replace(node, old, new)
