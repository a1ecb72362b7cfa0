"""References that a merge has cut: one file names what another had, and nothing has it any more.

What the user's project had and the merged one has not is looked for in the files that are left: files, names of modules in
strings, options of scripts, targets of Makefiles, extras, and packages that are installed no longer. The same holds for
what the new render has and the merged project has not. Mostly nothing is lost, and nothing is searched.
"""

import ast
import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Literal, NamedTuple

from ..files.tree import PROJECT_FILE, File, Tree
from ..merge.languages import parse_python
from ..merge.text import decode
from .blame import Trees
from .declarations import brought_along, extras, required_packages
from .finding import MAX_TEXT, Finding, Place, new_findings
from .mentions import Mention, attributes, mentions

_PYTHON = (".py", ".pyi")
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class Gone(NamedTuple):
    """Files of any kind that a side has and the merged project has not."""

    ours: frozenset[str] = frozenset()
    theirs: frozenset[str] = frozenset()


class _Lost(NamedTuple):
    """What a side has and the merged project has not.

    Attributes:
        paths: Files.
        names: What modules define, as `module.name`, and modules of packages, as `package.module`.
        options: Scripts, each with the options that it took, written with underscores.
        targets: Targets of the Makefile.
        extras: Extras of the project itself.
        packages: Packages that it required, as they are imported: those whose module has the package's name.
        by: Who took it away.
    """

    paths: frozenset[str]
    names: frozenset[str]
    options: Mapping[str, frozenset[str]]
    targets: frozenset[str]
    extras: frozenset[str]
    packages: frozenset[str]
    by: Literal["you", "template"]


class _Module(NamedTuple):
    """What is known of a Python file without running it.

    Attributes:
        defines: The functions, classes and constants at its top.
        has: All names at its top; None if it may have any.
        options: What it takes on its command line: the fields of its dataclasses, and what it says with two dashes.
        imports: From which module it imports which names.
        loads: The classes that it fills from its command line.
        packages: The first parts of what it imports unconditionally, each with the line.
    """

    defines: frozenset[str] = frozenset()
    has: frozenset[str] | None = frozenset()
    options: frozenset[str] = frozenset()
    imports: tuple[tuple[str, str], ...] = ()
    loads: frozenset[str] = frozenset()
    packages: tuple[tuple[str, int], ...] = ()


def cut_references(trees: Trees, gone: Gone) -> list[Finding]:
    """What the merged project refers to and has no longer, and neither side refers to without having it."""
    found: list[Finding] = []
    sides: tuple[tuple[Tree, Tree, frozenset[str], Literal["you", "template"]], ...] = (
        (trees.ours, trees.theirs, gone.ours, "template"),
        (trees.theirs, trees.ours, gone.theirs, "you"),
    )
    for side, other, paths, by in sides:
        lost = _lost(side, trees.merged, paths, by)
        if any(lost[:-1]):
            at = {path: file for path, file in trees.merged.items() if file != other.get(path)}
            found += new_findings(_references(at, lost, side, trees.merged), _references(other, lost, side, other))
    return sorted(set(found))


# --- what is lost ----------------------------------------------------------------------------------------------------


def _lost(side: Tree, merged: Tree, paths: frozenset[str], by: Literal["you", "template"]) -> _Lost:
    changed = [path for path in side if side[path] != merged.get(path)]
    code = [path for path in changed if path.endswith(".py")]
    names: set[str] = set()
    options: dict[str, frozenset[str]] = {}
    for path in code:
        module = _dotted(path)
        now = _module(merged[path]) if path in merged else _Module()
        if now.has is not None:
            names |= {f"{module}.{name}" for name in _module(side[path]).defines - now.has}
    scripts = [path for path in side if path.endswith(".py") and path in merged] if code else []
    for path in scripts:
        if before := _options(side, path) - _options(merged, path):
            options[path] = before
    names |= {_dotted(path) for path in paths if path.endswith(".py") and "." in _dotted(path)}
    names -= {_dotted(path) for path in merged if path.endswith(".py")}
    makefiles = [path for path in changed if PurePosixPath(path).name in {"Makefile", "GNUmakefile", "makefile"}]
    targets = {name for path in makefiles for name in _targets(side[path])}
    targets -= {name for path in makefiles if path in merged for name in _targets(merged[path])}
    packages = frozenset[str]()
    lost_extras = frozenset[str]()
    if any(not path.endswith(_PYTHON) for path in changed):
        dropped = required_packages(side) - required_packages(merged)
        dropped -= brought_along(merged) if dropped else frozenset()
        packages = frozenset(name.replace("-", "_") for name in dropped)
        lost_extras = extras(side) - extras(merged)
    return _Lost(paths, frozenset(names), options, frozenset(targets), lost_extras, packages, by)


def _dotted(path: str) -> str:
    """The module of a file, as `import` names it from the project's folder or from `src`."""
    parts = PurePosixPath(path).with_suffix("").parts
    parts = parts[1:] if parts[0] == "src" and len(parts) > 1 else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _targets(file: File) -> set[str]:
    return set(re.findall(r"(?m)^([\w-]+)\s*:(?!=)", "\n".join(decode(file.content).lines)))


