"""Where a file mentions something in another: commands, values of settings, and strings in Python code.

Comments and prose do not count: nothing breaks if they are wrong.
"""

import ast
import json
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from ..files.tree import File
from ..merge.languages import parse_python
from ..merge.text import decode

_SCRIPTS = (".sh", ".bash", ".sbatch", ".slurm", ".mk")
_SCRIPT_NAMES = {"makefile", "gnumakefile", "justfile", "dockerfile", "containerfile", "procfile"}
_CONFIGS = (".yml", ".yaml", ".json", ".toml")
# Values under these keys are for people, or name files to leave out, which may be missing.
_NOT_FOLLOWED = re.compile(
    r"title|name|description|comment|label|help|note|text|message|.*exclude.*|.*ignore.*|omit|paths|known.first.party",
    re.I,
)
_MAX_NODES = 20_000


class Mention(NamedTuple):
    """A text that may name something in the project.

    Attributes:
        line: Counted from 1.
        text: A command, a value of a setting or a string in code.
        is_name: Whether the whole text may be a name; not for a command.
    """

    line: int
    text: str
    is_name: bool


class Attribute(NamedTuple):
    """An attribute of a module that code names by a string, like `getattr(import_module("model"), "make")`."""

    line: int
    module: str
    name: str


def is_text_with_mentions(path: str) -> bool:
    """Whether a file other than Python can mention something in another file."""
    name = PurePosixPath(path).name.lower()
    return (
        name.endswith((*_SCRIPTS, *_CONFIGS, ".dockerfile"))
        or name.partition(".")[0] in _SCRIPT_NAMES
        or is_readme(path)
    )


def is_readme(path: str) -> bool:
    """Whether a file is a README: only its code blocks count, and nothing refers to it."""
    return PurePosixPath(path).name.lower().startswith("readme.")


def mentions(path: str, file: File) -> tuple[Mention, ...]:
    """The mentions in a file, in order; none if it does not parse."""
    name = PurePosixPath(path).name.lower()
    kind = next((suffix for suffix in (".py", ".pyi", ".ipynb", *_CONFIGS) if name.endswith(suffix)), "script")
    return _mentions("readme" if is_readme(path) else kind, file)


@lru_cache(maxsize=256)
def _mentions(kind: str, file: File) -> tuple[Mention, ...]:
    lines = decode(file.content).lines
    if kind in {".yml", ".yaml", ".json"}:
        return tuple(_of_nodes(_compose(file.content), set()))
    if kind == ".toml":
        return tuple(_of_toml(lines))
    if kind in {".py", ".pyi"}:
        return tuple(_of_code("\n".join(lines)))
    if kind == ".ipynb":
        return tuple(
            found._replace(line=line)
            for line, code in _cells(file.content)
            for found in (*_of_code(re.sub(r"(?m)^[ \t]*[%!?].*$", "", code)), *_of_magic(code))
        )
    return tuple(_of_commands(_fenced(lines) if kind == "readme" else [*enumerate(lines, 1)]))


# --- commands --------------------------------------------------------------------------------------------------------


def _of_commands(lines: list[tuple[int, str]]) -> Iterator[Mention]:
    """The commands of a script; a backslash continues a line."""
    begin, joined = 0, ""
    for number, line in lines:
        begin = begin if joined else number
        bare = re.sub(r"(^|\s)#.*", "", line).rstrip()
        joined += bare.removesuffix("\\")
        if bare.endswith("\\"):
            joined += " "
        elif joined.strip():
            yield Mention(begin, joined, False)
            joined = ""
        else:
            joined = ""


def _fenced(lines: tuple[str, ...]) -> list[tuple[int, str]]:
    """The lines in the code blocks of a README, with their numbers."""
    inside, found = False, []
    for number, line in enumerate(lines, 1):
        if re.match(r"\s*(```|~~~)", line):
            inside = not inside
        elif inside:
            found.append((number, re.sub(r"^\s*\$ ", "", line)))
    return found


def _of_magic(code: str) -> Iterator[Mention]:
    for line in code.splitlines():
        if line.lstrip().startswith("!"):
            yield Mention(0, line.lstrip()[1:], False)


# --- settings --------------------------------------------------------------------------------------------------------


def _compose(content: bytes) -> Any:
    """The nodes of a YAML file; JSON is YAML too."""
    import yaml  # a dependency of cookiecutter; slow to import, and few upgrades need it

    try:
        return yaml.compose(content.replace(b"\t", b" "), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError, RecursionError):
        return None


