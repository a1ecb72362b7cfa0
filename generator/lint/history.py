"""Find changes since an earlier version of a template that have to be declared for existing projects."""

import ast
import re
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from ..catalog.answers import resolve_answers
from ..catalog.metadata import METADATA_FILE
from ..catalog.migrate import carry_answers
from ..catalog.template import Template
from ..errors import PaccelError
from ..fetch.nested import CONTEXT_FILE
from ..files.tree import File
from ..render.render import render
from ..upgrade.moves import template_moves
from .finding import Finding
from .sources import Sources, all_layers

PROJECT = "my-project"

_EXPRESSION = "…"
"""Replaces a Jinja expression in a path."""

UNITS = (
    {
        "ms": "milliseconds",
        "milliseconds": "",
        "microseconds": "",
        "seconds": "",
        "minutes": "",
        "hours": "",
        "days": "",
    },
    {"percent": "", "%": "percent", "fraction": "", "share": "fraction", "ratio": "fraction"},
    {"sum": "", "summed": "sum", "mean": "", "average": "mean", "averaged": "mean", "median": ""},
    {"radians": "", "degrees": ""},
    {"bits": "", "bytes": "", "kib": "", "mib": "", "gib": "", "kb": "", "mb": "", "gb": ""},
    {"samples": "", "batches": "", "steps": "", "epochs": "", "tokens": "", "pixels": ""},
    {"mm": "", "cm": "", "metres": "", "meters": "metres", "km": ""},
)
"""Units that exclude each other: word -> the word that it is a synonym of; empty if it is none."""


def check_history(sources: Sources, old: Template) -> Iterator[Finding]:
    """Find renames and changes of meaning since `old` that the template does not declare."""
    new = sources.template
    yield from _check_questions(sources, old)
    try:
        answers = resolve_answers(old, {}, project_name=PROJECT, checked=False)
        before = render(old, answers)
        after = render(new, carry_answers(answers, new, {})[0])
    except PaccelError:
        return  # `check_renders` reports it
    moves = template_moves(_unrendered(old), _unrendered(new), [])
    for was, now in moves.items():
        if not any(fnmatchcase(move.old, was.replace(_EXPRESSION, "*")) for move in new.metadata.moved):
            text = f"`{was}` seems to have been renamed to `{now}`: declare it with `[[moved]]`, so that users' edits follow reliably"
            yield Finding("undeclared-move", METADATA_FILE, 1, text, now)
    rendered_moves = template_moves(before, after, [(move.old, move.new) for move in new.metadata.moved])
    meanings = _new_meanings(old, new)
    for path, file in before.items():
        place = rendered_moves.get(path, path)
        if path.endswith(".py") and place in after:
            yield from _check_meaning(path, file, place, after[place], meanings)


def _check_questions(sources: Sources, old: Template) -> Iterator[Finding]:
    new = sources.template
    today = {question.name: question for question in new.questions}
    renamed = {one.old: one for one in new.metadata.renamed_answers}
    for question in old.questions:
        name = question.name
        rename = renamed.get(name)
        if name not in today and rename is None and name not in new.metadata.dropped_answers:
            text = f"the question `{name}` was removed: declare it with `[[renamed_answers]]` or `[[dropped_answers]]`"
            yield Finding("removed-question", CONTEXT_FILE, 1, text, name)
            continue
        now = today.get(rename.new if rename is not None and name not in today else name)
        if now is None or not question.choices or not now.choices:
            continue
        if any("{" in choice for choice in (*now.choices, *question.choices)):
            continue  # choices that are rendered
        values = rename.values if rename is not None else {}
        gone = [choice for choice in question.choices if choice not in now.choices and choice not in values]
        if gone:
            path, line = sources.entry(now.name)
            shown = ", ".join(f"`{choice}`" for choice in gone)
            text = (
                f"`{now.name}` no longer has {shown}, so projects with that answer cannot be upgraded: declare the new"
                f" answer in `values` of a `[[renamed_answers]]` from `{name}` to `{now.name}`"
            )
            yield Finding("removed-choice", path, line, text, now.name)


def _unrendered(template: Template) -> dict[str, File]:
    """Return the unrendered files of all layers, by their paths without conditions."""
    return {
        re.sub(r"\{\{.*?\}\}", _EXPRESSION, re.sub(r"\{%.*?%\}", "", path)): file
        for layer in all_layers(template)
        for path, file in layer.project.items()
    }


