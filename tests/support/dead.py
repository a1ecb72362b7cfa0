"""Dead code in generated Python: unused definitions, settings that nothing reads, code that never runs."""

import ast
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

from paccel.files.tree import File

RUNTIME = Path(__file__).parents[2] / "runtime"
CALLED_BY_TORCH = {"forward"}


def dead_code(tree: dict[str, File]) -> list[str]:
    """List each unused definition, each setting that nothing reads, each statement that cannot run."""
    modules = {path: ast.parse(file.content) for path, file in tree.items() if path.endswith(".py")}
    used = {name for module in modules.values() for name in _used(module)}
    found = []
    for path, module in modules.items():
        for name, is_setting in _defined(module):
            needed = name in used | CALLED_BY_TORCH or (is_setting and name in _named_in_runtime())
            if not needed and not path.startswith("tests/"):  # pytest finds those by name
                found.append(f"{path}: `{name}` is not used")
        found += [f"{path}: line {line} cannot run" for line in _unreachable(module)]
    return found


@cache
def _named_in_runtime() -> set[object]:
    """Names by which the runtime may read settings: `config.precision`, `getattr(config, "precision")`."""
    modules = [ast.parse(path.read_text(encoding="utf-8")) for path in RUNTIME.rglob("*.py")]
    constants = {node.value for module in modules for node in ast.walk(module) if isinstance(node, ast.Constant)}
    return constants | {name for module in modules for name in _used(module)}


def _used(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr


def _defined(module: ast.Module) -> Iterator[tuple[str, bool]]:
    """Names of functions, classes, methods, constants and dataclass fields; and whether each is such a field."""
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, False
        elif isinstance(node, ast.Assign):
            yield from ((target.id, False) for target in node.targets if isinstance(target, ast.Name))
        if isinstance(node, ast.ClassDef):
            for part in node.body:
                if isinstance(part, ast.FunctionDef) and not part.name.startswith("__"):
                    yield part.name, False
                elif isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name) and node.decorator_list:
                    yield part.target.id, True


def _unreachable(module: ast.Module) -> Iterator[int]:
    """Lines after a return, raise, break or continue in the same block, and branches on constants."""
    for node in ast.walk(module):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Constant):
            yield node.lineno
        for block in (getattr(node, name, None) for name in ("body", "orelse", "finalbody")):
            if isinstance(block, list):
                for statement, behind in pairwise(block):
                    if isinstance(statement, ast.Return | ast.Raise | ast.Break | ast.Continue):
                        yield behind.lineno
