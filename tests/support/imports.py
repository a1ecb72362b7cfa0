"""What generated Python imports, and what the project declares as requirements."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

from paccel.files.tree import File

OURS = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def undeclared(tree: dict[str, File]) -> set[str]:
    """Each imported package that is neither in the project's pyproject.toml nor a requirement of paccel[runtime].

    Packages that only tests import may be in the `dev` requirements.
    """
    project = tomllib.loads(tree["pyproject.toml"].content.decode())["project"]
    needed = {_normal(each) for each in [*project["dependencies"], *OURS["optional-dependencies"]["runtime"]]}
    for_tests = needed | {_normal(each) for each in project["optional-dependencies"]["dev"]}
    own = {path.removesuffix(".py") for path in tree if path.endswith(".py") and "/" not in path}
    missing = set()
    for path, file in tree.items():
        if path.endswith(".py"):
            for name in set(_imported(ast.parse(file.content))) - own - sys.stdlib_module_names:
                brings = {_normal(each) for each in _distributions().get(name, [name])}
                if not brings & (for_tests if path.startswith("tests/") else needed):
                    missing.add(f"{path}: {name}")
    return missing


def _normal(requirement: str) -> str:
    """The name in a requirement, as PyPI compares names."""
    found = re.match(r"[\w.-]+", requirement)
    assert found, requirement
    return re.sub(r"[-_.]+", "-", found[0]).lower()


@cache
def _distributions() -> dict[str, list[str]]:
    return {name: list(distributions) for name, distributions in packages_distributions().items()}


def _imported(module: ast.Module) -> Iterator[str]:
    """The top-level names of absolute imports, at any place in the code."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
