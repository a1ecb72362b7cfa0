"""Defects that two valid edits can cause together: what a merged text has and neither side has.

Each kind of defect is one function that finds it in one text, and only where it is certain. These defects choose between
several merges of a file, hundreds of times in an upgrade, or are found by no tool; all others are found once, in the
merged project: see `paccel.check`.
"""

import ast
import builtins
import re
import symtable
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from .languages import Language, parse_python, requirement_key


class Defect(NamedTuple):
    """Something wrong with a text.

    Attributes:
        what: What the text does wrong, to follow "the merged result would".
        where: Tells it from another defect with the same `what`.
    """

    what: str
    where: str = ""


def new_defect(language: Language, ours: str, theirs: str, result: str) -> str | None:
    """A defect of `result` that neither side has, as a sentence; None if there is none."""
    new = sorted(defects(language, result) - (defects(language, ours) | defects(language, theirs)))
    return f"the merged result would {new[0].what}" if new else None


@lru_cache(maxsize=8)  # each attempt to merge is compared with the same two sides
def defects(language: Language, source: str) -> Counter[Defect]:
    """Every defect of a text; none if it does not parse, or nothing is searched for in its language."""
    if language == "requirements":
        return Counter(_repeated_requirements(source))
    if language in {"ini", "env", "make"}:
        return Counter(_repeated_settings(language, source.splitlines()))
    tree = parse_python(source) if language == "python" else None
    if tree is None:
        return Counter()
    module = _Module(source, tree, tuple(ast.walk(tree)))
    return Counter(defect for find in _PYTHON for defect in find(module))


def _more_than_once(counts: Counter[str]) -> Iterator[Defect]:
    """A defect for each time after the first."""
    for what, count in counts.items():
        yield from [Defect(f"{what} twice")] * (count - 1)


def _repeated_requirements(source: str) -> Iterator[Defect]:
    keys = (requirement_key(line) for line in source.splitlines())
    return _more_than_once(Counter(f"require `{key}`" for key in keys if key is not None))


_ENV_NAME = re.compile(r"\s*(?:export\s+)?([A-Za-z_]\w*)=")
_INI_NAME = re.compile(r"([^\s\[#;=:][^=:]*?)\s*[=:]")
_RECIPE = re.compile(r"@?([\w-]+)(?:\s[^#]*?)?:(?![=:])")


def _repeated_settings(language: Language, lines: Sequence[str]) -> Iterator[Defect]:
    """Repeated variables, options of a section, and targets with commands: one of the two has no effect."""
    counts = Counter[str]()
    section = ""
    for number, line in enumerate(lines):
        if language == "env":
            if found := _ENV_NAME.match(line):
                counts[f"set `{found[1]}`"] += 1
        elif language == "make":
            has_commands = number + 1 < len(lines) and lines[number + 1][:1].isspace() and lines[number + 1].strip()
            if has_commands and (found := _RECIPE.match(line)):
                counts[f"define the target `{found[1]}`"] += 1
        elif line.startswith("["):
            section = line.partition("]")[0] + "]"
            counts[f"have the section `{section}`"] += 1
        elif found := _INI_NAME.match(line):
            counts[f"set `{found[1].lower()}` in `{section}`"] += 1
    return _more_than_once(counts)


# --- Python ----------------------------------------------------------------------------------------------------------

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

_ALWAYS_BOUND = frozenset(dir(builtins)) | {
    *("__file__", "__name__", "__doc__", "__spec__", "__path__", "__package__", "__loader__", "__builtins__"),
    *("__class__", "__qualname__", "__module__", "__annotations__", "__dict__"),
}


class _Module(NamedTuple):
    """A Python module and all nodes of its syntax tree."""

    source: str
    tree: ast.Module
    nodes: tuple[ast.AST, ...]


def _defined_twice(module: _Module) -> Iterator[Defect]:
    return _more_than_once(Counter(f"define `{name}`" for name in _definitions("", module.tree.body)))


