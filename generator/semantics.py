"""What two sound edits can break together in one Python module, as far as its syntax tree tells for certain."""

import ast
import builtins
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache

from .syntax import parse_python

_KNOWN = frozenset(dir(builtins)) | {
    *("__file__", "__name__", "__doc__", "__spec__", "__path__", "__package__", "__loader__", "__builtins__"),
    *("__class__", "__qualname__", "__module__", "__annotations__", "__dict__"),
}


def python_problem(base: str, ours: str, theirs: str, result: str) -> str | None:
    """What is wrong with `result` that is wrong in neither side, in words; None if nothing is.

    All four are sources of one module; `base` need not parse.
    """
    allowed = _definitions(base) | _definitions(ours) | _definitions(theirs)
    twice = sorted((_definitions(result) - allowed).items())
    if twice:
        (scope, name), _ = twice[0]
        return f"both changes together define `{scope}{name}` twice"
    # The sides are looked at only where the result gives reason to: this runs at every merge of a Python file.
    lost = _unbound(result) and sorted(_unbound(result) - _unbound(ours) - _unbound(theirs))
    if lost:
        return f"one change uses `{lost[0]}`, which the other removed or renamed"
    gone = sorted(_missing_members(base, ours, theirs, result) | _missing_members(base, theirs, ours, result))
    if gone:
        return f"one change uses `.{gone[0]}`, which the other removed or renamed"
    mixed = sorted(_mixed_calls(ours, theirs, result) | _mixed_calls(theirs, ours, result))
    if mixed:
        return f"one change calls `{mixed[0]}` instead of another function, to which the other change gives arguments"
    if _dead_ends(result) and _dead_ends(result) > max(_dead_ends(ours), _dead_ends(theirs)):
        return "one change would stand below a `return`, `raise`, `break` or `continue` of the other"
    return None


@lru_cache(maxsize=32)
def _nodes(source: str) -> tuple[ast.AST, ...]:
    """Every node of a module, walked once for all questions; empty if it does not parse."""
    tree = parse_python(source)
    return tuple(ast.walk(tree)) if tree else ()


@lru_cache(maxsize=32)
def _definitions(source: str) -> Counter[tuple[str, str]]:
    """How often each name is defined in a module: (scope, name), for the module and its classes."""
    tree = parse_python(source)
    return Counter(_defined("", tree.body)) if tree else Counter()


def _defined(scope: str, body: Sequence[ast.stmt]) -> Iterator[tuple[str, str]]:
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield scope, node.name
            if isinstance(node, ast.ClassDef):
                yield from _defined(f"{scope}{node.name}.", node.body)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield scope, node.target.id
        elif isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            yield scope, node.targets[0].id


@lru_cache(maxsize=32)
def _unbound(source: str) -> frozenset[str]:
    """Names that are read and bound nowhere in the module, in whatever scope: reading them must fail."""
    read: set[str] = set()
    bound: set[str] = set(_KNOWN)
    for node in _nodes(source):
        if isinstance(node, ast.Name):
            (read if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            bound.add(node.name)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.alias):
            if node.name == "*":
                return frozenset()
            bound.add(node.asname or node.name.partition(".")[0])
        elif isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
            bound.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            bound.add(node.rest)
        elif isinstance(node, (ast.Global, ast.Nonlocal)):
            bound.update(node.names)
    return frozenset(read - bound)


def _missing_members(base: str, remover: str, other: str, result: str) -> set[str]:
    """Members of the module's classes that one side removed with every use, and that the result uses again."""
    removed = {name for scope, name in _definitions(base) if scope} - {name for _, name in _definitions(remover)}
    added = {name for _, name in _definitions(other) - _definitions(base)}
    gone = removed - added
    return (gone - _attributes(remover)) & _attributes(result) if gone else set()


@lru_cache(maxsize=32)
def _attributes(source: str) -> frozenset[str]:
    return frozenset(node.attr for node in _nodes(source) if isinstance(node, ast.Attribute))


def _mixed_calls(changer: str, other: str, result: str) -> set[str]:
    """Functions that only one side calls, called in the result with arguments that this side never gives them."""
    of_changer, of_other = _calls(changer), _calls(other)
    mixed: set[str] = set()
    for name, given in _calls(result).items() - of_changer.items() - of_other.items():
        if name in of_changer and name not in of_other:
            allowed = of_changer[name]
            mixed |= {name} if any(not any(call <= known for known in allowed) for call in given) else set()
    return mixed


@lru_cache(maxsize=32)
def _calls(source: str) -> dict[str, frozenset[frozenset[str]]]:
    """Function, as written -> the sets of arguments that it is called with: names, or places."""
    calls: dict[str, set[frozenset[str]]] = {}
    for node in _nodes(source):
        if isinstance(node, ast.Call):
            given = [keyword.arg or "**" for keyword in node.keywords] + [str(place) for place in range(len(node.args))]
            calls.setdefault(_written(node.func), set()).add(frozenset(given))
    return {name: frozenset(given) for name, given in calls.items()}


def _written(node: ast.expr) -> str:
    """An expression as it is written; `ast.unparse` is slow where a name is all there is."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, (ast.Name, ast.Attribute)):
        return f"{_written(node.value)}.{node.attr}"
    return ast.unparse(node)


@lru_cache(maxsize=32)
def _dead_ends(source: str) -> int:
    """How many blocks go on after a statement that leaves them."""
    ends = (ast.Return, ast.Raise, ast.Break, ast.Continue)
    count = 0
    for node in _nodes(source):
        if isinstance(node, (ast.stmt, ast.ExceptHandler, ast.match_case, ast.Module)):
            for body in (getattr(node, name, ()) for name in ("body", "orelse", "finalbody")):
                count += any(isinstance(statement, ends) for statement in body[:-1])
    return count
