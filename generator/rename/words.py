"""Where a name is in a module's text: its bindings, its uses, and whether another name is free there."""

import ast
import re
from collections.abc import Iterator

from .scopes import Scope, Source


def word_at(source: Source, node: ast.AST, word: str) -> Iterator[tuple[int, int]]:
    """Yield the span of the name that a node binds or uses; nothing if the text does not have it there."""
    if isinstance(node, ast.Attribute):
        start = source.end(node) - len(word)
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        head = re.compile(r"(?:async[ \t]+)?(?:def|class)[ \t]+").match(source.text, source.start(node))
        start = head.end() if head is not None else -1
    else:
        start = source.start(node)
    if start >= 0 and source.text[start : start + len(word)] == word:
        yield start, start + len(word)


def references(source: Source, name: str, owner: Scope) -> list[tuple[ast.Name, Scope]]:
    """The uses of what `owner` binds as `name`, each with the scope around it."""
    return [(node, scope) for node, scope in source.places if node.id == name and scope.owner(name) is owner]


def is_free(source: Source, old: str, new: str, owner: Scope) -> bool:
    """Whether `owner` can bind `new` instead of `old`: nothing binds or reads `new` there, or hides it where `old` is."""
    if new in owner.names or new in owner.outside:
        return False
    for _, place in references(source, old, owner):
        for scope in place.chain():
            if scope is owner:
                break
            if new in scope.names or new in scope.outside:
                return False
    # A use of `new` that refers to an outer scope now would refer to `owner` afterwards.
    outer = {None, *list(owner.chain())[1:]}
    return not any(
        node.id == new and owner in scope.chain() and scope.owner(new) in outer for node, scope in source.places
    )


def words_of(source: Source, name: str, owner: Scope) -> list[tuple[int, int]]:
    """The spans of all words that refer to what `owner` binds as `name`; imports are left out."""
    nodes: list[ast.AST] = [node for node, _ in references(source, name, owner)]
    nodes += [binding.node for binding in owner.names.get(name, []) if not isinstance(binding.node, ast.alias)]
    spans = [span for node in nodes for span in word_at(source, node, name)]
    return [*spans, *_declared(source, name, owner), *_quoted(source, name, owner)]


def _declared(source: Source, name: str, owner: Scope) -> Iterator[tuple[int, int]]:
    """The words in `global` and `nonlocal` statements."""
    for node, scope in source.declared:
        if name in node.names and scope.outside.get(name) is owner:
            first = source.start(node)
            for found in re.finditer(rf"\b{re.escape(name)}\b", source.text[first : source.end(node)]):
                yield first + found.start(), first + found.end()


def _quoted(source: Source, name: str, owner: Scope) -> Iterator[tuple[int, int]]:
    """The words in string annotations."""
    for node, scope in source.quoted:
        start, end = source.start(node), source.end(node)
        text = source.text[start:end]
        if scope.owner(name) is owner and text[:1] in {"'", '"'} and "\\" not in text:
            for found in re.finditer(rf"(?<![\w.]){re.escape(name)}\b", text):
                yield start + found.start(), start + found.end()
