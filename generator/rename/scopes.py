"""The scopes of a Python module: which name refers to which binding, and where each name is in the text."""

import ast
import re
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

Function = ast.FunctionDef | ast.AsyncFunctionDef

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|$)")


class Binding(NamedTuple):
    """One place that binds a name.

    Attributes:
        node: The definition, import alias, parameter or name.
        statement: The statement that contains it.
    """

    node: ast.AST
    statement: ast.AST


@dataclass(eq=False)
class Scope:
    """A module, class, function or comprehension, and the names that it binds."""

    kind: str
    node: ast.AST
    parent: "Scope | None" = None
    names: dict[str, list[Binding]] = field(default_factory=dict)
    outside: dict[str, "Scope"] = field(default_factory=dict)
    """Names that `global` or `nonlocal` assign to another scope."""

    def owner(self, name: str) -> "Scope | None":
        """The scope that binds `name` as it is read here; None for builtins and names from `import *`."""
        for scope in self.chain():
            if name in scope.outside:
                return scope.outside[name]
            if name in scope.names and (scope.kind != "class" or scope is self):
                return scope
        return None

    def chain(self) -> Iterator["Scope"]:
        """Yield this scope and those around it, from the inside out."""
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.parent


class Source:
    """A module's text, its syntax tree and its scopes.

    Attributes:
        tree: The syntax tree.
        scope: The module's own scope.
        places: Each name that is read or written, with the scope around it.
        scopes: Function, class, lambda or comprehension -> the scope that it opens.
        within: Expression or definition -> the scope around it.
        quoted: String annotations, or strings in annotations, with the scope around them.
        declared: `global` and `nonlocal` statements, with the scope around them.
        starts: The offset of each line.

    Raises:
        SyntaxError, ValueError, RecursionError: The text does not parse.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.tree = ast.parse(text)
        self.scope = Scope("module", self.tree)
        self.places: list[tuple[ast.Name, Scope]] = []
        self.scopes: dict[ast.AST, Scope] = {self.tree: self.scope}
        self.within: dict[ast.AST, Scope] = {}
        self.declared: list[tuple[ast.Global | ast.Nonlocal, Scope]] = []
        self.quoted: list[tuple[ast.Constant, Scope]] = []
        self.starts = [found.start() for found in _LINE.finditer(text)]
        self._lines = [found[0] for found in _LINE.finditer(text)]
        _Reader(self).read_module()

    def offset(self, line: int, column: int) -> int:
        """The offset in the text of a line (from 1) and a column (in UTF-8 bytes, as in `ast`)."""
        text = self._lines[line - 1]
        column = column if text.isascii() else len(text.encode()[:column].decode(errors="replace"))
        return self.starts[line - 1] + column

    def start(self, node: ast.AST) -> int:
        return self.offset(node.lineno, node.col_offset)  # type: ignore[attr-defined]

    def end(self, node: ast.AST) -> int:
        return self.offset(node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]

    def line_of(self, offset: int) -> int:
        """The line (from 1) that contains an offset of the text."""
        return bisect_right(self.starts, offset)

    def class_around(self, node: ast.AST) -> ast.ClassDef | None:
        """The innermost class that contains a node."""
        scope = self.within.get(node)
        scopes = scope.chain() if scope is not None else ()
        return next((one.node for one in scopes if isinstance(one.node, ast.ClassDef)), None)


class _Reader:
    """Walks the syntax tree once and fills a `Source`."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.statement: ast.AST = source.tree
        self.waiting: deque[tuple[Sequence[ast.AST], Scope, ast.AST]] = deque()

    def read_module(self) -> None:
        """Read everything; like Python, read the body of a function after the scope around it is complete."""
        self.read(self.source.tree, self.source.scope)
        while self.waiting:
            body, scope, self.statement = self.waiting.popleft()
            self.read_all(body, scope)

    def read(self, node: ast.AST, scope: Scope) -> None:
        self.source.within.setdefault(node, scope)
        before = self.statement
        if isinstance(node, ast.stmt):
            self.statement = node
        method = getattr(self, f"read_{type(node).__name__}", None)
        if method is not None:
            method(node, scope)
        else:
            self.read_all(ast.iter_child_nodes(node), scope)
        self.statement = before

    def read_all(self, nodes: Iterable[ast.AST], scope: Scope) -> None:
        for node in nodes:
            self.read(node, scope)

    def bind(self, name: str, node: ast.AST, scope: Scope) -> None:
        owner = scope.outside.get(name, scope)
        owner.names.setdefault(name, []).append(Binding(node, self.statement))

    def read_Name(self, node: ast.Name, scope: Scope) -> None:
        if not isinstance(node.ctx, ast.Load):
            self.bind(node.id, node, scope)
        self.source.places.append((node, scope))

    def read_FunctionDef(self, node: Function, scope: Scope) -> None:
        self.bind(node.name, node, scope)
        self.read_all(node.decorator_list, scope)
        self._function(node, scope, node.body)

    read_AsyncFunctionDef = read_FunctionDef

    def read_AnnAssign(self, node: ast.AnnAssign, scope: Scope) -> None:
        self.read_all([node.target, *([node.value] if node.value is not None else [])], scope)
        self._annotation(node.annotation, scope)

    def _annotation(self, node: ast.AST, scope: Scope) -> None:
        self.read(node, scope)
        self.source.quoted += [
            (one, scope) for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)
        ]

    def read_Lambda(self, node: ast.Lambda, scope: Scope) -> None:
        self._function(node, scope, [node.body])

    def _function(self, node: Function | ast.Lambda, scope: Scope, body: Sequence[ast.AST]) -> None:
        arguments = node.args
        self.read_all([*arguments.defaults, *(default for default in arguments.kw_defaults if default)], scope)
        inner = Scope("function", node, scope)
        self.source.scopes[node] = inner
        # Annotations see the type parameters, but not the other names of the function.
        outer = self._type_parameters(node, scope)
        for argument in all_arguments(arguments):
            self.source.within[argument] = inner
            if argument.annotation is not None:
                self._annotation(argument.annotation, outer)
            self.bind(argument.arg, argument, inner)
        if not isinstance(node, ast.Lambda) and node.returns is not None:
            self._annotation(node.returns, outer)
        if outer is not scope:
            inner.parent = outer
        self.waiting.append((body, inner, self.statement))

    def _type_parameters(self, node: ast.AST, scope: Scope) -> Scope:
        """Return the scope of a definition's type parameters; the scope around it if there are none."""
        parameters = getattr(node, "type_params", [])
        if not parameters:
            return scope
        inner = Scope("function", node, scope)
        for parameter in parameters:
            self.bind(parameter.name, parameter, inner)
            self.read_all(ast.iter_child_nodes(parameter), inner)
        return inner

    def read_ClassDef(self, node: ast.ClassDef, scope: Scope) -> None:
        self.bind(node.name, node, scope)
        self.read_all(node.decorator_list, scope)
        outer = self._type_parameters(node, scope)
        self.read_all([*node.bases, *node.keywords], outer)
        inner = Scope("class", node, outer)
        self.source.scopes[node] = inner
        self.read_all(node.body, inner)

    def read_ListComp(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp, scope: Scope) -> None:
        inner = Scope("comprehension", node, scope)
        self.source.scopes[node] = inner
        for number, generator in enumerate(node.generators):
            self.read(generator.iter, inner if number else scope)
            self.read_all([generator.target, *generator.ifs], inner)
        self.read_all([node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt], inner)

    read_SetComp = read_GeneratorExp = read_DictComp = read_ListComp

    def read_NamedExpr(self, node: ast.NamedExpr, scope: Scope) -> None:
        self.read(node.value, scope)
        place = next(one for one in scope.chain() if one.kind != "comprehension")
        self.bind(node.target.id, node.target, place)
        self.source.places.append((node.target, scope))

    def read_Import(self, node: ast.Import | ast.ImportFrom, scope: Scope) -> None:
        for alias in node.names:
            name = alias.asname or (alias.name.partition(".")[0] if isinstance(node, ast.Import) else alias.name)
            if name != "*":
                self.bind(name, alias, scope)

    read_ImportFrom = read_Import

    def read_Global(self, node: ast.Global, scope: Scope) -> None:
        self.source.declared.append((node, scope))
        scope.outside.update(dict.fromkeys(node.names, self.source.scope))

    def read_Nonlocal(self, node: ast.Nonlocal, scope: Scope) -> None:
        self.source.declared.append((node, scope))
        for name in node.names:
            owners = (one for one in list(scope.chain())[1:] if one.kind != "class" and name in one.names)
            scope.outside[name] = next(owners, self.source.scope)

    def read_ExceptHandler(self, node: ast.ExceptHandler | ast.MatchAs | ast.MatchStar, scope: Scope) -> None:
        if node.name:
            self.bind(node.name, node, scope)
        self.read_all(ast.iter_child_nodes(node), scope)

    read_MatchAs = read_MatchStar = read_ExceptHandler

    def read_MatchMapping(self, node: ast.MatchMapping, scope: Scope) -> None:
        if node.rest:
            self.bind(node.rest, node, scope)
        self.read_all(ast.iter_child_nodes(node), scope)


def all_arguments(arguments: ast.arguments) -> list[ast.arg]:
    """The parameters of a function, in order."""
    known = [*arguments.posonlyargs, *arguments.args, arguments.vararg, *arguments.kwonlyargs, arguments.kwarg]
    return [argument for argument in known if argument is not None]
