"""The modules of a project: which file an import refers to, and what a dotted path names."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import NamedTuple

from ..files.tree import File
from .scopes import Binding, Function, Scope, Source

MAX_DEPTH = 20
"""How many steps an import, a base class or a value is followed."""


class Module(NamedTuple):
    """One Python file of a project.

    Attributes:
        path: The path of the file.
        name: The dotted name, from the project's folder or its `src`.
        source: The text, with its syntax tree and scopes.
        bom: Whether the file begins with a byte order mark.
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
    """Read a Python file; None if it does not parse or is not UTF-8."""
    try:
        bom = file.content.startswith(b"\xef\xbb\xbf")
        text = file.content.decode("utf-8-sig")
        return Module(path, module_name(path), Source(text), bom)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


class Project:
    """The Python files of one side of a merge.

    Args:
        files: POSIX path -> file; other files may be among them.
        known: Modules that were read before, with the files that they were read from.
    """

    def __init__(self, files: Mapping[str, File], known: Mapping[str, tuple[File, Module | None]] = {}) -> None:
        self.files = dict(files)
        self._read = dict(known)
        self._names: dict[str, str] = {}
        self._folders: dict[str, set[str]] = {}
        for path in self.files:
            if path.endswith(".py"):
                self._names.setdefault(module_name(path), path)
                pure = PurePosixPath(path)
                self._folders.setdefault(str(pure.parent), set()).add(pure.stem)

    def changed(self, files: Mapping[str, File]) -> "Project":
        """The project with other files; unchanged files are not read again."""
        return Project(files, self._read)

    def module(self, path: str) -> Module | None:
        """The module in a file; None if it does not parse."""
        known = self._read.get(path)
        if known is None or known[0] is not self.files[path]:
            known = self._read[path] = (self.files[path], read_module(path, self.files[path]))
        return known[1]

    def named(self, name: str) -> Module | None:
        """The module of a dotted name; None if the project has none, or it does not parse."""
        path = self._names.get(name)
        return self.module(path) if path is not None else None

    def has(self, name: str) -> bool:
        """Whether the project has a module of a dotted name."""
        return name in self._names

    def has_part_of(self, path: str) -> bool:
        """Whether a dotted path begins with a module of the project."""
        return self._split(path)[0] is not None

    def imported(self, module: Module, node: ast.ImportFrom) -> str:
        """The dotted name of the module in `from … import`; empty if it is outside of the project."""
        if not node.level:
            return self.absolute(module, node.module or "")
        parts = module.package.split(".") if module.package else []
        if node.level - 1 > len(parts):
            return ""
        parts = parts[: len(parts) - (node.level - 1)] + ([node.module] if node.module else [])
        return ".".join(parts)

    def absolute(self, module: Module, name: str) -> str:
        """The dotted name, from the project's folder, of a module that a file imports as `name`.

        A script finds the modules in its own folder first; a file of a package does not.
        """
        name = name.removeprefix("src.")
        folder = str(PurePosixPath(module.path).parent)
        beside = self._folders.get(folder, set())
        first = name.partition(".")[0]
        if folder not in {".", "src"} and "__init__" not in beside and first in beside:
            return f"{module_name(f'{folder}/_.py').rpartition('.')[0]}.{name}"
        return name

    def path_of(self, module: Module, node: ast.AST) -> str:
        """The dotted path of a name or of an attribute of a module; empty for other expressions."""
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
        """The dotted path that one binding gives a name; empty for a local value."""
        node = binding.node
        if isinstance(node, ast.alias):
            if isinstance(binding.statement, ast.ImportFrom):
                found = self.imported(module, binding.statement)
                return f"{found}.{node.name}" if found else ""
            full = self.absolute(module, node.name)
            return full if node.asname else full[: len(full) - len(node.name)] + node.name.partition(".")[0]
        return f"{module.name}.{name}" if scope.kind == "module" else ""

    def _starred(self, module: Module, name: str) -> str:
        """The dotted path of a name that comes from `from … import *`; empty if no such import has it."""
        for node in module.source.tree.body:
            if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
                origin = self.imported(module, node)
                found = self.named(origin)
                if found is not None and name in found.source.scope.names:
                    return f"{origin}.{name}"
        return ""

    def canonical(self, path: str) -> str:
        """Follow a dotted path through modules that import it from others, to its definition."""
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
        """Split a dotted path into the longest module of the project that it begins with, and the rest."""
        head, rest = path, ""
        while head:
            found = self.named(head)
            if found is not None:
                return found, rest
            head, _, last = head.rpartition(".")
            rest = f"{last}.{rest}" if rest else last
        return None, path

    def definition(self, path: str) -> tuple[Module, ast.AST] | None:
        """The function or class at a dotted path of the project; the last one if there are several."""
        module, rest = self._split(self.canonical(path))
        if module is None or not rest:
            return None
        body: list[ast.stmt] = module.source.tree.body
        found: Function | ast.ClassDef | None = None
        for part in rest.split("."):
            found = next((node for node in reversed(list(definitions(body))) if node.name == part), None)
            if found is None:
                return None
            body = found.body
        return (module, found) if found is not None else None

    def is_subclass(self, path: str, wanted: str, depth: int = 0) -> bool:
        """Whether the class at a dotted path is `wanted`, or inherits from it."""
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


def definitions(body: list[ast.stmt]) -> Iterator[Function | ast.ClassDef]:
    """The functions and classes in a body, also inside `if`, `try` and `with`."""
    for node in body:
        if isinstance(node, Function | ast.ClassDef):
            yield node
        elif isinstance(node, ast.If | ast.Try | ast.With):
            for name in ("body", "orelse", "finalbody", "handlers"):
                for inner in getattr(node, name, []):
                    yield from definitions(inner.body if isinstance(inner, ast.ExceptHandler) else [inner])
