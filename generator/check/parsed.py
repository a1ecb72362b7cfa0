"""TOML and YAML of a project as plain data; what does not parse, or has another type than expected, counts as empty."""

import tomllib
from typing import Any

from ..files.tree import PROJECT_FILE, Tree


def read_toml(tree: Tree) -> dict[str, Any]:
    try:
        return tomllib.loads(tree[PROJECT_FILE].content.decode("utf-8-sig")) if PROJECT_FILE in tree else {}
    except (ValueError, RecursionError):
        return {}


def read_yaml(content: bytes) -> Any:
    import yaml  # a dependency of cookiecutter; slow to import, and few projects need it here

    try:
        return yaml.load(content, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError, RecursionError):
        return None


def table(data: Any, *keys: str) -> dict[str, Any]:
    """A table in parsed data; empty if it is missing or not a table."""
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data if isinstance(data, dict) else {}


def strings(data: Any) -> list[str]:
    return [item for item in data if isinstance(item, str)] if isinstance(data, list) else []
