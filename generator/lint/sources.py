"""Read the texts of a template that Jinja renders: files, paths, partials, defaults. Each is parsed once."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from jinja2 import TemplateSyntaxError, meta, nodes

from ..catalog.catalog import PARTIALS_DIR, SHARED_PARTIALS_DIR
from ..catalog.template import Layer, Template
from ..fetch.nested import CONTEXT_FILE
from ..files.tree import File
from ..render.render import LayerRenderer
from ..sandbox.context import Context
from ..sandbox.environment import TemplateEnvironment
from .finding import Finding


class Source(NamedTuple):
    """A text of a template.

    Attributes:
        layer: The layer that it belongs to.
        path: The file, relative to the template's folder.
        line: The line of the file at which the text begins.
        text: The text.
        tree: Its Jinja syntax tree; None if Jinja cannot parse it or does not render it.
        kind: Whether it is the content or the path of a project's file, a value in `cookiecutter.json` (an entry), a partial,
            or a file that is copied without rendering.
        target: The path in the layer's project; of an entry its name, of a partial its path.
    """

    layer: Layer
    path: str
    line: int
    text: str
    tree: nodes.Template | None
    kind: Literal["file", "path", "entry", "partial", "copied"]
    target: str = ""

    def at(self, line: int) -> int:
        """Return the line of the file for a line of the text."""
        return self.line + line - 1 if self.kind in {"file", "partial", "copied"} else self.line


class Sources(NamedTuple):
    """All texts of a template.

    Attributes:
        template: The template.
        folder: Its folder.
        texts: The texts.
        findings: Syntax errors.
        files: Path -> text of every file, relative to the template's folder.
    """

    template: Template
    folder: Path
    texts: tuple[Source, ...]
    findings: tuple[Finding, ...]
    files: Mapping[str, str]

    def environment(self, layer: Layer) -> TemplateEnvironment:
        return Context(layer.entries, layer.name).environment

    def entry(self, name: str) -> tuple[str, int]:
        """Return the file and line of a question."""
        for layer in [self.template.layers[-1], *all_layers(self.template)]:
            if name in layer.entries:
                path = prefix_of(self.template, layer) + CONTEXT_FILE
                return path, line_of(f'"{name}"', self.files.get(path, ""))
        return CONTEXT_FILE, 1


def read_sources(template: Template, folder: Path) -> Sources:
    """Parse every path, file, partial, default and private variable of a template.

    Args:
        template: The template.
        folder: Its folder.
    """
    texts: list[Source] = []
    findings: list[Finding] = []
    files: dict[str, str] = {}
    seen: set[str] = set()
    for layer in all_layers(template):
        environment = Context(layer.entries, layer.name).environment
        for source in _texts(template, layer, folder, files):
            if source.kind == "partial":
                if source.path in seen:
                    continue
                seen.add(source.path)
            tree = None
            if source.kind != "copied":
                try:
                    tree = environment.parse(source.text)
                except TemplateSyntaxError as error:
                    findings.append(_syntax_error(source, error))
            texts.append(source._replace(tree=tree))
    kept = tuple(_without_unused(texts))
    found = tuple(finding for finding in findings if any(source.path == finding.path for source in kept))
    return Sources(template, folder, kept, found, files)


def _syntax_error(source: Source, error: TemplateSyntaxError) -> Finding:
    line = source.text.splitlines()[error.lineno - 1 : error.lineno]
    if line and "${{" in line[0]:
        return Finding("not-jinja", source.path, source.at(error.lineno), github(line[0]))
    what = {"path": "the path", "entry": f"`{source.target}` in `{CONTEXT_FILE}`"}.get(source.kind, "this")
    return Finding("jinja-syntax", source.path, source.at(error.lineno), f"Jinja cannot parse {what}: {error.message}")


def github(line: str) -> str:
    """Explain what is wrong with a GitHub Actions expression in a text that is rendered."""
    found = re.search(r"\$\{\{.*?\}\}", line)
    shown = found[0] if found else "${{ … }}"
    return (
        f"`{shown}` is an expression of GitHub Actions, but Jinja renders it: put it between `{{% raw %}}` and"
        " `{% endraw %}`, or list the file under `_copy_without_render`"
    )


def line_of(text: str, where: str) -> int:
    """Return the line at which a text occurs; 1 if it does not."""
    return where.count("\n", 0, max(where.find(text), 0)) + 1


def prefix_of(template: Template, layer: Layer) -> str:
    return "" if layer is template.layers[-1] else f"../{layer.name}/"


def _without_unused(texts: list[Source]) -> Iterator[Source]:
    """Leave out partials that nothing here includes: shared partials serve several templates."""
    partials = {source.target: source for source in texts if source.kind == "partial"}
    used: set[str] = set()
    waiting = [source for source in texts if source.kind != "partial"]
    while waiting:
        source = waiting.pop()
        names = [*meta.find_referenced_templates(source.tree)] if source.tree is not None else []
        for name in [*partials] if None in names else names:  # None: a name that is known only at render time
            if name is not None and name in partials and name not in used:
                used.add(name)
                waiting.append(partials[name])
    yield from (source for source in texts if source.kind != "partial" or source.target in used)


def all_layers(template: Template) -> list[Layer]:
    """Return the layers of a template, and those of its extras."""
    return [*template.layers, *(layer for _, layer in template.extras)]


def _texts(template: Template, layer: Layer, folder: Path, files: dict[str, str]) -> Iterator[Source]:
    prefix = prefix_of(template, layer)
    for name, file in layer.head.items():
        files[prefix + name] = _decoded(file)
    yield from _entries(prefix + CONTEXT_FILE, files[prefix + CONTEXT_FILE], layer, "", layer.entries)
    project = _project(folder if not prefix else folder.parent / layer.name)
    yield Source(layer, prefix + CONTEXT_FILE, 1, project, None, "path")
    copies = LayerRenderer(layer._replace(entries=_patterns(layer.entries)), {})
    for path, file in layer.project.items():
        shown = f"{prefix}{project}/{path}"
        if not copies.renders(path, file.content):
            if b"\0" not in file.content:
                yield Source(layer, shown, 1, _decoded(file), None, "copied", path)
                files[shown] = _decoded(file)
            continue
        yield Source(layer, shown, 1, path, None, "path", path)
        files[shown] = _decoded(file)
        yield Source(layer, shown, 1, files[shown], None, "file", path)
    shared = folder.parent / SHARED_PARTIALS_DIR
    for path, file in layer.partials.items():
        own = not (shared / path).is_file()
        shown = f"{prefix}{PARTIALS_DIR}/{path}" if own else f"../{SHARED_PARTIALS_DIR}/{path}"
        files[shown] = _decoded(file)
        yield Source(layer, shown, 1, files[shown], None, "partial", path)


def _entries(path: str, text: str, layer: Layer, name: str, value: Any) -> Iterator[Source]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if name or key not in {"_jinja2_env_vars", "_extensions", "_copy_without_render"}:
                yield from _entries(path, text, layer, name or key, inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _entries(path, text, layer, name, inner)
    elif isinstance(value, str) and (not name.startswith("_") or name.startswith("__")):
        yield Source(layer, path, line_of(f'"{name}"', text), value, None, "entry", name)


def _patterns(entries: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that say which files are copied, without entries that would have to be rendered."""
    return {name: value for name, value in entries.items() if name in {"_copy_without_render", "_jinja2_env_vars"}}


def _project(folder: Path) -> str:
    names = [path.name for path in folder.iterdir() if path.is_dir() and "cookiecutter" in path.name]
    return min(names, key=len) if names else "{{cookiecutter.project_name}}"


def _decoded(file: File) -> str:
    return file.content.decode("utf-8-sig", errors="replace").replace("\r\n", "\n")
