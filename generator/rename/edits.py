"""Edits of single words in Python files, each with where it is; everything else in a file keeps its bytes."""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from ..catalog.api import ApiName
from ..files.tree import File
from .modules import Module, Project
from .scopes import Scope, Source


class Edit(NamedTuple):
    """One word, or one import, that is replaced.

    Attributes:
        path: The file.
        line: The line in it, from 1, before the edit.
        old: What stands there.
        new: What replaces it.
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
        line: The line in it, from 1.
        reason: Why nothing was done.
    """

    path: str
    line: int
    reason: str

    def to_json(self) -> dict[str, Any]:
        return self._asdict()


class Found(NamedTuple):
    """What a rename finds in a file: (start, end, new text) of each edit, and places that are left to the user."""

    edits: list[tuple[int, int, str]]
    unclear: list[Unclear]


class Blocked(Exception):
    """Raised where a rename cannot be made in a project at all; says why."""


def word_at(source: Source, node: ast.AST, word: str) -> Iterator[tuple[int, int]]:
    """Yield where in the text the name stands that a node binds or uses; nothing where it is not plainly there."""
    if isinstance(node, ast.Attribute):
        start = source.end(node) - len(word)
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        head = re.compile(r"(?:async[ \t]+)?(?:def|class)[ \t]+").match(source.text, source.start(node))
        start = head.end() if head is not None else -1
    else:
        start = source.start(node)
    if start >= 0 and source.text[start : start + len(word)] == word:
        yield start, start + len(word)


def declared_words(source: Source, name: str, owner: Scope) -> Iterator[tuple[int, int]]:
    """Yield where `global` and `nonlocal` statements name a variable of `owner`."""
    for node, scope in source.declared:
        if name in node.names and scope.outside.get(name) is owner:
            first = source.start(node)
            for found in re.finditer(rf"\b{re.escape(name)}\b", source.text[first : source.end(node)]):
                yield first + found.start(), first + found.end()


def quoted_words(source: Source, name: str, owner: Scope) -> Iterator[tuple[int, int]]:
    """Yield where annotations that are strings name what `owner` binds."""
    for node, scope in source.quoted:
        start, end = source.start(node), source.end(node)
        text = source.text[start:end]
        if scope.owner(name) is owner and text[:1] in {"'", '"'} and "\\" not in text:
            for found in re.finditer(rf"(?<![\w.]){re.escape(name)}\b", text):
                yield start + found.start(), start + found.end()


def references(source: Source, name: str, owner: Scope) -> list[tuple[ast.Name, Scope]]:
    """The places where `name` stands for what `owner` binds."""
    return [(node, scope) for node, scope in source.places if node.id == name and scope.owner(name) is owner]


def is_free(source: Source, new: str, owner: Scope, places: Iterable[Scope]) -> bool:
    """Whether `owner` could bind `new`: nothing binds it there, reads it there, or hides it at one of `places`."""
    if new in owner.names or new in owner.outside:
        return False
    for scope in places:
        for one in scope.chain():
            if one is owner:
                break
            if new in one.names or new in one.outside:
                return False
    # A name of that spelling which now comes from further out would mean the new one.
    outer = {None, *list(owner.chain())[1:]}
    return not any(
        node.id == new and owner in scope.chain() and scope.owner(new) in outer for node, scope in source.places
    )


def applied(module: Module, edits: Iterable[tuple[int, int, str]]) -> tuple[str, list[Edit]]:
    """Return the text with all edits made, and what they were."""
    text, source = module.source.text, module.source
    done: list[Edit] = []
    for start, end, new in sorted({*edits}, reverse=True):
        done.append(Edit(module.path, source.line_of(start), text[start:end], new))
        text = text[:start] + new + text[end:]
    return text, done[::-1]


def mentions(files: Mapping[str, File], words: Iterable[str]) -> list[str]:
    """The Python files and stubs in which all of `words` stand."""
    wanted = [word.encode() for word in words]
    return [
        path
        for path, file in files.items()
        if path.endswith((".py", ".pyi")) and all(w in file.content for w in wanted)
    ]


def in_strings(module: Module, name: ApiName) -> Iterator[Unclear]:
    """Yield strings that seem to name something by its dotted path: they stay as they are."""
    spelled = {name.path, f"{name.module}:{name.path[len(name.module) + 1 :]}"}
    for node in ast.walk(module.source.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in spelled:
            yield Unclear(module.path, node.lineno, f"`{node.value}` is named in a string, which is left as it is")


def modules_of(project: Project, words: Iterable[str]) -> Iterator[Module]:
    """Read the files in which all of `words` stand."""
    for path in mentions(project.files, words):
        found = project.module(path)
        if found is not None:
            yield found
