"""Render a template with each pair of choices, and find files that are invalid, that black changes, or that vary."""

import ast
import json
import re
import tomllib
import warnings
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

import yaml
from jinja2 import nodes

from ..catalog.answers import resolve_answers
from ..catalog.catalog import PARTIALS_DIR
from ..catalog.questions import Answer
from ..catalog.template import Template
from ..errors import TemplateError, UsageError
from ..files.tree import PROJECT_FILE, File, Tree
from ..render.formatter import Formatter
from ..render.render import LayerRenderer, render_unformatted
from ..sandbox.draws import Draws
from .combinations import choices, covering_set
from .finding import Finding
from .sources import Sources, prefix_of

MAX_RENDERS = 64
PROJECT = "my-project"

_FUNCTIONS = {"random_ascii_string", "uuid4", "lipsum"}
_PLACE = re.compile(
    r"^`(?P<path>.+?)` line (?P<line>\d+) of `(?P<layer>.+?)` cannot be rendered: (?P<reason>.*)", re.DOTALL
)
_JSON_WITH_COMMENTS = re.compile(
    r"(^|/)(\.vscode|\.devcontainer)/|(^|/)(tsconfig|jsconfig|\.eslintrc|devcontainer)[^/]*$"
)


def check_renders(sources: Sources, known: set[tuple[str, int]]) -> Iterator[Finding]:
    """Render the template with each pair of choices, at most `MAX_RENDERS` times, and check every file.

    Args:
        sources: The template.
        known: (path, line) of errors that were reported already.
    """
    template = sources.template
    seen: set[str] = set()
    for number, row in enumerate(covering_set(choices(template))[:MAX_RENDERS]):
        try:
            answers = _answers(template, row)
        except UsageError:
            continue  # a validator refuses this combination
        except TemplateError as error:
            if str(error) not in seen:
                seen.add(str(error))
                yield Finding("render-error", "cookiecutter.json", 1, str(error))
            continue
        draws = Draws()
        try:
            tree = render_unformatted(template, answers, draws)
        except TemplateError as error:
            finding = _failed(sources, str(error), row)
            if (finding.path, finding.line) not in known and str(error) not in seen:
                seen.add(str(error))
                yield finding
            continue
        copied = _copied(template, answers)
        for path, file in tree.items():
            problem = _problem(path, file.content) if path not in copied else ""
            if problem and path not in seen:
                seen.add(path)
                place, line = _source_of(sources, answers, path)
                yield Finding("invalid-output", place, line, f"`{path}` is not valid{_with(template, row)}: {problem}")
        if number == 0:
            yield from _check_black(sources, answers, tree)
            again = render_unformatted(template, answers, Draws(draws.to_json()))
            for path in tree:
                if again.get(path) != tree[path]:
                    place, line = _source_of(sources, answers, path)
                    text = f"`{path}` differs from one render to the next: it depends on this machine or process"
                    yield Finding("unstable", place, line, text)


def _answers(template: Template, row: Mapping[str, Any]) -> dict[str, Answer]:
    """The answers of a row, with the defaults of all other questions."""
    try:
        return resolve_answers(template, row, project_name=PROJECT)
    except UsageError:  # a default may be one that its validator refuses, so that it has to be answered
        return resolve_answers(template, row, project_name=PROJECT, checked=False)


def check_draws(sources: Sources) -> Iterator[Finding]:
    """Find output that is random or depends on the time. A secret answer may be random."""
    secret = {question.name for question in sources.template.questions if question.secret}
    for source in sources.texts:
        if source.tree is None or (source.kind == "entry" and source.target in {"__prompts__", *secret}):
            continue
        found = {node.lineno for node in source.tree.find_all(nodes.Filter) if node.name == "random"}
        for call in source.tree.find_all(nodes.Call):
            if isinstance(call.node, nodes.Name) and call.node.name in _FUNCTIONS:
                found.add(call.lineno)
        clock = {
            source.text.count("\n", 0, match.start()) + 1 for match in re.finditer(r"\{%[-+]?\s*now\b", source.text)
        }
        lines = sorted(found | clock)
        if lines:
            what = "depends on the time" if lines[0] in clock else "is random"
            more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
            text = (
                f"the output of this line{more} {what}: a project keeps its value, but a new project gets another one"
            )
            yield Finding("drawn", source.path, source.at(lines[0]), text)


