"""The modules of a project: which file an import means, what a dotted path names, of which class a value is."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import NamedTuple

from ..files.tree import File
from .scopes import Binding, Scope, Source, all_arguments

MAX_DEPTH = 20
"""How many steps a value, or a name that is imported and imported again, is followed."""

_BUILTIN = {"int", "float", "str", "bool", "bytes", "list", "dict", "tuple", "set"}

Function = ast.FunctionDef | ast.AsyncFunctionDef

_SAME_CLASS = {"dataclasses.replace", "copy.replace", "copy.copy", "copy.deepcopy"}
"""Functions that return a value of their argument's class."""

_INSTANCE = {"paccel.runtime.load_config"}
"""Functions that return an instance of the class that is their argument."""


class Module(NamedTuple):
    """One file of a project that parses.

    Attributes:
        path: Where it is.
        name: Its dotted name, from the project's folder or its `src`.
        source: Its text, read.
        bom: Whether its bytes begin with a byte order mark.
    """

    path: str
    name: str
    source: Source
    bom: bool = False

    @property
    def package(self) -> str:
        """The package that relative imports start from."""
        return self.name if PurePosixPath(self.path).stem == "__init__" else self.name.rpartition(".")[0]

    def encode(self, text: str) -> bytes:
        return (b"\xef\xbb\xbf" if self.bom else b"") + text.encode()


def module_name(path: str) -> str:
    """The dotted name of a Python file: `src/net/model.py` and `net/model.py` are `net.model`."""
    parts = PurePosixPath(path).with_suffix("").parts
    parts = parts[1:] if parts[0] == "src" and len(parts) > 1 else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def read_module(path: str, file: File) -> Module | None:
    """Read a Python file; None if it does not parse, or is not UTF-8: such a file stays as it is."""
    try:
        bom = file.content.startswith(b"\xef\xbb\xbf")
        text = file.content.decode("utf-8-sig")
        return Module(path, module_name(path), Source(text), bom)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


