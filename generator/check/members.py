"""Lost attributes: one file reads what a class in another no longer has.

A type checker finds these only where it knows the class. By its types, a PyTorch module may have any attribute, and so may
the result of a function without annotations.
"""

import ast
import re
from functools import lru_cache
from pathlib import PurePosixPath
from typing import NamedTuple

from ..files.tree import File, Tree
from .blame import Trees
from .finding import Finding, finding_at


class _Members(NamedTuple):
    """The attributes in a file.

    Attributes:
        has: The attributes that its classes have.
        reads: The attributes that it reads, each with the first line.
    """

    has: frozenset[str] = frozenset()
    reads: tuple[tuple[str, int], ...] = ()


def lost_members(trees: Trees) -> list[Finding]:
    """Where the merged project reads an attribute that a class of a side has, but none of the merged project.

    An attribute that a side reads without having it in a class belongs to another package, like `tensor.shape`.
    """
    lost: set[str] = set()
    for side in (trees.ours, trees.theirs):
        changed = [path for path in side if side[path] != trees.merged.get(path)]
        lost |= {name for path in changed for name in _named(side, path).has}
    lost -= {name for path in trees.merged for name in _named(trees.merged, path, lost).has}
    lost -= _foreign(trees.ours, lost) | _foreign(trees.theirs, lost)
    return [
        finding_at(
            path, file, line, "lost-member", f"reads `.{name}`, which no class of the project has any more", name
        )
        for path, file in (trees.merged.items() if lost else ())
        for name, line in _named(trees.merged, path, lost).reads
        if name in lost
    ]


def _foreign(tree: Tree, names: set[str]) -> set[str]:
    """Those of the names that a project reads without having them in a class."""
    found = [_named(tree, path, names) for path in (tree if names else ())]
    has = {name for members in found for name in members.has}
    return {name for members in found for name, _ in members.reads if name in names} - has


def _named(tree: Tree, path: str, names: set[str] | None = None) -> _Members:
    """The attributes in a file; empty, without parsing it, if none of the names occurs."""
    content = tree[path].content
    if not path.endswith((".py", ".pyi")) or not (names is None or any(name.encode() in content for name in names)):
        return _Members()
    return _members(tree[path], frozenset(part for own in tree for part in PurePosixPath(own).with_suffix("").parts))


@lru_cache(maxsize=1024)
def _members(file: File, modules: frozenset[str]) -> _Members:
    """The attributes in a file of a project with these modules."""
    try:
        tree = ast.parse(file.content)
    except (SyntaxError, ValueError, RecursionError):
        return _Members()
    nodes = [*ast.walk(tree)]
    others = {name for node in nodes for name in _imported_from_others(node, modules)}
    # What another package returns belongs to that package.
    others |= {
        target.id
        for node in nodes
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and _root(node.value) in others
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    has: set[str] = set()
    reads: dict[str, int] = {}
    asked: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.ClassDef):
            has |= {name for statement in node.body for name in _bound(statement)}
        elif isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
            has.add(node.attr)
        elif isinstance(node, ast.Attribute) and not re.fullmatch("__.*__", node.attr) and _root(node) not in others:
            reads[node.attr] = min(node.lineno, reads.get(node.attr, node.lineno))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"hasattr", "setattr"}:
            asked |= {str(given.value) for given in node.args if isinstance(given, ast.Constant)}
        elif isinstance(node, ast.Call):
            for name in _named_in_call(node, others):
                reads[name] = min(node.lineno, reads.get(name, node.lineno))
    return _Members(frozenset(has), tuple((name, reads[name]) for name in sorted(reads) if name not in asked))


def _named_in_call(call: ast.Call, others: set[str]) -> list[str]:
    """The attributes that a call names: `getattr(x, "name")`, `dataclasses.replace(x, name=…)`, `x._replace(name=…)`."""
    function = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
    given = call.args
    if function == "getattr" and len(given) == 2 and isinstance(given[1], ast.Constant):
        return [str(given[1].value)] if _root(given[0]) not in others else []
    copies = function == "_replace" or (function == "replace" and len(given) == 1 and _root(given[0]) not in others)
    return [keyword.arg for keyword in call.keywords if keyword.arg] if copies else []


def _imported_from_others(node: ast.AST, modules: frozenset[str]) -> set[str]:
    """The names that a statement imports from other packages."""
    if isinstance(node, ast.ImportFrom):
        own = node.level or {*(node.module or "").split(".")} & modules
        return set() if own else {alias.asname or alias.name for alias in node.names}
    if isinstance(node, ast.Import):
        return {a.asname or a.name.partition(".")[0] for a in node.names if not {*a.name.split(".")} & modules}
    return set()


def _root(node: ast.expr) -> str:
    """The name that an expression starts with: `a` of `a.b(c).d`."""
    while isinstance(node, (ast.Attribute, ast.Call, ast.Subscript)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _bound(statement: ast.stmt) -> list[str]:
    """The names that a statement in a class body binds."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [statement.name]
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]
