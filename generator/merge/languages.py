"""What the merge knows of languages: which one a file is in, whether a text parses, what a requirement is called."""

import ast
import json
import re
import tomllib
import warnings
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any, Literal

from .json_text import read as read_json

Language = Literal[
    "python", "toml", "json", "jsonc", "yaml", "requirements", "ignore", "commands", "ini", "env", "make", "text"
]

_SUFFIXES: dict[str, Language] = {
    ".py": "python",
    ".pyi": "python",
    ".toml": "toml",
    ".json": "json",
    ".ipynb": "json",
    ".jsonc": "jsonc",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".cfg": "ini",
    ".ini": "ini",
    ".sh": "commands",
    ".slurm": "commands",
    ".sbatch": "commands",
    ".mk": "make",
    ".just": "make",
    ".env": "env",
}
_NAMES: dict[str, Language] = {
    "Dockerfile": "commands",
    ".gitattributes": "commands",
    "Makefile": "make",
    "makefile": "make",
    "GNUmakefile": "make",
    "justfile": "make",
    "Justfile": "make",
    ".editorconfig": "ini",
    ".flake8": "ini",
}


def language_of(path: str) -> Language:
    """The language of a file, from its name."""
    name = PurePosixPath(path).name
    if name.startswith(".") and name.endswith("ignore"):
        return "ignore"
    if name == ".env" or name.startswith(".env."):
        return "env"
    if name.startswith(("requirements", "constraints")) and name.endswith((".txt", ".in")):
        return "requirements"
    return _NAMES.get(name) or _SUFFIXES.get(PurePosixPath(path).suffix, "text")


@lru_cache(maxsize=64)
def parse_python(source: str) -> ast.Module | None:
    """The syntax tree of a module that Python can compile, else None.

    Python also ends a line at a lone CR, the merge only at LF: CR LF must not count twice, and a text with other CRs has
    no tree, as its line numbers would differ.
    """
    source = source.replace("\r\n", "\n")
    if "\r" in source:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source) if _compiles(source) else None
    except RecursionError:  # nested too deeply to build the tree
        return None


@lru_cache(maxsize=64)
def _compiles(source: str) -> bool:
    """Whether Python compiles a module; parsing alone accepts a `return` outside of a function or a repeated argument."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(source, "<merge>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def parses(language: Language, source: str) -> bool:
    """Whether `source` is valid; always true for a language that is not parsed here."""
    if language == "python":
        return _compiles(source)
    try:
        if language == "toml":
            tomllib.loads(source)
        elif language == "json":
            json.loads(source, object_pairs_hook=_unique_keys)
        elif language == "jsonc":
            return read_json(source) is not None
        elif language == "yaml":
            return _yaml_parses(source)
    except (ValueError, RecursionError):
        return False
    return True


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) < len(pairs):
        raise ValueError("duplicate key")
    return keys


def _yaml_parses(source: str) -> bool:
    import yaml  # a dependency of cookiecutter; slow to import, and only needed for YAML files

    try:
        documents = list(yaml.compose_all(source, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    except yaml.YAMLError:
        return False
    waiting = [node for node in documents if node is not None]
    seen: set[int] = set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:  # an alias is its anchor's node
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
            if len(set(keys)) < len(keys):
                return False
            waiting += [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value
    return True


def requirement_key(text: str) -> str | None:
    """The normalized name and the marker of a requirement, its key in a set of requirements; None for other text."""
    # Slow to import, and only some merges need it.
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    # Strip what pip allows after a requirement: a comment, options (`--hash=…`), a continuation.
    bare = re.split(r"\s(?:#|--)", text, maxsplit=1)[0].rstrip("\\ ")
    try:
        found = Requirement(bare)
    except InvalidRequirement:
        return None
    return canonicalize_name(found.name) + (f"; {found.marker}" if found.marker else "")