def _of_nodes(node: Any, seen: set[int]) -> Iterator[Mention]:
    """The values in a node: each on its own, and a list joined too, as it may be a command."""
    if node is None or id(node) in seen or len(seen) > _MAX_NODES:
        return
    seen.add(id(node))  # an alias is its anchor's node
    begin = node.start_mark.line + 1
    if isinstance(node.value, str):
        if "\n" in node.value:
            yield from _of_commands([*enumerate(node.value.split("\n"), begin + 1)])
        else:
            yield Mention(begin, node.value, True)
        return
    for item in node.value:
        key, part = item if isinstance(item, tuple) else (None, item)
        if key is None or not _NOT_FOLLOWED.fullmatch(str(key.value)):
            yield from _of_nodes(part, seen)
    words = [item.value for item in node.value if not isinstance(item, tuple) and isinstance(item.value, str)]
    if len(words) > 1 and len(words) == len(node.value):
        yield Mention(begin, " ".join(words), False)


def _of_toml(lines: tuple[str, ...]) -> Iterator[Mention]:
    key = ""
    for number, line in enumerate(lines, 1):
        if found := re.match(r"\s*([\w.\"'-]+)\s*=", line):
            key = found[1].strip("\"'")
        if _NOT_FOLLOWED.fullmatch(key):
            continue
        for quoted in re.findall(r""""([^"\\]*)"|'([^']*)'""", line.partition("=")[2] if found else line):
            yield Mention(number, "".join(quoted), True)


# --- Python ----------------------------------------------------------------------------------------------------------


def _of_code(source: str) -> Iterator[Mention]:
    tree = parse_python(source)
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, (ast.List, ast.Tuple)):
            words = [_word(part) for part in node.elts]
            if any(word.endswith(".py") for word in words):
                yield Mention(node.lineno, " ".join(words), False)
        if not isinstance(node, ast.Expr) and not (isinstance(node, ast.Call) and _prints(node)):
            for part in ast.iter_child_nodes(node):
                if isinstance(part, ast.Constant) and isinstance(part.value, str) and "\n" not in part.value:
                    yield Mention(part.lineno, part.value, True)


def _prints(call: ast.Call) -> bool:
    """Whether a call prints or logs its arguments, or names a logger."""
    return re.search(r"print|log|warn|info|debug", ast.unparse(call.func).rpartition(".")[2], re.I) is not None


def _word(node: ast.expr) -> str:
    """A word in a list that may be a command; for an f-string, the text before its first value."""
    if isinstance(node, ast.JoinedStr):
        node = node.values[0] if node.values else node
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else "?"


def _cells(content: bytes) -> list[tuple[int, str]]:
    """The code cells of a notebook: (line where the cell starts in the file, code)."""
    try:
        cells = json.loads(content)["cells"]
        codes = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []
    text, place, found = content.decode(errors="replace"), 0, []
    for code in codes:
        first = json.dumps(code.split("\n")[0], ensure_ascii=False)[:-1]
        place = max(text.find(first, place), place)
        found.append((text.count("\n", 0, place) + 1, code))
    return found


@lru_cache(maxsize=256)
def attributes(file: File) -> tuple[Attribute, ...]:
    """The attributes of modules that a Python file names by a string, without a default."""
    if not re.search(rb"getattr|setattr|delattr|\.object", file.content):
        return ()
    tree = parse_python("\n".join(decode(file.content).lines))
    if tree is None:
        return ()
    modules: dict[str, str] = {}
    calls = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.Assign) and (module := _imported(node.value)):
            modules |= {target.id: module for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.Call) and len(node.args) >= 2 and not node.keywords:
            calls.append(node)
    found = []
    for call in calls:
        target, name = call.args[:2]
        function = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
        # pytest's `monkeypatch.setattr` and mock's `patch.object` fail if the attribute does not exist.
        fails = len(call.args) == 2 if isinstance(call.func, ast.Name) else True
        if function in {"getattr", "setattr", "delattr", "object"} and fails and isinstance(name, ast.Constant):
            module = modules.get(ast.unparse(target), "") or _imported(target)
            if module and isinstance(name.value, str):
                found.append(Attribute(call.lineno, module, name.value))
    return tuple(found)


def _imported(node: ast.expr) -> str:
    """The name of the module that an `import_module("…")` returns; empty for any other expression."""
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        value = node.args[0].value
        return value if name in {"import_module", "__import__"} and isinstance(value, str) else ""
    return ""
