"""A Python module, read: which name stands for what, scope by scope, and where each stands in the text."""

import ast
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|$)")


class Binding(NamedTuple):
    """One place that gives a name its value.

    Attributes:
        node: The definition, import alias, argument or name.
        statement: The statement around it.
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
    """Names that `global` or `nonlocal` give to another scope."""

    def owner(self, name: str) -> "Scope | None":
        """The scope that binds `name` as it is read here; None for builtins and what a `*` import brings."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.outside:
                return scope.outside[name]
            if name in scope.names and (scope.kind != "class" or scope is self):
                return scope
            scope = scope.parent
        return None

    def chain(self) -> Iterator["Scope"]:
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.parent


class Source:
    """A module's text and syntax tree.

    Attributes:
        tree: Its syntax tree.
        scope: The module's scope.
        places: Each name that is read or written, with the scope in which it stands.
        scopes: Each function and class, with the scope that it opens.
        within: Each expression and definition, with the scope in which it stands.
        quoted: Annotations, or parts of them, that are strings, with the scope in which they stand.
        declared: `global` and `nonlocal` statements, with the scope in which they stand.

    Raises:
        SyntaxError, ValueError, RecursionError: It does not parse.
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
        """Where in the text a line (from 1) and a column (in bytes of UTF-8, as `ast` counts) are."""
        text = self._lines[line - 1]
        column = column if text.isascii() else len(text.encode()[:column].decode(errors="replace"))
        return self.starts[line - 1] + column

    def start(self, node: ast.AST) -> int:
        return self.offset(node.lineno, node.col_offset)  # type: ignore[attr-defined]

    def end(self, node: ast.AST) -> int:
        return self.offset(node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]

    def line_of(self, offset: int) -> int:
        """The line (from 1) in which a place of the text is."""
        low, high = 0, len(self.starts)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.starts[middle] <= offset else (low, middle)
        return low + 1


class _Reader:
    """Walks a tree once and fills a `Source`."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.statement: ast.AST = source.tree
        self.waiting: deque[tuple[Sequence[ast.AST], Scope, ast.AST]] = deque()

    def read_module(self) -> None:
        """Read everything; the body of a function when the scope around it is complete, as Python runs it."""
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

    def read_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef, scope: Scope) -> None:
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

    def _function(
        self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, scope: Scope, body: Sequence[ast.AST]
    ) -> None:
        arguments = node.args
        self.read_all([*arguments.defaults, *(default for default in arguments.kw_defaults if default)], scope)
        inner = Scope("function", node, scope)
        self.source.scopes[node] = inner
        # Type parameters are seen by annotations too; other names of the function are not.
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

    def read_ExceptHandler(self, node: ast.ExceptHandler, scope: Scope) -> None:
        if node.name:
            self.bind(node.name, node, scope)
        self.read_all(ast.iter_child_nodes(node), scope)

    def read_MatchAs(self, node: ast.MatchAs | ast.MatchStar, scope: Scope) -> None:
        if node.name:
            self.bind(node.name, node, scope)
        self.read_all(ast.iter_child_nodes(node), scope)

    read_MatchStar = read_MatchAs

    def read_MatchMapping(self, node: ast.MatchMapping, scope: Scope) -> None:
        if node.rest:
            self.bind(node.rest, node, scope)
        self.read_all(ast.iter_child_nodes(node), scope)


def all_arguments(arguments: ast.arguments) -> list[ast.arg]:
    """The parameters of a function, in their order."""
    some = [*arguments.posonlyargs, *arguments.args, arguments.vararg, *arguments.kwonlyargs, arguments.kwarg]
    return [argument for argument in some if argument is not None]
