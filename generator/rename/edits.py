"""Edits of single words in Python files, and the places that are left to the user; all other bytes of a file stay."""

import ast
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from ..catalog.api import ApiName
from ..files.tree import File
from .modules import Module, Project
from .scopes import Scope
from .words import is_free, references, word_at, words_of

Span = tuple[int, int, str]
"""(start, end, new text) of an edit, as offsets in a module's text."""


class Edit(NamedTuple):
    """One replaced word or import.

    Attributes:
        path: The file.
        line: The line before the edit, from 1.
        old: The old text.
        new: The new text.
    """

    path: str
    line: int
    old: str
    new: str

    def to_json(self) -> dict[str, Any]:
        return self._asdict()


class Unclear(NamedTuple):
    """A place that may need an edit, and is left to the user.

    Attributes:
        path: The file.
        line: The line, from 1.
        reason: Why nothing was changed.
    """

    path: str
    line: int
    reason: str

    def to_json(self) -> dict[str, Any]:
        return self._asdict()


class Found(NamedTuple):
    """The edits of a rename in one file, and the places that are left to the user."""

    edits: list[Span]
    unclear: list[Unclear]


class Blocked(Exception):
    """Raised when a rename cannot be made anywhere in a project; the message says why."""


class Finder(ABC):
    """Finds the edits of one rename in one module."""

    def __init__(self, project: Project, module: Module) -> None:
        self.project, self.module, self.source = project, module, module.source
        self.found = Found([], [])

    @abstractmethod
    def find(self) -> None:
        """Fill `found`."""

    def replace(self, node: ast.AST, old: str, new: str) -> None:
        """Replace the name that a node binds or uses."""
        self.found.edits.extend((*span, new) for span in word_at(self.source, node, old))

    def rename_binding(self, scope: Scope, old: str, new: str) -> bool:
        """Rename what a scope binds, and all its uses in the module.

        Returns:
            False, without edits, if the new name is not free, or an import binds the old one.
        """
        imported = any(isinstance(binding.node, ast.alias) for binding in scope.names[old])
        if imported or not is_free(self.source, old, new, scope):
            return False
        for node, _ in references(self.source, old, scope):
            if not [*word_at(self.source, node, old)]:
                self.leave(node, f"`{old}` is now `{new}`")
        self.found.edits.extend((*span, new) for span in words_of(self.source, old, scope))
        return True

    def rename_keyword(self, call: ast.Call, old: str, new: str) -> None:
        """Rename a keyword argument of a call, unless the call has the new one too."""
        if not any(keyword.arg == new for keyword in call.keywords):
            for keyword in call.keywords:
                if keyword.arg == old:
                    self.replace(keyword, old, new)

    def leave(self, node: ast.AST, reason: str) -> None:
        """Leave a place to the user."""
        self.found.unclear.append(Unclear(self.module.path, node.lineno, reason))  # type: ignore[attr-defined]


def run_finders(finders: Iterable[Finder]) -> dict[str, Found]:
    """Return path -> what each finder found, without files in which there is nothing."""
    found: dict[str, Found] = {}
    for finder in finders:
        finder.find()
        if finder.found.edits or finder.found.unclear:
            found[finder.module.path] = finder.found
    return found


def applied(module: Module, edits: Iterable[Span]) -> tuple[str, list[Edit]]:
    """Return a module's text after all edits, and the edits."""
    text, source = module.source.text, module.source
    done: list[Edit] = []
    for start, end, new in sorted({*edits}, reverse=True):
        done.append(Edit(module.path, source.line_of(start), text[start:end], new))
        text = text[:start] + new + text[end:]
    return text, done[::-1]


def mentions(files: Mapping[str, File], word: str) -> list[str]:
    """The paths of the Python files and stubs that contain a word."""
    return [path for path, file in files.items() if path.endswith((".py", ".pyi")) and word.encode() in file.content]


def modules_of(project: Project, word: str) -> Iterator[Module]:
    """Yield the modules whose text contains a word."""
    for path in mentions(project.files, word):
        found = project.module(path)
        if found is not None:
            yield found


def in_strings(module: Module, name: ApiName) -> Iterator[Unclear]:
    """Yield the strings that seem to be the dotted path of a name: they are not changed."""
    spellings = {name.path, f"{name.module}:{name.path[len(name.module) + 1 :]}"}
    for node in ast.walk(module.source.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in spellings:
            yield Unclear(module.path, node.lineno, f"`{node.value}` is named in a string, which is left as it is")
