"""Defects that two valid edits can cause together: what a merged text has and neither side has.

Each kind of defect is one function that finds it in one text. Only what a syntax tree tells for certain is a defect. Here
stands what chooses between several merges of a file, hundreds of times in an upgrade, and what no tool finds; the rest is
found once, on the merged project, see `paccel.check`.
"""

import ast
import builtins
import re
import symtable
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

from .languages import Language, parse_python, requirement_key


class Defect(NamedTuple):
    """Something wrong with a text.

    Attributes:
        what: What the text does wrong, as the end of "The merged result would …".
        where: What tells it from another one that reads the same.
    """

    what: str
    where: str = ""


def new_defect(language: Language, ours: str, theirs: str, result: str) -> str | None:
    """The first defect of `result` that neither side has, in words; None if it has none."""
    new = sorted(defects(language, result) - (defects(language, ours) | defects(language, theirs)))
    return f"the merged result would {new[0].what}" if new else None


@lru_cache(maxsize=8)  # the two sides are compared with every attempt to merge them
def defects(language: Language, source: str) -> Counter[Defect]:
    """Every defect of a text; of one that does not parse, or in a language that is not searched, none."""
    if language == "requirements":
        return Counter(_required_twice(source))
    if language in {"ini", "env", "make"}:
        return Counter(_given_twice(language, source.splitlines()))
    tree = parse_python(source) if language == "python" else None
    if tree is None:
        return Counter()
    module = _Module(source, tree)
    return Counter(defect for find in _PYTHON for defect in find(module))


def _required_twice(source: str) -> Iterator[Defect]:
    counts = Counter(requirement_key(line) for line in source.splitlines())
    for key, count in counts.items():
        if key is not None:
            yield from [Defect(f"require `{key}` twice")] * (count - 1)


_ENV_NAME = re.compile(r"\s*(?:export\s+)?([A-Za-z_]\w*)=")
_INI_NAME = re.compile(r"([^\s\[#;=:][^=:]*?)\s*[=:]")
_RECIPE = re.compile(r"@?([\w-]+)(?:\s[^#]*?)?:(?![=:])")


def _given_twice(language: Language, lines: Sequence[str]) -> Iterator[Defect]:
    """Variables, options of a section and targets with commands: where one stands twice, one of the two has no effect."""
    counts = Counter[tuple[str, str]]()
    section = ""
    for number, line in enumerate(lines):
        if language == "env":
            found, what = _ENV_NAME.match(line), "set"
        elif language == "make":
            commands = number + 1 < len(lines) and lines[number + 1][:1].isspace() and bool(lines[number + 1].strip())
            found, what = _RECIPE.match(line) if commands else None, "make"
        elif line.startswith("["):
            section = line.partition("]")[0] + "]"
            counts["have", section] += 1
            continue
        else:
            found, what = _INI_NAME.match(line), f"in {section} give"
        if found:
            counts[what, found[1].lower() if language == "ini" else found[1]] += 1
    for (what, name), count in counts.items():
        yield from [Defect(f"{what} `{name}` twice")] * (count - 1)


# --- Python ----------------------------------------------------------------------------------------------------------

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


_ALWAYS_BOUND = frozenset(dir(builtins)) | {
    *("__file__", "__name__", "__doc__", "__spec__", "__path__", "__package__", "__loader__", "__builtins__"),
    *("__class__", "__qualname__", "__module__", "__annotations__", "__dict__"),
}


@dataclass(frozen=True)
class _Module:
    """A Python module, with what several searches need."""

    source: str
    tree: ast.Module

    @cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        return tuple(ast.walk(self.tree))

    @cached_property
    def definitions(self) -> Counter[tuple[str, str]]:
        """How often the module and its classes define each name: (scope, name)."""
        return Counter(_definitions("", self.tree.body))

    @cached_property
    def scopes(self) -> list[symtable.SymbolTable]:
        """The module's scope, and then every scope in it."""
        scopes = [symtable.symtable(self.source, "<merge>", "exec")]
        for scope in scopes:  # which grows on the way
            scopes += scope.get_children()
        return scopes

    @cached_property
    def bound(self) -> set[str]:
        """The names that the module's scope binds, in whatever function that is done."""
        return {
            symbol.get_name()
            for scope in self.scopes
            for symbol in scope.get_symbols()
            if (scope is self.scopes[0] or symbol.is_global()) and (symbol.is_assigned() or symbol.is_imported())
        }

    @cached_property
    def imports_everything(self) -> bool:
        return any(isinstance(node, ast.ImportFrom) and node.names[0].name == "*" for node in self.nodes)

    @cached_property
    def functions(self) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
        return {node.name: node for node in self.tree.body if isinstance(node, _FUNCTIONS)}


