"""What the merge knows of languages: whether a text parses, what it defines, where its logical lines begin and end."""

import ast
import io
import json
import re
import tokenize
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any, Literal

Language = Literal["python", "toml", "json", "yaml", "requirements", "ignore", "commands", "text"]

_SUFFIXES: dict[str, Language] = {
    ".py": "python",
    ".pyi": "python",
    ".toml": "toml",
    ".json": "json",
    ".ipynb": "json",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".cfg": "commands",
    ".ini": "commands",
    ".sh": "commands",
    ".slurm": "commands",
    ".sbatch": "commands",
    ".mk": "commands",
    ".env": "commands",
}
_NAMES: dict[str, Language] = {"Dockerfile": "commands", "Makefile": "commands", ".gitattributes": "commands"}


def language(path: str) -> Language:
    """The language of a file, by its name."""
    name = PurePosixPath(path).name
    if name.startswith(".") and name.endswith("ignore"):
        return "ignore"
    if name.startswith(("requirements", "constraints")) and name.endswith((".txt", ".in")):
        return "requirements"
    return _NAMES.get(name) or _SUFFIXES.get(PurePosixPath(path).suffix, "text")


@lru_cache(maxsize=64)
def parse_python(source: str) -> ast.Module | None:
    """The syntax tree of a module that Python would compile, else None.

    Compiled and not only parsed: `return` outside a function or an argument named twice are found by the compiler.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
            compile(source, "<merge>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return tree


@lru_cache(maxsize=32)
def nodes(source: str) -> tuple[ast.AST, ...]:
    """Every node of a module, walked once for all questions; empty if it does not parse."""
    tree = parse_python(source)
    return walk(tree) if tree else ()


def walk(tree: ast.AST) -> tuple[ast.AST, ...]:
    """What `ast.walk` gives, in its order, without loads and stores, in a third of its time."""
    found = [tree]
    for node in found:  # which grows on the way
        for name in node._fields:
            child = getattr(node, name, None)
            if isinstance(child, list):
                found += [item for item in child if isinstance(item, ast.AST)]
            elif isinstance(child, ast.AST) and name != "ctx":
                found.append(child)
    return tuple(found)


def parses(kind: Language, source: str) -> bool:
    """Whether `source` is sound; a language that is not parsed here always is."""
    if kind == "python":
        return parse_python(source) is not None
    try:
        if kind == "toml":
            import tomllib

            tomllib.loads(source)
        elif kind == "json":
            json.loads(source, object_pairs_hook=_unique_keys)
        elif kind == "yaml":
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
    import yaml  # cookiecutter brings it; only a merge of a YAML file needs it

    try:
        documents = list(yaml.compose_all(source, yaml.SafeLoader))
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


def missing_jobs(source: str) -> set[str]:
    """Jobs of a workflow that another of its jobs needs, and that are not in it; of other YAML, none."""
    if "needs:" not in source:
        return set()
    import yaml

    try:
        whole = yaml.safe_load(source)
    except (yaml.YAMLError, ValueError):
        return set()
    jobs = whole.get("jobs") if isinstance(whole, dict) else None
    if not isinstance(jobs, dict):
        return set()
    needs = [job.get("needs") or [] for job in jobs.values() if isinstance(job, dict)]
    named = {name for need in needs for name in ([need] if isinstance(need, str) else need) if isinstance(name, str)}
    return named - jobs.keys()


def imported(source: str) -> Counter[tuple[str, str, str]]:
    """Every name that a Python text imports, wherever it does: (module, name, as).

    A text need not parse: one whose blocks were moved to follow the other side's does not, and imports all the same.
    """
    tree = parse_python(source)
    trees = [tree] if tree else [parse_python(statement) for statement in _import_statements(source)]
    found: Counter[tuple[str, str, str]] = Counter()
    for node in (node for tree in trees if tree for node in ast.walk(tree)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found.update(import_names(node))
    return found


IMPORT = re.compile(r"\s*(import\s+\w|from\s+[\w.]+\s+import\b)")
"""How a line begins that begins an import."""


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


def logical_lines(kind: Language, lines: Sequence[str]) -> list[range] | None:
    """The logical lines of a text, as ranges of its lines that cover it; None where they cannot be told.

    A statement over several lines is one; so is each blank line and each line that holds only a comment.
    """
    if kind == "python":
        return _python_lines(lines)
    if kind == "toml":
        return _toml_lines(lines)
    if kind in {"yaml", "requirements", "ignore", "commands"}:
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
    """Add a range of its own for each line between the spans."""
    covered: list[range] = []
    done = 0
    for span in [*spans, range(count, count)]:
        covered += [range(i, i + 1) for i in range(done, span.start)]
        if span:
            covered.append(span)
        done = max(done, span.stop)
    return covered
