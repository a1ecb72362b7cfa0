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
    """The language of a file, by its name."""
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
    """The syntax tree of a module that Python would compile, else None.

    Python counts a line also where CR stands alone, and lines here end with LF: one that ends with CR CR LF must not count
    twice, and a text with CR within its lines has no tree.
    """
    source = source.replace("\r\n", "\n")
    if "\r" in source:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source) if _compiles(source) else None
    except RecursionError:  # the tree is deeper than Python lets its own objects be
        return None


@lru_cache(maxsize=64)
def _compiles(source: str) -> bool:
    """Whether Python compiles a module.

    Compiled and not only parsed: `return` outside a function or an argument named twice are found by the compiler.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(source, "<merge>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def parses(language: Language, source: str) -> bool:
    """Whether `source` is valid; text in a language that is not parsed here always is."""
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
        raise ValueError("a key stands twice in one object")
    return keys


def _yaml_parses(source: str) -> bool:
    import yaml  # cookiecutter brings it; slow to import, and only a merge of a YAML file needs it

    try:
        documents = list(yaml.compose_all(source, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    except yaml.YAMLError:
        return False
    waiting = [node for node in documents if node is not None]
    seen: set[int] = set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:  # an alias leads back to its anchor
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
    """The normal name and the marker of a requirement, which together may stand once in a set; None for other text."""
    # Slow to import, and only some merges need it.
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    # pip's comments, options of one requirement (`--hash=…`) and continued lines.
    bare = re.split(r"\s(?:#|--)", text, maxsplit=1)[0].rstrip("\\ ")
    try:
        found = Requirement(bare)
    except InvalidRequirement:
        return None
    return canonicalize_name(found.name) + (f"; {found.marker}" if found.marker else "")