class Project:
    """The Python files of one side of a merge."""

    def __init__(
        self, files: Mapping[str, File], known: "Mapping[str, tuple[File, Module | None]] | None" = None
    ) -> None:
        self.files = dict(files)
        self._read = dict(known or {})
        self._names: dict[str, str] = {}
        self._classes: dict[tuple[int, str], str | None] = {}
        self._folders: dict[str, set[str]] = {}
        for path in self.files:
            if path.endswith(".py"):
                self._names.setdefault(module_name(path), path)
                pure = PurePosixPath(path)
                self._folders.setdefault(str(pure.parent), set()).add(pure.stem)

    def changed(self, files: Mapping[str, File]) -> "Project":
        """The project with these files; what has not changed is not read again."""
        return Project(files, self._read)

    def module(self, path: str) -> Module | None:
        """The module in a file; None if it does not parse."""
        known = self._read.get(path)
        if known is None or known[0] is not self.files[path]:
            known = self._read[path] = (self.files[path], read_module(path, self.files[path]))
        return known[1]

    def named(self, name: str) -> Module | None:
        """The module of a dotted name; None where the project has none, or it does not parse."""
        path = self._names.get(name)
        return self.module(path) if path is not None else None

    def has(self, name: str) -> bool:
        return name in self._names

    def imported(self, module: Module, node: ast.ImportFrom) -> str:
        """The dotted name of the module that `from … import` names; empty where it leaves the project."""
        if not node.level:
            return self.absolute(module, node.module or "")
        parts = module.package.split(".") if module.package else []
        if node.level - 1 > len(parts):
            return ""
        parts = parts[: len(parts) - (node.level - 1)] + ([node.module] if node.module else [])
        return ".".join(parts)

    def absolute(self, module: Module, name: str) -> str:
        """The dotted name, from the project's folder, of what a file calls `name`.

        A script finds the modules of its own folder first; a file of a package does not.
        """
        name = name.removeprefix("src.")
        folder = str(PurePosixPath(module.path).parent)
        beside = self._folders.get(folder, set())
        first = name.partition(".")[0]
        if folder not in {".", "src"} and "__init__" not in beside and first in beside:
            return f"{module_name(f'{folder}/_.py').rpartition('.')[0]}.{name}"
        return name

    # --- what a name or an expression is ---------------------------------------------------------------------------

    def path_of(self, module: Module, node: ast.AST) -> str:
        """The dotted path of a name or an attribute of a module; empty for everything else."""
        if isinstance(node, ast.Attribute):
            value = self.path_of(module, node.value)
            return f"{value}.{node.attr}" if value else ""
        if isinstance(node, ast.Name):
            scope = module.source.within.get(node, module.source.scope)
            owner = scope.owner(node.id)
            if owner is None:
                return self._starred(module, node.id)
            paths = {self.path_of_binding(module, owner, node.id, binding) for binding in owner.names.get(node.id, [])}
            return paths.pop() if len(paths) == 1 else ""
        return ""

    def path_of_binding(self, module: Module, scope: Scope, name: str, binding: Binding) -> str:
        """The dotted path that one binding gives a name; empty if it is a value of its own scope."""
        node = binding.node
        if isinstance(node, ast.alias):
            if isinstance(binding.statement, ast.ImportFrom):
                found = self.imported(module, binding.statement)
                return f"{found}.{node.name}" if found else ""
            full = self.absolute(module, node.name)
            return full if node.asname else full[: len(full) - len(node.name)] + node.name.partition(".")[0]
        return f"{module.name}.{name}" if scope.kind == "module" else ""

    def _starred(self, module: Module, name: str) -> str:
        """The path of a name that only a `from … import *` can bring."""
        for node in module.source.tree.body:
            if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
                origin = self.imported(module, node)
                found = self.named(origin)
                if found is not None and name in found.source.scope.names:
                    return f"{origin}.{name}"
        return ""

    def canonical(self, path: str) -> str:
        """Follow a path through modules that import it from another one, to where it is defined."""
        for _ in range(MAX_DEPTH):
            module, rest = self._split(path)
            first, _, more = rest.partition(".")
            bindings = module.source.scope.names.get(first, []) if module is not None else []
            if module is None or len(bindings) != 1 or not isinstance(bindings[0].node, ast.alias):
                return path
            found = self.path_of_binding(module, module.source.scope, first, bindings[0])
            if not found or found == f"{module.name}.{first}":
                return path
            path = f"{found}.{more}" if more else found
        return path

    def _split(self, path: str) -> tuple[Module | None, str]:
        """Split a path into the longest module of the project that it begins with, and the rest."""
        head, rest = path, ""
        while head:
            found = self.named(head)
            if found is not None:
                return found, rest
            head, _, last = head.rpartition(".")
            rest = f"{last}.{rest}" if rest else last
        return None, path

    def definition(self, path: str) -> tuple[Module, ast.AST] | None:
        """The function or class at a dotted path of the project; the last one where there are several."""
        module, rest = self._split(self.canonical(path))
        if module is None or not rest:
            return None
        body: list[ast.stmt] = module.source.tree.body
        found: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | None = None
        for part in rest.split("."):
            found = next((node for node in reversed(list(definitions(body))) if node.name == part), None)
            if found is None:
                return None
            body = found.body
        return (module, found) if found is not None else None

    def is_subclass(self, path: str, wanted: str, depth: int = 0) -> bool:
        """Whether the class at a path is `wanted`, or one that inherits from it."""
        path = self.canonical(path)
        if path == wanted:
            return True
        found = self.definition(path)
        node = found[1] if found is not None else None
        if found is None or not isinstance(node, ast.ClassDef) or depth == MAX_DEPTH:
            return False
        named = (base.value if isinstance(base, ast.Subscript) else base for base in node.bases)
        bases = (self.path_of(found[0], base) for base in named)
        return any(self.is_subclass(base, wanted, depth + 1) for base in bases if base)

    def class_of(self, module: Module, node: ast.AST, wanted: str, depth: int = 0) -> str | None:
        """The dotted path of the class that a value has.

        Args:
            module: Where the value stands.
            node: The value.
            wanted: The class that is looked for, which may be outside of the project.

        Returns:
            The path; empty for a value that is certainly no instance of a class known here; None where nothing tells.
        """
        if depth > MAX_DEPTH:
            return None
        key = (id(node), wanted)
        if key not in self._classes:
            self._classes[key] = self._class_of(module, node, wanted, depth)
        return self._classes[key]

    def _class_of(self, module: Module, node: ast.AST, wanted: str, depth: int) -> str | None:
        if isinstance(node, ast.Constant | ast.JoinedStr | ast.List | ast.Dict | ast.Set | ast.Lambda):
            return ""
        if isinstance(node, ast.Await | ast.NamedExpr | ast.Starred):
            return self.class_of(module, node.value, wanted, depth + 1)
        if isinstance(node, ast.IfExp):
            return self._only([self.class_of(module, one, wanted, depth + 1) for one in (node.body, node.orelse)])
        path = self.path_of(module, node)
        if isinstance(node, ast.Name):
            return self._class_of_name(module, node, wanted, depth)
        if isinstance(node, ast.Call):
            return self._class_of_call(module, node, wanted, depth)
        if isinstance(node, ast.Attribute):
            if path and self._split(path)[0] is None and path.partition(".")[0] != "self":
                return None
            return self._class_of_attribute(module, node, wanted, depth)
        return None

    def _only(self, found: list[str | None]) -> str | None:
        return found[0] if found and len({*found}) == 1 else None

    def _class_of_name(self, module: Module, node: ast.Name, wanted: str, depth: int) -> str | None:
        owner = module.source.within.get(node, module.source.scope).owner(node.id)
        if owner is None:
            return None
        bindings = owner.names.get(node.id, [])
        if any(isinstance(binding.node, ast.alias) for binding in bindings):
            return "" if len(bindings) == 1 else None  # a module, a function or a class; never an instance
        return self._only([self._class_of_binding(module, owner, one, wanted, depth) for one in bindings])

    def _class_of_binding(self, module: Module, scope: Scope, binding: Binding, wanted: str, depth: int) -> str | None:
        node, statement = binding
        if isinstance(node, Function | ast.ClassDef):
            return ""
        if isinstance(node, ast.arg):
            if node.annotation is not None:
                return self.annotated(module, node.annotation, wanted)
            return self._class_of_self(module, scope, node)
        if isinstance(statement, ast.AnnAssign) and statement.target is node:
            return self.annotated(module, statement.annotation, wanted)
        if isinstance(statement, ast.Assign) and node in statement.targets:
            return self.class_of(module, statement.value, wanted, depth + 1)
        if isinstance(statement, ast.With | ast.AsyncWith):
            for item in statement.items:
                if item.optional_vars is node:
                    return self.class_of(module, item.context_expr, wanted, depth + 1)
        for around in ast.walk(statement):
            if isinstance(around, ast.NamedExpr) and around.target is node:
                return self.class_of(module, around.value, wanted, depth + 1)
            if isinstance(around, ast.For | ast.AsyncFor | ast.comprehension) and around.target is node:
                return self._class_of_element(module, around.iter, wanted, depth)
        return None

    def _class_of_self(self, module: Module, scope: Scope, node: ast.arg) -> str | None:
        """The class of a method's first parameter."""
        function = scope.node
        around = scope.parent
        if not isinstance(function, Function) or around is None or around.kind != "class":
            return None
        names = {ast.unparse(decorator) for decorator in function.decorator_list}
        first = all_arguments(function.args)[0]
        if node is not first or names & {"staticmethod", "classmethod"}:
            return None
        assert isinstance(around.node, ast.ClassDef)
        outer = around.parent
        return f"{module.name}.{around.node.name}" if outer is not None and outer.kind == "module" else ""

    def _class_of_call(self, module: Module, node: ast.Call, wanted: str, depth: int) -> str | None:
        path = self.canonical(self.path_of(module, node.func))
        if path == wanted:
            return wanted
        found = self.definition(path) if path else None
        if found is not None and isinstance(found[1], ast.ClassDef):
            return path
        if path in _SAME_CLASS and node.args:
            return self.class_of(module, node.args[0], wanted, depth + 1)
        if path in _INSTANCE and node.args:
            return self.canonical(self.path_of(module, node.args[0])) or None
        if isinstance(node.func, ast.Attribute) and node.func.attr == "_replace":
            return self.class_of(module, node.func.value, wanted, depth + 1)
        if found is None and isinstance(node.func, ast.Attribute):
            owner = self.class_of(module, node.func.value, wanted, depth + 1)
            found = self.definition(f"{owner}.{node.func.attr}") if owner else None
        if found is not None and isinstance(found[1], Function) and found[1].returns is not None:
            return self.annotated(found[0], found[1].returns, wanted)
        return None

    def _class_of_attribute(self, module: Module, node: ast.Attribute, wanted: str, depth: int) -> str | None:
        owner = self.class_of(module, node.value, wanted, depth + 1)
        found = self.definition(owner) if owner else None
        if found is None or not isinstance(found[1], ast.ClassDef):
            return None
        values: list[str | None] = []
        for one in ast.walk(found[1]):
            if isinstance(one, ast.AnnAssign) and _names_member(one.target, node.attr):
                return self.annotated(found[0], one.annotation, wanted)
            if isinstance(one, Function) and one.name == node.attr and one.returns is not None:
                is_property = any("property" in ast.unparse(decorator) for decorator in one.decorator_list)
                return self.annotated(found[0], one.returns, wanted) if is_property else ""
            if isinstance(one, ast.Assign) and any(_names_member(target, node.attr) for target in one.targets):
                values.append(self.class_of(found[0], one.value, wanted, depth + 1))
        return self._only(values)

    def _class_of_element(self, module: Module, node: ast.AST, wanted: str, depth: int) -> str | None:
        """The class of what a loop over a list, a tuple or an annotated name yields."""
        if isinstance(node, ast.List | ast.Tuple | ast.Set):
            return self._only([self.class_of(module, element, wanted, depth + 1) for element in node.elts])
        annotation: ast.AST | None = None
        if isinstance(node, ast.Name):
            owner = module.source.within.get(node, module.source.scope).owner(node.id)
            for binding in owner.names.get(node.id, []) if owner is not None else []:
                annotation = getattr(binding.node, "annotation", None) or getattr(binding.statement, "annotation", None)
        elif isinstance(node, ast.Call):
            found = self.definition(self.path_of(module, node.func))
            if found is not None and isinstance(found[1], Function):
                module, annotation = found[0], found[1].returns
        if isinstance(annotation, ast.Subscript):
            inner = annotation.slice
            return self.annotated(module, inner.elts[0] if isinstance(inner, ast.Tuple) else inner, wanted)
        return None

    def annotated(self, module: Module, node: ast.AST, wanted: str) -> str | None:
        """The dotted path of the class that an annotation names, `| None` aside; None where nothing tells."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            try:
                inner = ast.parse(node.value, mode="eval").body
            except (SyntaxError, ValueError, RecursionError):
                return None
            scope = module.source.within.get(node, module.source.scope)
            module.source.within.update(dict.fromkeys(ast.walk(inner), scope))
            return self.annotated(module, inner, wanted)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            sides = [side for side in (node.left, node.right) if not _is_none(side)]
            return self.annotated(module, sides[0], wanted) if len(sides) == 1 else None
        if isinstance(node, ast.Subscript) and ast.unparse(node.value).rpartition(".")[2] in {"Optional", "Annotated"}:
            inner = node.slice.elts[0] if isinstance(node.slice, ast.Tuple) else node.slice
            return self.annotated(module, inner, wanted)
        path = self.canonical(self.path_of(module, node))
        if path and (path == wanted or self.definition(path) is not None):
            return path
        if path and self._split(path)[0] is None and not path.startswith(("typing.", "typing_extensions.")):
            return None if self.is_subclass(wanted, path) else ""  # a class from elsewhere
        return "" if isinstance(node, ast.Name) and node.id in _BUILTIN else None


def definitions(body: list[ast.stmt]) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """The functions and classes of a body, those below an `if` or `try` too."""
    for node in body:
        if isinstance(node, Function | ast.ClassDef):
            yield node
        elif isinstance(node, ast.If | ast.Try | ast.With):
            for name in ("body", "orelse", "finalbody", "handlers"):
                for inner in getattr(node, name, []):
                    yield from definitions(inner.body if isinstance(inner, ast.ExceptHandler) else [inner])


def _names_member(target: ast.AST, name: str) -> bool:
    """Whether an assignment's target is a member of the class that it stands in: `name` or `self.name`."""
    if isinstance(target, ast.Attribute):
        return target.attr == name and isinstance(target.value, ast.Name) and target.value.id == "self"
    return isinstance(target, ast.Name) and target.id == name


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None