def _definitions(scope: str, body: Sequence[ast.stmt]) -> Iterator[str]:
    """Yield the dotted names that a module and its classes define."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield f"{scope}{node.name}"
            if isinstance(node, ast.ClassDef):
                yield from _definitions(f"{scope}{node.name}.", node.body)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield f"{scope}{node.target.id}"
        elif isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            yield f"{scope}{node.targets[0].id}"


def _unbound(module: _Module) -> Iterator[Defect]:
    """Global names that are read but nowhere bound."""
    if any(isinstance(node, ast.ImportFrom) and node.names[0].name == "*" for node in module.nodes):
        return
    top = symtable.symtable(module.source, "<merge>", "exec")
    scopes = [top]
    for scope in scopes:  # the list grows while it is walked
        scopes += scope.get_children()
    symbols = [symbol for scope in scopes for symbol in scope.get_symbols() if scope is top or symbol.is_global()]
    read = {symbol.get_name() for symbol in symbols if symbol.is_referenced()}
    bound = {symbol.get_name() for symbol in symbols if symbol.is_assigned() or symbol.is_imported()}
    for name in read - bound - _ALWAYS_BOUND:
        yield Defect(f"use `{name}`, which it no longer defines")


def _arguments(module: _Module) -> Iterator[Defect]:
    """Each argument in a call of each function: a new one means that lines of two different calls were joined."""
    found: set[str] = set()
    for node in module.nodes:
        if isinstance(node, ast.Call):
            name = _dotted(node.func)
            found |= {f"pass {count} positional arguments to `{name}`" for count in range(1, len(node.args) + 1)}
            found |= {f"pass `{keyword.arg or '**'}` to `{name}`" for keyword in node.keywords}
    for what in found:
        yield Defect(f"{what}, which neither side does")


def _dotted(function: ast.expr) -> str:
    """A dotted name; empty in place of a part that is not a name."""
    if isinstance(function, ast.Name):
        return function.id
    return f"{_dotted(function.value)}.{function.attr}" if isinstance(function, ast.Attribute) else ""


def _unawaited(module: _Module) -> Iterator[Defect]:
    """Calls of the module's coroutines without `await`; they can be right on a side, as in `run(main())`."""
    functions = {node.name: node for node in module.tree.body if isinstance(node, _FUNCTIONS)}
    coroutines = {name for name, node in functions.items() if isinstance(node, ast.AsyncFunctionDef)}
    for node in module.nodes if coroutines else ():
        for child in () if isinstance(node, ast.Await) else ast.iter_child_nodes(node):
            if isinstance(child, ast.Call) and isinstance(child.func, ast.Name) and child.func.id in coroutines:
                yield Defect(f"call the coroutine `{child.func.id}` without `await`", ast.unparse(node))


def _unreachable(module: _Module) -> Iterator[Defect]:
    """Statements below one that leaves their block."""
    ends = (ast.Return, ast.Raise, ast.Break, ast.Continue)
    for node in module.nodes:
        for body in (getattr(node, field, ()) for field in ("body", "orelse", "finalbody")):
            for place, statement in enumerate(body if isinstance(body, list) else (), 1):
                if isinstance(statement, ends):
                    leaving = type(statement).__name__.lower()
                    yield from [Defect(f"have unreachable code below a `{leaving}`")] * (len(body) - place)


def _repeated_calls(module: _Module) -> Iterator[Defect]:
    """Statements that repeat a call in a function: if both sides add one, it is meant once."""
    lines = module.source.split("\n")
    counts: Counter[tuple[str, str]] = Counter()
    for function in module.nodes:
        if isinstance(function, _FUNCTIONS):
            for node in ast.walk(function):
                if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and node.end_lineno:
                    call = "".join("".join(lines[node.lineno - 1 : node.end_lineno]).split())
                    counts[function.name, call] += 1
    for (name, call), count in counts.items():
        if not call.startswith("print("):
            yield from [Defect(f"call `{call}` in `{name}` more often than either side")] * (count - 1)


_PYTHON: tuple[Callable[[_Module], Iterator[Defect]], ...] = (
    _defined_twice,
    _unbound,
    _arguments,
    _unawaited,
    _unreachable,
    _repeated_calls,
)
