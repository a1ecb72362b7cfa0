"""Find questions that nothing reads, and names that nothing defines."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from jinja2 import meta, nodes

from ..errors import did_you_mean
from .finding import Finding
from .sources import Sources, github

_SET_BY_COOKIECUTTER = {"_template", "_output_dir", "_repo_dir", "_checkout"}
_METHODS = {"items", "keys", "values", "get", "copy", "update", "pop", "setdefault"}
_SET_BY_JINJA = {"cookiecutter", "_cookiecutter", "self", "super", "caller", "varargs", "kwargs", "loop"}


class Reference(NamedTuple):
    """A place that reads an answer. `guarded`: the answer may be undefined there."""

    name: str
    line: int
    guarded: bool


def references(tree: nodes.Node) -> Iterator[Reference]:
    """Yield the members of `cookiecutter` that a text reads; the name is empty if it is known only at render time."""
    guarded = _guarded(tree)
    inner: set[int] = set()
    reads: list[nodes.Getattr | nodes.Getitem] = [*tree.find_all(nodes.Getattr), *tree.find_all(nodes.Getitem)]
    for read in reads:
        if not _is_context(read.node):
            continue
        inner.add(id(read.node))
        name = read.attr if isinstance(read, nodes.Getattr) else getattr(read.arg, "value", "")
        if name not in _METHODS:
            yield Reference(str(name), read.lineno, id(read) in guarded)
    for call in tree.find_all(nodes.Call):
        method = call.node
        if isinstance(method, nodes.Getattr) and _is_context(method.node) and method.attr in _METHODS:
            first = getattr(call.args[0], "value", "") if call.args and method.attr == "get" else ""
            yield Reference(str(first), call.lineno, True)
    for whole in tree.find_all(nodes.Name):
        if _is_context(whole) and id(whole) not in inner:
            yield Reference("", whole.lineno, True)


def check_names(sources: Sources) -> Iterator[Finding]:
    """Find questions that nothing reads, and names that nothing defines."""
    template = sources.template
    used: set[str] = set()
    known = {*template.entries, *_SET_BY_COOKIECUTTER, *_added(sources)}
    for source in sources.texts:
        if source.tree is None:
            used |= {name for name in template.entries if source.kind == "path" and name in source.text}
            continue
        reported: set[str] = set()  # each name once per file
        for found in sorted(references(source.tree), key=lambda one: one.line):
            used.add(found.name)
            unknown = found.name not in known | {*source.layer.entries} | reported
            if found.name and not found.guarded and unknown:
                reported.add(found.name)
                yield Finding(
                    "undefined-name",
                    source.path,
                    source.at(found.line),
                    f"`cookiecutter.{found.name}` is not a question or variable{did_you_mean(found.name, known)}",
                )
    yield from _free_names(sources)
    if "" in used:
        return  # some text reads all of them, as in a loop
    used |= _used_elsewhere(sources)
    for question in template.questions:
        if question.name not in used and not question.is_folder:
            path, line = sources.entry(question.name)
            yield Finding(
                "unused-question",
                path,
                line,
                f"the answer to `{question.name}` changes nothing: use it, or remove the question",
                question.name,
            )


def _added(sources: Sources) -> Iterator[str]:
    """Yield names that files add to `cookiecutter`: `cookiecutter.update({"seen": …})`."""
    for source in sources.texts:
        for call in source.tree.find_all(nodes.Call) if source.tree is not None else ():
            if isinstance(call.node, nodes.Getattr) and _is_context(call.node.node):
                yield from (pair.key for pair in call.kwargs)
                constants = [part for argument in call.args for part in [argument, *argument.find_all(nodes.Const)]]
                yield from (str(part.value) for part in constants if isinstance(part, nodes.Const))


def _free_names(sources: Sources) -> Iterator[Finding]:
    anywhere = {name for source in sources.texts for name in _assigned(source.tree)}
    for source in sources.texts:
        if source.tree is None:
            continue
        known = {*sources.environment(source.layer).globals, *_SET_BY_JINJA}
        # A partial sees what the files that include it assign.
        assigned = anywhere if source.kind == "partial" else {*_assigned(source.tree)}
        free = meta.find_undeclared_variables(source.tree) - known - assigned
        for name in sorted(free):
            line = _line_of_name(source.tree, name)
            if line is None:
                continue
            text = source.text.splitlines()[line - 1] if line <= len(source.text.splitlines()) else ""
            if re.search(rf"\$\{{\{{[^}}]*\b{re.escape(name)}\b", text):
                yield Finding("not-jinja", source.path, source.at(line), github(text))
                continue
            hint = f"; did you mean `cookiecutter.{name}`?" if name in sources.template.entries else ""
            yield Finding("undefined-name", source.path, source.at(line), f"`{name}` is not defined{hint}")


def _line_of_name(tree: nodes.Template, name: str) -> int | None:
    """Return the first line that reads a name; None if the text tests whether it is defined."""
    guarded = _guarded(tree)
    found = [node for node in tree.find_all(nodes.Name) if node.name == name and node.ctx == "load"]
    if any(id(node) in guarded for node in found):
        return None
    return min((node.lineno for node in found), default=None)


def _guarded(tree: nodes.Node) -> set[int]:
    """Return the ids of the nodes that may be undefined: the text tests for it, or has a default."""
    tests = {"defined", "undefined", "default", "d"}
    return {id(node.node) for node in tree.find_all((nodes.Test, nodes.Filter)) if node.name in tests}


def _assigned(tree: nodes.Template | None) -> Iterator[str]:
    """Yield the names that a text assigns, imports or defines anywhere."""
    if tree is None:
        return
    yield from (name.name for name in tree.find_all(nodes.Name) if name.ctx in {"store", "param"})
    yield from (macro.name for macro in tree.find_all(nodes.Macro))
    yield from (module.target for module in tree.find_all(nodes.Import))
    for module in tree.find_all(nodes.FromImport):
        yield from (name if isinstance(name, str) else name[1] for name in module.names)


def _used_elsewhere(sources: Sources) -> set[str]:
    """Return the names that conditions of extras and questions read, and cookiecutter's hooks."""
    template = sources.template
    used = {name for extra, _ in template.extras for name in extra.when}
    for question in template.questions:
        for condition in (question.settings.when, question.settings.validator):
            if isinstance(condition, str):
                used |= {*re.findall(r"\w+", condition)}
            else:
                used |= {*condition}
    hooks = sources.folder / "hooks"
    if hooks.is_dir():
        for path in hooks.rglob("*"):
            if path.is_file():
                used |= {*re.findall(r"\w+", path.read_text(encoding="utf-8", errors="replace"))}
    return used


def _is_context(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Name) and node.name in {"cookiecutter", "_cookiecutter"}
