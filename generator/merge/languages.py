"""What the merge knows of languages: whether a text parses, what it imports, where its logical lines begin and end."""

import ast
import io
import json
import re
import tokenize
import tomllib
import warnings
from collections.abc import Iterator, Sequence
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


@lru_cache(maxsize=64)
def imported(source: str) -> frozenset[tuple[str, str, str]]:
    """Every name that a Python text imports, anywhere in it: (module, name, as).

    The text need not parse: where blocks were moved to follow the other side's, it may not.
    """
    tree = parse_python(source)
    trees = [tree] if tree else [parse_python(statement) for statement in _import_statements(source)]
    found: set[tuple[str, str, str]] = set()
    for node in (node for tree in trees if tree for node in ast.walk(tree)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found.update(import_names(node))
    return frozenset(found)


IMPORT = re.compile(r"\s*(import\s+\w|from\s+[\w.]+\s+import\b)")
"""The beginning of the first line of an import."""


def _import_statements(source: str) -> Iterator[str]:
    statement: list[str] = []
    for line in source.splitlines():
        if statement or IMPORT.match(line):
            statement.append(line.strip())
            code = "\n".join(statement)
            if code.count("(") <= code.count(")") and not line.endswith("\\"):
                yield code
                statement = []


def import_names(node: ast.Import | ast.ImportFrom) -> list[tuple[str, str, str]]:
    """The names of one import statement, as (module, name, as); `import a` has an empty name."""
    if isinstance(node, ast.Import):
        return [(alias.name, "", alias.asname or "") for alias in node.names]
    module = "." * node.level + (node.module or "")
    return [(module, alias.name, alias.asname or "") for alias in node.names]


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


def logical_lines(language: Language, lines: Sequence[str]) -> list[range] | None:
    """The logical lines of a text, as ranges that cover all its lines; None where they cannot be found.

    A statement over several lines is one; so is each blank line and each line that holds only a comment.
    """
    if language == "python":
        return _python_lines(lines)
    if language == "toml":
        return _toml_lines(lines)
    if language in {"yaml", "requirements", "ignore", "commands", "ini", "env", "make"}:
        return _continued_lines(lines)
    return None


def _python_lines(lines: Sequence[str]) -> list[range] | None:
    spans: list[range] = []
    begin: int | None = None
    skipped = {tokenize.NL, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    try:
        for token in tokenize.generate_tokens(io.StringIO("".join(line + "\n" for line in lines)).readline):
            if token.type == tokenize.NEWLINE and begin is not None:
                spans.append(range(begin, token.end[0]))
                begin = None
            elif begin is None and token.type not in skipped and token.type != tokenize.NEWLINE:
                begin = token.start[0] - 1
    except (tokenize.TokenError, SyntaxError):
        return None
    return _covered(spans, len(lines)) if begin is None else None


def _toml_lines(lines: Sequence[str]) -> list[range] | None:
    spans: list[range] = []
    depth = begin = 0
    for number, line in enumerate(lines):
        if '"""' in line or "'''" in line:
            return None
        bare = re.sub(r'"(?:\\.|[^"\\])*"|\'[^\']*\'', "", line).partition("#")[0]
        if depth == 0:
            begin = number
            if bare.lstrip().startswith("["):  # a table's head, whose brackets close on the line
                continue
        depth += bare.count("[") + bare.count("{") - bare.count("]") - bare.count("}")
        if depth == 0 and number > begin:
            spans.append(range(begin, number + 1))
    return _covered(spans, len(lines)) if depth == 0 else None


def _continued_lines(lines: Sequence[str]) -> list[range]:
    spans: list[range] = []
    begin = 0
    for number, line in enumerate(lines):
        if not line.endswith("\\"):
            spans.append(range(begin, number + 1))
            begin = number + 1
    return _covered(spans, len(lines))


def _covered(spans: list[range], count: int) -> list[range]:
    """Add a range for each single line between the spans."""
    covered: list[range] = []
    done = 0
    for span in [*spans, range(count, count)]:
        covered += [range(i, i + 1) for i in range(done, span.start)]
        if span:
            covered.append(span)
        done = max(done, span.stop)
    return covered
