"""References that a merge has broken: a file names what the merged project no longer has.

What a side has and the merged project does not (see `lost`) is searched in the files of the merged project: names in
commands, settings and strings. Usually nothing is lost, and nothing is searched.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import NamedTuple

from ..files.tree import PROJECT_FILE, File, Tree
from ..merge.text import decode
from .blame import Trees
from .finding import Finding, Place, finding_at, new_findings
from .lost import Lost, Side, dotted, find_lost, options_of, read_module
from .mentions import Mention, attributes, mentions

_PYTHON = (".py", ".pyi")


class Gone(NamedTuple):
    """Files of any kind that a side has and the merged project does not."""

    ours: frozenset[str] = frozenset()
    theirs: frozenset[str] = frozenset()


def cut_references(trees: Trees, gone: Gone) -> list[Finding]:
    """What the merged project refers to but does not have, unless the side with this reference does not have it either."""
    found: list[Finding] = []
    sides: tuple[tuple[Tree, Tree, frozenset[str], Side], ...] = (
        (trees.ours, trees.theirs, gone.ours, "template"),
        (trees.theirs, trees.ours, gone.theirs, "you"),
    )
    for side, other, paths, by in sides:
        lost = find_lost(side, trees.merged, paths, by)
        if any(lost[:-1]):
            at = {path: file for path, file in trees.merged.items() if file != other.get(path)}
            found += new_findings(_references(at, lost, side, trees.merged), _references(other, lost, side, other))
    return sorted(set(found))


def _references(files: Tree, lost: Lost, side: Tree, tree: Tree) -> Iterator[Finding]:
    """Yield every reference to what is lost.

    Args:
        files: The files to search.
        lost: What to search for.
        side: The project that had it.
        tree: The project that the files belong to.
    """
    own = {dotted(path).partition(".")[0] for path in tree if path.endswith(_PYTHON)}
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
            for attribute in attributes(file):
                if f"{attribute.module}.{attribute.name}" in lost.names:
                    yield _no_name(path, file, attribute.line, attribute.module, attribute.name)
            for package, line in read_module(file).packages if lost.packages - own else ():
                if package in lost.packages - own:
                    message = f"imports `{package}`, which the project does not require any more"
                    yield finding_at(path, file, line, "dropped-requirement", message, package)
        if path.endswith(".toml") and PurePosixPath(path).name not in {PROJECT_FILE, "ruff.toml", "ty.toml"}:
            yield from _of_settings(path, file, lost.options, side)


def _is_in(tree: Tree, nearer: PurePosixPath, script: str) -> bool:
    """Whether the file's own folder has a script of this name, which is then the one that it names."""
    return nearer.as_posix() != script and nearer.as_posix() in tree


def _of_paths(path: str, file: File, mention: Mention, paths: list[str], by: Side) -> Iterator[Finding]:
    """Files that a command or a value names, relative to the project's folder or to the file's own."""
    for gone in paths:
        spellings = {gone}
        folder = PurePosixPath(path).parent
        if folder.name and PurePosixPath(gone).is_relative_to(folder):
            spellings.add(PurePosixPath(gone).relative_to(folder).as_posix())
        if any(_names_path(mention, spelling) for spelling in spellings):
            line = _line_with(file, mention.line, PurePosixPath(gone).name)
            cause = Place(gone, 1, "", by, removed=True)
            message = f"names `{gone}`, which the project does not have"
            finding = finding_at(path, file, line, "missing-file", message, PurePosixPath(gone).name)
            yield finding._replace(cause=cause)


def _names_path(mention: Mention, path: str) -> bool:
    if path.endswith(".py") and mention.is_name and "/" not in path:
        return False  # a single word with this suffix may as well be a title, a key or a pattern
    if mention.is_name and mention.text.strip() in {path, f"./{path}"}:
        return True
    return re.search(_IN_COMMAND.format(re.escape(path)), mention.text) is not None and not _is_made(mention.text, path)


