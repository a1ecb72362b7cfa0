"""What changed since an earlier version of the template, and is not declared for the projects that have it."""

import ast
import re
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

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
from .sources import Sources

PROJECT = "my-project"

_EXPRESSION = "…"
"""Stands for an expression in a path."""

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
"""Words that exclude each other in what a value means: word -> the one it stands for, empty for itself."""


def check_history(sources: Sources, old: Template) -> Iterator[Finding]:
    """Find renames and changes of meaning since `old` that the template does not declare."""
    new = sources.template
    yield from _check_questions(sources, old)
    try:
        answers = resolve_answers(old, {}, project_name=PROJECT, checked=False)
        before = render(old, answers)
        after = render(new, carry_answers(answers, new, {})[0])
    except PaccelError:
        return  # what cannot be rendered is found elsewhere
    moves = template_moves(_unrendered(old), _unrendered(new), [])
    for was, now in moves.items():
        if not any(fnmatchcase(move.old, was.replace(_EXPRESSION, "*")) for move in new.metadata.moved):
            text = (
                f"`{was}` seems to be `{now}` now: declare it with `[[moved]]`, so that users' edits follow for certain"
            )
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
            text = f"the question `{name}` is gone: declare it with `[[renamed_answers]]` or `[[dropped_answers]]`"
            yield Finding("removed-question", CONTEXT_FILE, 1, text, name)
            continue
        now = today.get(rename.new if rename is not None and name not in today else name)
        if now is None or not question.choices or not now.choices:
            continue
        if any("{" in choice for choice in (*now.choices, *question.choices)):
            continue  # they are rendered
        values = rename.values if rename is not None else {}
        gone = [choice for choice in question.choices if choice not in now.choices and choice not in values]
        if gone:
            path, line = sources.entry(now.name)
            shown = ", ".join(f"`{choice}`" for choice in gone)
            text = (
                f"`{now.name}` no longer has {shown}, so projects with that answer cannot be upgraded: declare what it is"
                f" now, in `values` of a `[[renamed_answers]]` from `{name}` to `{now.name}`"
            )
            yield Finding("removed-choice", path, line, text, now.name)


def _unrendered(template: Template) -> dict[str, File]:
    """The files of all layers, unrendered, by the paths that they have if they are rendered at all."""
    return {
        re.sub(r"\{\{.*?\}\}", _EXPRESSION, re.sub(r"\{%.*?%\}", "", path)): file
        for layer in [*template.layers, *(layer for _, layer in template.extras)]
        for path, file in layer.project.items()
    }


def _new_meanings(old: Template, new: Template) -> list[str]:
    """The names that `[[changed_meaning]]` declares since."""
    known = _meanings(old)
    return [name for name, entry in _meanings(new).items() if known.get(name) != entry]


def _meanings(template: Template) -> dict[str, str]:
    found: dict[str, str] = {}
    for layer in [*template.layers, *(layer for _, layer in template.extras)]:
        head = layer.head.get(METADATA_FILE)
        if head is None:
            continue
        found |= meanings_in(head.content.decode("utf-8-sig"))
    return found


def meanings_in(text: str) -> dict[str, str]:
    """The names that a `paccel.toml` declares to have changed their meaning, each with what it says of them."""
    try:
        data: dict[str, Any] = tomllib.loads(text)
    except ValueError:
        return {}
    entries = data.get("changed_meaning", [])
    tables = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    return {str(entry["name"]): repr(sorted(entry.items(), key=str)) for entry in tables if "name" in entry}


def _check_meaning(was: str, before: File, path: str, after: File, meanings: list[str]) -> Iterator[Finding]:
    old, new = _meaning_of(was, before), _meaning_of(path, after)
    for name in old.keys() & new.keys():
        if any(_is_named(name, declared) for declared in meanings):
            continue
        first, second = old[name], new[name]
        if first.default != second.default and first.default and second.default:
            text = (
                f"the default of `{name}` is `{second.default}`, and was `{first.default}`: declare it with"
                " `[[changed_meaning]]`, so that upgrades show users where they rely on it"
            )
            yield Finding("changed-default", path, second.line, text, name)
        lost, gained = _units(first.text), _units(second.text)
        for one, other in zip(lost, gained, strict=True):
            if one - other and other - one:
                text = (
                    f"the documentation of `{name}` says {_listed(other - one)}, and said {_listed(one - other)}: if the"
                    " meaning changed, declare it with `[[changed_meaning]]`"
                )
                yield Finding("changed-unit", path, second.line, text, name)
                break


class _Meaning:
    """What a name means: its default, and its documentation."""

    def __init__(self, line: int, default: str = "", text: str = "") -> None:
        self.line, self.default, self.text = line, default, text


def _meaning_of(path: str, file: File) -> dict[str, _Meaning]:
    """Module, functions, parameters, classes and their fields: dotted name -> what it means."""
    try:
        source = file.content.decode()
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return {}
    lines = source.splitlines()
    found: dict[str, _Meaning] = {}

    def visit(body: list[ast.stmt], prefix: str, in_class: bool) -> None:
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                name = f"{prefix}.{node.name}"
                found[name] = _Meaning(node.lineno, "", ast.get_docstring(node) or "")
                for parameter, default in _defaults(node.args).items():
                    found[f"{name}.{parameter}"] = _Meaning(node.lineno, default)
                visit(node.body, name, False)
            elif isinstance(node, ast.ClassDef):
                name = f"{prefix}.{node.name}"
                found[name] = _Meaning(node.lineno, "", ast.get_docstring(node) or "")
                visit(node.body, name, True)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and in_class:
                default = ast.unparse(node.value) if node.value is not None else ""
                comment = lines[(node.end_lineno or node.lineno) - 1].partition("#")[2]
                found[f"{prefix}.{node.target.id}"] = _Meaning(node.lineno, default, comment)

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
    """Whether a declared name is this one, or a part of what it belongs to; the module need not be given."""
    return f".{declared.replace('.py:', '.').replace(':', '.')}." in f".{name}."


def _units(text: str) -> list[set[str]]:
    words = {*re.findall(r"[a-z]+|%", text.lower())}
    return [{kind[word] or word for word in words & kind.keys()} for kind in UNITS]


def _listed(words: set[str]) -> str:
    return " and ".join(f"`{word}`" for word in sorted(words))