def _definitions(scope: str, body: Sequence[ast.stmt]) -> Iterator[tuple[str, str]]:
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield scope, node.name
            if isinstance(node, ast.ClassDef):
                yield from _definitions(f"{scope}{node.name}.", node.body)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield scope, node.target.id
        elif isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            yield scope, node.targets[0].id


def _defined_twice(module: _Module) -> Iterator[Defect]:
    for (scope, name), count in module.definitions.items():
        yield from [Defect(f"define `{scope}{name}` twice")] * (count - 1)


def _unbound(module: _Module) -> Iterator[Defect]:
    """Names that are read where no scope binds them."""
    if module.imports_everything:
        return
    read = {
        symbol.get_name()
        for scope in module.scopes
        for symbol in scope.get_symbols()
        if (scope is module.scopes[0] or symbol.is_global()) and symbol.is_referenced()
    }
    for name in read - module.bound - _ALWAYS_BOUND:
        yield Defect(f"use `{name}`, which it no longer defines")


def _arguments(module: _Module) -> Iterator[Defect]:
    """Each argument of each function that is called: new is one where the lines of two different calls came together."""
    found: set[str] = set()
    for node in module.nodes:
        if isinstance(node, ast.Call):
            name = _name(node.func)
            found |= {f"pass {count} positional arguments to `{name}`" for count in range(1, len(node.args) + 1)}
            found |= {f"pass `{keyword.arg or '**'}` to `{name}`" for keyword in node.keywords}
    for what in found:
        yield Defect(f"{what}, as neither side does")


def _name(function: ast.expr) -> str:
    """A dotted name as it is written; of anything else, its last part."""
    if isinstance(function, ast.Name):
        return function.id
    return f"{_name(function.value)}.{function.attr}" if isinstance(function, ast.Attribute) else ""


def _unawaited(module: _Module) -> Iterator[Defect]:
    """Calls of the module's coroutines without `await`; in a side they may be right, as in `run(main())`."""
    coroutines = {name for name, node in module.functions.items() if isinstance(node, ast.AsyncFunctionDef)}
    for node in module.nodes if coroutines else ():
        for child in () if isinstance(node, ast.Await) else ast.iter_child_nodes(node):
            if isinstance(child, ast.Call) and isinstance(child.func, ast.Name) and child.func.id in coroutines:
                yield Defect(
                    f"call `{child.func.id}`, which one change made a coroutine, without `await`", ast.unparse(node)
                )


def _unreachable(module: _Module) -> Iterator[Defect]:
    """Statements below one that leaves their block."""
    ends = (ast.Return, ast.Raise, ast.Break, ast.Continue)
    for node in module.nodes:
        for body in (getattr(node, field, ()) for field in ("body", "orelse", "finalbody")):
            for place, statement in enumerate(body if isinstance(body, list) else (), 1):
                if isinstance(statement, ends):
                    leaving = type(statement).__name__.lower()
                    yield from [Defect(f"have code that is never reached, below a `{leaving}`")] * (len(body) - place)


def _repeated(module: _Module) -> Iterator[Defect]:
    """Calls that stand more than once in a function as statements: two sides that add one mean it once, not twice."""
    lines = module.source.split("\n")
    counts: Counter[tuple[str, str]] = Counter()
    for function in module.nodes:
        if isinstance(function, _FUNCTIONS):
            for node in ast.walk(function):
                if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and node.end_lineno:
                    written = "".join("".join(lines[node.lineno - 1 : node.end_lineno]).split())
                    counts[function.name, written] += 1
    for (name, written), count in counts.items():
        if not written.startswith("print("):
            yield from [Defect(f"call `{written}` in `{name}` more often than either side")] * (count - 1)


_PYTHON: tuple[Callable[[_Module], Iterator[Defect]], ...] = (
    _defined_twice,
    _unbound,
    _arguments,
    _unawaited,
    _unreachable,
    _repeated,
)