def _options(tree: Tree, path: str) -> frozenset[str]:
    """The options of a script, those of a dataclass that it imports and fills included."""
    module = _module(tree[path])
    found = set(module.options)
    for source, name in module.imports:
        other = tree.get(f"{source.replace('.', '/')}.py")
        if other is not None and other is not tree[path] and name in module.loads:
            found |= _module(other).options
    return frozenset(found)


@lru_cache(maxsize=1024)
def _module(file: File) -> _Module:
    tree = parse_python("\n".join(decode(file.content).lines))
    if tree is None:
        return _Module(has=None)
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
    return _Module(
        frozenset(defines),
        None if anything or "*" in has else frozenset(has | defines),
        frozenset(options),
        tuple(imports),
        frozenset(loads),
        tuple(sorted(packages.items())),
    )


def _statements(node: ast.stmt) -> Iterator[ast.stmt]:
    """A statement at a module's top, and those in its blocks that are at the top all the same."""
    yield node
    if not isinstance(node, _DEFINITIONS):
        for inner in ast.iter_child_nodes(node):
            if isinstance(inner, ast.stmt):
                yield from _statements(inner)
            elif isinstance(inner, ast.ExceptHandler):
                yield from (found for one in inner.body for found in _statements(one))


def _may_fail(node: ast.AST) -> bool:
    """Whether an import in a statement may fail, or does not happen when the program runs."""
    return isinstance(node, ast.Try) or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))


# --- who refers to it ------------------------------------------------------------------------------------------------


def _references(files: Tree, lost: _Lost, side: Tree, tree: Tree) -> Iterator[Finding]:
    """Every reference of some files to what is lost.

    Args:
        files: Where to look.
        lost: What to look for.
        side: The project that had it.
        tree: The project that the files are of.
    """
    own = {_dotted(path).partition(".")[0] for path in tree if path.endswith(_PYTHON)}
    words = {word.encode() for word in (*lost.names, *lost.targets, *lost.extras, *lost.packages)}
    words = {re.split(rb"[.]", word)[-1] for word in words} | {PurePosixPath(path).name.encode() for path in lost.paths}
    for names in lost.options.values():
        words |= {name.encode() for name in names} | {name.replace("_", "-").encode() for name in names}
    for path, file in files.items():
        if not any(word in file.content for word in words):
            continue
        paths = [gone for gone in sorted(lost.paths) if PurePosixPath(gone).name.encode() in file.content]
        folder = PurePosixPath(path).parent
        options = {script: names for script, names in lost.options.items() if not _is_in(tree, folder / script, script)}
        for mention in mentions(path, file):
            yield from _of_paths(path, file, mention, paths, lost.by)
            yield from _of_names(path, file, mention, lost.names)
            yield from _of_options(path, file, mention, options)
            yield from _of_targets(path, file, mention, lost)
        if path.endswith(_PYTHON):
            for asked in attributes(file):
                if f"{asked.module}.{asked.name}" in lost.names:
                    yield _no_name(path, file, asked.line, asked.module, asked.name)
            for package, line in _module(file).packages if lost.packages - own else ():
                if package in lost.packages - own:
                    message = f"imports `{package}`, which the project does not require any more"
                    yield _finding(path, file, line, "dropped-requirement", message, package)
        if path.endswith(".toml") and PurePosixPath(path).name not in {PROJECT_FILE, "ruff.toml", "ty.toml"}:
            yield from _of_settings(path, file, lost.options, side)


def _is_in(tree: Tree, nearer: PurePosixPath, script: str) -> bool:
    """Whether a file's own folder has a script of that name, which is the one that it means."""
    return nearer.as_posix() != script and nearer.as_posix() in tree


def _finding(path: str, file: File, line: int, rule: str, message: str, *names: str) -> Finding:
    lines = decode(file.content).lines
    text = lines[line - 1].strip()[:MAX_TEXT] if 0 < line <= len(lines) else ""
    return Finding(path, line, "paccel", rule, message, text, names)


def _of_paths(
    path: str, file: File, mention: Mention, paths: list[str], by: Literal["you", "template"]
) -> Iterator[Finding]:
    """Files that a command or a value names, from the project's folder or from the file's own."""
    for gone in paths:
        spellings = {gone}
        folder = PurePosixPath(path).parent
        if folder.name and PurePosixPath(gone).is_relative_to(folder):
            spellings.add(PurePosixPath(gone).relative_to(folder).as_posix())
        if any(_names_path(mention, spelling) for spelling in spellings):
            line = _line_with(file, mention.line, PurePosixPath(gone).name)
            cause = Place(gone, 1, "", by, removed=True)
            finding = _finding(path, file, line, "missing-file", f"names `{gone}`, which the project does not have")
            yield finding._replace(names=(PurePosixPath(gone).name,), cause=cause)