def _new_meanings(old: Template, new: Template) -> list[str]:
    """Return the names that `new` declares as `[[changed_meaning]]`, and `old` did not."""
    known = _declared_meanings(old)
    return [name for name, entry in _declared_meanings(new).items() if known.get(name) != entry]


def _declared_meanings(template: Template) -> dict[str, str]:
    found: dict[str, str] = {}
    for layer in all_layers(template):
        if METADATA_FILE in layer.head:
            found |= meanings_in(layer.head[METADATA_FILE].content.decode("utf-8-sig"))
    return found


def meanings_in(text: str) -> dict[str, str]:
    """Return the `[[changed_meaning]]` entries of a `paccel.toml`: name -> the entry as text."""
    try:
        data: dict[str, Any] = tomllib.loads(text)
    except ValueError:
        return {}
    entries = data.get("changed_meaning", [])
    tables = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    return {str(entry["name"]): repr(sorted(entry.items(), key=str)) for entry in tables if "name" in entry}


def _check_meaning(was: str, before: File, path: str, after: File, meanings: list[str]) -> Iterator[Finding]:
    """Compare the defaults and the documented units of a Python file before and after."""
    old, new = _documented(was, before), _documented(path, after)
    for name in old.keys() & new.keys():
        if any(_is_named(name, declared) for declared in meanings):
            continue
        first, second = old[name], new[name]
        if first.default != second.default and first.default and second.default:
            text = (
                f"the default of `{name}` changed from `{first.default}` to `{second.default}`: declare it with"
                " `[[changed_meaning]]`, so that an upgrade shows users where they rely on it"
            )
            yield Finding("changed-default", path, second.line, text, name)
        lost, gained = _units(first.text), _units(second.text)
        for one, other in zip(lost, gained, strict=True):
            if one - other and other - one:
                text = (
                    f"the documentation of `{name}` says {_listed(other - one)} instead of {_listed(one - other)}: if the"
                    " meaning changed, declare it with `[[changed_meaning]]`"
                )
                yield Finding("changed-unit", path, second.line, text, name)
                break


class _Documented(NamedTuple):
    """A name in Python code: its line, default and documentation."""

    line: int
    default: str = ""
    text: str = ""


def _documented(path: str, file: File) -> dict[str, _Documented]:
    """Return the functions, parameters, classes and fields of a file by their dotted names."""
    try:
        source = file.content.decode()
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return {}
    lines = source.splitlines()
    found: dict[str, _Documented] = {}

    def visit(body: list[ast.stmt], prefix: str, in_class: bool) -> None:
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                name = f"{prefix}.{node.name}"
                found[name] = _Documented(node.lineno, "", ast.get_docstring(node) or "")
                for parameter, default in _defaults(node.args).items():
                    found[f"{name}.{parameter}"] = _Documented(node.lineno, default)
                visit(node.body, name, False)
            elif isinstance(node, ast.ClassDef):
                name = f"{prefix}.{node.name}"
                found[name] = _Documented(node.lineno, "", ast.get_docstring(node) or "")
                visit(node.body, name, True)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and in_class:
                default = ast.unparse(node.value) if node.value is not None else ""
                comment = lines[(node.end_lineno or node.lineno) - 1].partition("#")[2]
                found[f"{prefix}.{node.target.id}"] = _Documented(node.lineno, default, comment)

    visit(tree.body, path.removesuffix(".py").replace("/", "."), False)
    return found


def _defaults(arguments: ast.arguments) -> dict[str, str]:
    positional = [*arguments.posonlyargs, *arguments.args]
    last = positional[len(positional) - len(arguments.defaults) :]
    pairs = [
        *zip(last, arguments.defaults, strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    return {argument.arg: ast.unparse(default) for argument, default in pairs if default is not None}


def _is_named(name: str, declared: str) -> bool:
    """Whether a declaration covers a name: it may name a function or class around it, and omit the module."""
    return f".{declared.replace('.py:', '.').replace(':', '.')}." in f".{name}."


def _units(text: str) -> list[set[str]]:
    """Return the units that a text mentions, for each kind of `UNITS`, without synonyms."""
    words = {*re.findall(r"[a-z]+|%", text.lower())}
    return [{kind[word] or word for word in words & kind.keys()} for kind in UNITS]


def _listed(words: set[str]) -> str:
    return " and ".join(f"`{word}`" for word in sorted(words))