def _failed(sources: Sources, message: str, row: Mapping[str, Any]) -> Finding:
    found = _PLACE.match(message)
    shown = _with(sources.template, row)
    if found is None:
        return Finding("render-error", "cookiecutter.json", 1, f"{message.rstrip('.')}{shown}")
    for source in sources.texts:
        is_text = source.layer.name == found["layer"] and source.kind in {"file", "partial"}
        if is_text and found["path"] in {source.target, f"{PARTIALS_DIR}/{source.target}"}:
            return Finding("render-error", source.path, int(found["line"]), f"{found['reason']}{shown}")
    return Finding("render-error", found["path"], int(found["line"]), f"{found['reason']}{shown}")


def _with(template: Template, row: Mapping[str, Any]) -> str:
    """Return the answers that are not defaults, as ` with on=true, kind=a`; empty if there are none."""
    usual = {name: values[0] for name, values in choices(template).items()}
    given = [
        f"{name}={str(value).lower() if isinstance(value, bool) else value}"
        for name, value in row.items()
        if value != usual[name]
    ]
    return f" with {', '.join(given)}" if given else ""


def _copied(template: Template, answers: Mapping[str, Answer]) -> set[str]:
    """Return the files of a project that are copied without rendering: they may hold anything."""
    values = template.values(answers)
    found: set[str] = set()
    for layer in template.active_layers(values):
        if "_copy_without_render" in layer.entries:
            renderer = LayerRenderer(layer, values)
            found |= {one.target for one in renderer.files() if not renderer.renders(one.path, one.file.content)}
    return found


def _source_of(sources: Sources, answers: Mapping[str, Answer], path: str) -> tuple[str, int]:
    """Return the template's file, and line 1, that renders to a file of the project."""
    template = sources.template
    values = template.values(answers)
    for layer in reversed(template.active_layers(values)):
        for rendered in LayerRenderer(layer, values).files():
            if rendered.target == path:
                for source in sources.texts:
                    if source.layer is layer and source.target == rendered.path and source.kind == "file":
                        return source.path, 1
                return prefix_of(template, layer) + rendered.path, 1
    return path, 1


def _problem(path: str, content: bytes) -> str:
    """Say why a file is not valid for its suffix; empty if it is."""
    suffix = PurePosixPath(path).suffix.lower()
    try:
        if suffix in {".py", ".pyi"}:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # such as on an invalid escape in a string
                ast.parse(content)
        elif suffix in {".json", ".ipynb"} and not _JSON_WITH_COMMENTS.search(path):
            json.loads(content.decode("utf-8-sig"))
        elif suffix == ".toml":
            tomllib.loads(content.decode())
        elif suffix in {".yml", ".yaml"}:
            for _ in yaml.parse(content, Loader=yaml.SafeLoader):
                pass
    except SyntaxError as error:
        return f"line {error.lineno}: {error.msg}"
    except yaml.YAMLError as error:
        return " ".join(str(error).split())
    except (ValueError, RecursionError) as error:
        return str(error)
    return ""


def _check_black(sources: Sources, answers: Mapping[str, Answer], tree: Tree) -> Iterator[Finding]:
    """Find files that black changes, in a project that uses black without a `[tool.black]`."""
    if Formatter.of(tree, sources.template.name) is not None or not _uses_black(tree):
        return
    settings = File(b"[tool.black]\n")
    formatter = Formatter.of(
        {**{path: file for path, file in tree.items() if path != PROJECT_FILE}, PROJECT_FILE: settings}, ""
    )
    assert formatter is not None
    for path in sorted(formatter.included(tree)):
        if formatter.format(tree[path].content, path) != tree[path].content:
            place, line = _source_of(sources, answers, path)
            text = f"black would reformat `{path}`: add a `[tool.black]` to `{PROJECT_FILE}`, and paccel formats what it renders"
            yield Finding("not-black", place, line, text)


def _uses_black(tree: Tree) -> bool:
    hooks = tree.get(".pre-commit-config.yaml")
    return hooks is not None and re.search(rb"github\.com/(psf|ambv)/black|id: black\b", hooks.content) is not None