def _names_path(mention: Mention, path: str) -> bool:
    if path.endswith(".py") and mention.is_name and "/" not in path:
        return False  # a lone word with such an end is as often a title, a key or a pattern
    if mention.is_name and mention.text.strip() in {path, f"./{path}"}:
        return True
    return re.search(_IN_COMMAND.format(re.escape(path)), mention.text) is not None and not _is_made(mention.text, path)


# As a word of its own, perhaps below a folder that a variable names: `"$PWD/launch/fsdp.yaml"`, `--file=launch/fsdp.yaml`.
_IN_COMMAND = r"(?<![\w./~@:%+-])(?:\./|\$\w+/|\$\{{\w+\}}/)?{}(?![\w/*-]|\.\w)"


def _is_made(command: str, path: str) -> bool:
    """Whether a command writes or removes the file that it names, so that it need not be there."""
    there = re.escape(path)
    return bool(
        re.match(rf"\s*{there}\s*:", command)
        or re.search(
            rf">\s*(?:\./)?{there}|\b(?:rm|touch|tee|mkdir|test|wget|curl)\b.*{there}|\s-[oO]\s*{there}", command
        )
    )


def _of_names(path: str, file: File, mention: Mention, names: frozenset[str]) -> Iterator[Finding]:
    """A function, a class or a module as a whole value, or a module that a command runs."""
    if mention.is_name:
        target = mention.text.strip().replace(":", ".", 1)
        parts = target.split(".")
        found = {".".join(parts[:end]) for end in range(2, len(parts) + 1)} & names
    else:
        found = {found.replace(":", ".") for found in re.findall(r"(?<![\w./-])[\w.]+:\w+(?![\w.])", mention.text)}
        found |= {*re.findall(r"\bpython3?\s+-m\s+([\w.]+)", mention.text)}
        found &= names
    for name in sorted(found):
        module, _, last = name.rpartition(".")
        yield _no_name(path, file, _line_with(file, mention.line, last), module, last)


def _no_name(path: str, file: File, line: int, module: str, name: str) -> Finding:
    message = f"names `{module}.{name}`, but `{module}` has no `{name}`"
    return _finding(path, file, line, "missing-name", message, name, module.rpartition(".")[2])


def _of_options(path: str, file: File, mention: Mention, options: Mapping[str, frozenset[str]]) -> Iterator[Finding]:
    """Options that a command passes to a script of the project."""
    for command in re.split(r"&&|\|\||[;|]", mention.text):
        words = re.findall(r"[^\s\"']+", command)
        if words and words[0] in {"echo", "printf"}:
            continue
        for script, lost in options.items():
            module = _dotted(script)
            start = next((place for place, word in enumerate(words) if _runs(words, place, script, module)), None)
            for word in words[start + 1 :] if start is not None else ():
                name = word.removeprefix("--").partition("=")[0].replace("-", "_")
                if word.startswith("--") and name in lost:
                    line = _line_with(file, mention.line, word.partition("=")[0])
                    message = f"passes `{word.partition('=')[0]}` to `{script}`, which has no such option"
                    yield _finding(path, file, line, "missing-option", message, name)


def _runs(words: list[str], place: int, script: str, module: str) -> bool:
    named = re.sub(r"^(?:\./|\$\w+/|\$\{\w+\}/)", "", words[place])
    return named == script or words[max(place - 1, 0) : place + 1] == ["-m", module]


def _of_settings(path: str, file: File, options: Mapping[str, frozenset[str]], side: Tree) -> Iterator[Finding]:
    """Keys of a settings file whose keys were all options of one script."""
    try:
        keys = {key.replace("-", "_"): key for key in tomllib.loads(file.content.decode("utf-8-sig"))}
    except (ValueError, RecursionError):
        return
    for script, lost in options.items():
        if keys.keys() & lost and keys.keys() <= _options(side, script):
            for name in sorted(keys.keys() & lost):
                line = _line_with(file, 1, keys[name])
                message = f"sets `{keys[name]}`, which `{script}` does not have"
                yield _finding(path, file, line, "missing-option", message, name)
            return


def _of_targets(path: str, file: File, mention: Mention, lost: _Lost) -> Iterator[Finding]:
    """Targets that a command makes, and extras that it installs."""
    made = re.search(r"(?<![\w./-])make((?:\s+[\w=.-]+)+)", mention.text) if lost.targets else None
    for name in sorted({*(made[1].split() if made else ())} & lost.targets):
        line = _line_with(file, mention.line, name)
        yield _finding(path, file, line, "missing-target", f"makes `{name}`, which no Makefile has", name)
    installed = re.search(r"(?<![\w])\.\[([\w,\s-]+)\]", mention.text) if lost.extras else None
    for name in sorted({part.strip() for part in installed[1].split(",")} & lost.extras) if installed else ():
        line = _line_with(file, mention.line, name)
        message = f"installs the extra `{name}`, which the project does not have"
        yield _finding(path, file, line, "missing-extra", message, name)


def _line_with(file: File, line: int, word: str) -> int:
    """The first line from one on that has a word; that line itself, if none has."""
    lines = decode(file.content).lines
    return next((number for number, text in enumerate(lines[line - 1 :], line) if word in text), line)
