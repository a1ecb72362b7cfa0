"""What a merge has lost: files, names, options, targets, extras and packages that only a side has."""

import ast
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Literal, NamedTuple

from ..files.tree import File, Tree
from ..merge.languages import parse_python
from ..merge.text import decode
from .packages import extras, required_packages, transitive_packages

Side = Literal["you", "template"]

_PYTHON = (".py", ".pyi")
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class Lost(NamedTuple):
    """What a side has and the merged project does not.

    Attributes:
        paths: Files.
        names: What modules define, as `module.name`, and modules of packages, as `package.module`.
        options: Script -> its options, with underscores.
        targets: Targets of the Makefile.
        extras: Extras of the project itself.
        packages: Required packages, as import names; only packages whose module has the package's name.
        by: Who removed it.
    """

    paths: frozenset[str]
    names: frozenset[str]
    options: Mapping[str, frozenset[str]]
    targets: frozenset[str]
    extras: frozenset[str]
    packages: frozenset[str]
    by: Side


class Module(NamedTuple):
    """What is known about a Python file without running it.

    Attributes:
        defines: The functions, classes and constants at its top level.
        has: All names at its top level; None if it may have any.
        options: Its command line options: the fields of its dataclasses, and its strings that start with two dashes.
        imports: Its `from` imports, as (module, name).
        loads: The classes that it fills from the command line.
        packages: The top-level packages that it imports unconditionally, each with the line.
    """

    defines: frozenset[str] = frozenset()
    has: frozenset[str] | None = frozenset()
    options: frozenset[str] = frozenset()
    imports: tuple[tuple[str, str], ...] = ()
    loads: frozenset[str] = frozenset()
    packages: tuple[tuple[str, int], ...] = ()


def find_lost(side: Tree, merged: Tree, paths: frozenset[str], by: Side) -> Lost:
    """Compare a side with the merged project; `paths` are the files of any kind that were lost."""
    changed = [path for path in side if side[path] != merged.get(path)]
    code = [path for path in changed if path.endswith(".py")]
    names: set[str] = set()
    options: dict[str, frozenset[str]] = {}
    for path in code:
        module = dotted(path)
        now = read_module(merged[path]) if path in merged else Module()
        if now.has is not None:
            names |= {f"{module}.{name}" for name in read_module(side[path]).defines - now.has}
    scripts = [path for path in side if path.endswith(".py") and path in merged] if code else []
    for path in scripts:
        if before := options_of(side, path) - options_of(merged, path):
            options[path] = before
    names |= {dotted(path) for path in paths if path.endswith(".py") and "." in dotted(path)}
    names -= {dotted(path) for path in merged if path.endswith(".py")}
    makefiles = [path for path in changed if PurePosixPath(path).name in {"Makefile", "GNUmakefile", "makefile"}]
    targets = {name for path in makefiles for name in _targets(side[path])}
    targets -= {name for path in makefiles if path in merged for name in _targets(merged[path])}
    packages = frozenset[str]()
    lost_extras = frozenset[str]()
    if any(not path.endswith(_PYTHON) for path in changed):
        dropped = required_packages(side) - required_packages(merged)
        dropped -= transitive_packages(merged) if dropped else frozenset()
        packages = frozenset(name.replace("-", "_") for name in dropped)
        lost_extras = extras(side) - extras(merged)
    return Lost(paths, frozenset(names), options, frozenset(targets), lost_extras, packages, by)


def dotted(path: str) -> str:
    """The import name of a file's module, seen from the project's folder or from `src`."""
    parts = PurePosixPath(path).with_suffix("").parts
    parts = parts[1:] if parts[0] == "src" and len(parts) > 1 else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _targets(file: File) -> set[str]:
    return set(re.findall(r"(?m)^([\w-]+)\s*:(?!=)", "\n".join(decode(file.content).lines)))


def options_of(tree: Tree, path: str) -> frozenset[str]:
    """The options of a script, including those of a dataclass that it imports and fills."""
    module = read_module(tree[path])
    found = set(module.options)
    for source, name in module.imports:
        other = tree.get(f"{source.replace('.', '/')}.py")
        if other is not None and other is not tree[path] and name in module.loads:
            found |= read_module(other).options
    return frozenset(found)


@lru_cache(maxsize=1024)
def read_module(file: File) -> Module:
    tree = parse_python("\n".join(decode(file.content).lines))
    if tree is None:
        return Module(has=None)
    defines: set[str] = set()
    has: set[str] = set()
    anything = False
    options: set[str] = set()
    imports: list[tuple[str, str]] = []
    loads: set[str] = set()
    packages: dict[str, int] = {}
    optional = {id(inner) for node in ast.walk(tree) if _may_fail(node) for inner in ast.walk(node)}
    top = [statement for node in tree.body for statement in _statements(node)]
    for statement in top:
        if isinstance(statement, _DEFINITIONS):
            defines.add(statement.name)
            anything = anything or statement.name == "__getattr__"
        elif isinstance(statement, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
            defines |= {
                node.id
                for node in ast.walk(statement)
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
            }
        elif isinstance(statement, (ast.Import, ast.ImportFrom)):
            has |= {alias.asname or alias.name.partition(".")[0] for alias in statement.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and any("dataclass" in ast.unparse(one) for one in node.decorator_list):
            options |= {
                field.target.id
                for field in node.body
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
            }
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("load_config"):
            loads |= {given.id for given in node.args if isinstance(given, ast.Name)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("--"):
            options.add(node.value[2:].partition("=")[0].replace("-", "_"))
        elif isinstance(node, ast.ImportFrom) and not node.level:
            imports += [(node.module or "", alias.name) for alias in node.names]
            if id(node) not in optional:
                packages.setdefault((node.module or "").partition(".")[0], node.lineno)
        elif isinstance(node, ast.Import) and id(node) not in optional:
            for alias in node.names:
                packages.setdefault(alias.name.partition(".")[0], node.lineno)
    return Module(
        frozenset(defines),
        None if anything or "*" in has else frozenset(has | defines),
        frozenset(options),
        tuple(imports),
        frozenset(loads),
        tuple(sorted(packages.items())),
    )


def _statements(node: ast.stmt) -> Iterator[ast.stmt]:
    """Yield a top-level statement, and the statements in its blocks that bind top-level names too."""
    yield node
    if not isinstance(node, _DEFINITIONS):
        for inner in ast.iter_child_nodes(node):
            if isinstance(inner, ast.stmt):
                yield from _statements(inner)
            elif isinstance(inner, ast.ExceptHandler):
                yield from (found for one in inner.body for found in _statements(one))


def _may_fail(node: ast.AST) -> bool:
    """Whether imports in a statement may fail, or do not happen at runtime."""
    return isinstance(node, ast.Try) or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