# As a whole word, optionally below a folder in a variable: `"$PWD/launch/fsdp.yaml"`, `--file=launch/fsdp.yaml`.
_IN_COMMAND = r"(?<![\w./~@:%+-])(?:\./|\$\w+/|\$\{{\w+\}}/)?{}(?![\w/*-]|\.\w)"


def _is_made(command: str, path: str) -> bool:
    """Whether a command creates or removes the file that it names, so that it need not exist."""
    there = re.escape(path)
    return bool(
        re.match(rf"\s*{there}\s*:", command)
        or re.search(
            rf">\s*(?:\./)?{there}|\b(?:rm|touch|tee|mkdir|test|wget|curl)\b.*{there}|\s-[oO]\s*{there}", command
        )
    )


def _of_names(path: str, file: File, mention: Mention, names: frozenset[str]) -> Iterator[Finding]:
    """A function, class or module that is the whole value, or a module that a command runs."""
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
    return finding_at(path, file, line, "missing-name", message, name, module.rpartition(".")[2])


def _of_options(path: str, file: File, mention: Mention, options: Mapping[str, frozenset[str]]) -> Iterator[Finding]:
    """Options that a command passes to a script of the project."""
    for command in re.split(r"&&|\|\||[;|]", mention.text):
        words = re.findall(r"[^\s\"']+", command)
        if words and words[0] in {"echo", "printf"}:
            continue
        for script, lost in options.items():
            module = dotted(script)
            start = next((place for place, word in enumerate(words) if _runs(words, place, script, module)), None)
            for word in words[start + 1 :] if start is not None else ():
                name = word.removeprefix("--").partition("=")[0].replace("-", "_")
                if word.startswith("--") and name in lost:
                    line = _line_with(file, mention.line, word.partition("=")[0])
                    message = f"passes `{word.partition('=')[0]}` to `{script}`, which has no such option"
                    yield finding_at(path, file, line, "missing-option", message, name)


def _runs(words: list[str], place: int, script: str, module: str) -> bool:
    named = re.sub(r"^(?:\./|\$\w+/|\$\{\w+\}/)", "", words[place])
    return named == script or words[max(place - 1, 0) : place + 1] == ["-m", module]


def _of_settings(path: str, file: File, options: Mapping[str, frozenset[str]], side: Tree) -> Iterator[Finding]:
    """Keys of a settings file for a script: all its keys were options of this script."""
    try:
        keys = {key.replace("-", "_"): key for key in tomllib.loads(file.content.decode("utf-8-sig"))}
    except (ValueError, RecursionError):
        return
    for script, lost in options.items():
        if keys.keys() & lost and keys.keys() <= options_of(side, script):
            for name in sorted(keys.keys() & lost):
                line = _line_with(file, 1, keys[name])
                message = f"sets `{keys[name]}`, which is not an option of `{script}`"
                yield finding_at(path, file, line, "missing-option", message, name)
            return


def _of_targets(path: str, file: File, mention: Mention, lost: Lost) -> Iterator[Finding]:
    """Targets that a command passes to `make`, and extras that it installs."""
    made = re.search(r"(?<![\w./-])make((?:\s+[\w=.-]+)+)", mention.text) if lost.targets else None
    for name in sorted({*(made[1].split() if made else ())} & lost.targets):
        line = _line_with(file, mention.line, name)
        yield finding_at(
            path, file, line, "missing-target", f"runs `make {name}`, but no Makefile has this target", name
        )
    installed = re.search(r"(?<![\w])\.\[([\w,\s-]+)\]", mention.text) if lost.extras else None
    for name in sorted({part.strip() for part in installed[1].split(",")} & lost.extras) if installed else ():
        line = _line_with(file, mention.line, name)
        message = f"installs the extra `{name}`, which the project does not have"
        yield finding_at(path, file, line, "missing-extra", message, name)


def _line_with(file: File, line: int, word: str) -> int:
    """The first line with a word, searched from `line` on; `line` if there is none."""
    lines = decode(file.content).lines
    return next((number for number, text in enumerate(lines[line - 1 :], line) if word in text), line)
