"""Render a template: answers in, a tree of files out, the same bytes on every machine.

Each file of each layer becomes what cookiecutter would make of it (a test compares the two); the layers are laid over
each other, and Python files are formatted with the project's own settings. Hooks and the user's cookiecutter
configuration are not used.
"""

import traceback
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from ..catalog.catalog import PARTIALS_DIR, Layer, Template
from ..catalog.questions import Answer
from ..errors import TemplateError
from ..files.scratch import scratch_dir
from ..files.tree import File, check_file_path
from .formatter import Formatted, format_tree

if TYPE_CHECKING:
    from ..catalog.jinja import TemplateEnvironment, TreeLoader

_TEXT_SUFFIXES = {"", ".cfg", ".csv", ".ini", ".json", ".md", ".py", ".pyi", ".sh", ".toml", ".txt", ".yaml", ".yml"}


def render(template: Template, answers: Mapping[str, Answer]) -> dict[str, File]:
    """Render every layer that `answers` turn on, in order, and format the result.

    Args:
        template: From `load_template`.
        answers: Of every question of the template, from `resolve_answers`.

    Returns:
        POSIX path -> file, in path order.

    Raises:
        TemplateError: A file cannot be rendered or is not valid Python, two layers have the same file, or a path is not
            one that a project can have.
    """
    return dict(render_formatted(template, answers).tree)


def render_formatted(template: Template, answers: Mapping[str, Answer], earlier: Formatted | None = None) -> Formatted:
    """Render as `render` does, but do not format again what has not changed since `earlier`, see `format_tree`."""
    return format_tree(render_unformatted(template, answers), template.name, earlier)


def render_unformatted(template: Template, answers: Mapping[str, Answer]) -> dict[str, File]:
    """Render as `render` does, without formatting the Python files."""
    tree: dict[str, File] = {}
    values = template.values(answers)
    for layer in template.active_layers(values):
        files: dict[str, File] = {}
        for rendered in LayerRenderer(layer, values).files():
            if rendered.target in files:
                raise TemplateError(
                    f"Two files of `{layer.name}` render to `{rendered.target}`; the second is `{rendered.path}`"
                )
            files[rendered.target] = rendered.file
        double = sorted(files.keys() & tree.keys() - set(layer.metadata.replaces))
        if double:
            raise TemplateError(
                f"`{double[0]}` comes from `{layer.name}` and from a layer before it: rename one, or list it under"
                f" `replaces` in `{layer.name}/paccel.toml`"
            )
        tree |= files
    _check_names(tree)
    return dict(sorted(tree.items()))


class RenderedFile(NamedTuple):
    """One file of a layer: its path there, its path in the project, and what it renders to."""

    path: str
    target: str
    file: File


class LayerRenderer:
    """Renders one layer as cookiecutter does, without a disk between.

    Args:
        layer: The layer.
        answers: Question -> answer, the fixed ones included.

    Raises:
        TemplateError: The layer asks for something of Jinja that it cannot have.

    Attributes:
        values: What `cookiecutter.…` means in the layer's files: the answers and cookiecutter's private variables.
    """

    def __init__(self, layer: Layer, answers: Mapping[str, Answer]) -> None:
        self.layer = layer
        if layer.constants.keys() & {"_extensions", "_jinja2_env_vars"}:
            _ = self.environment  # refuses what a template cannot have, whether or not a file would need it
        self.values: dict[str, Any] = dict(answers)
        for name, value in layer.constants.items():
            if name.startswith("__") and isinstance(value, str):  # rendered one by one, as cookiecutter does
                value = self._text(value, f"`{name}` of `{layer.name}`")
            self.values[name] = value

    @cached_property
    def environment(self) -> "TemplateEnvironment":
        """The layer's Jinja environment. Importing Jinja takes a fifth of an upgrade in which no file needs it."""
        from ..catalog.jinja import make_environment

        environment = make_environment(self.layer.constants, self.layer.name)
        environment.loader = self.loader
        return environment

    @cached_property
    def loader(self) -> "TreeLoader":
        """What the layer's files may include."""
        from ..catalog.jinja import TreeLoader

        return TreeLoader(self.layer.project, self.layer.partials, PARTIALS_DIR)

    @cached_property
    def marks(self) -> list[str]:
        """What Jinja syntax begins with in this layer: a text without any of it renders to itself."""
        given = self.layer.constants.get("_jinja2_env_vars", {})
        starts = {"block_start_string": "{%", "variable_start_string": "{{", "comment_start_string": "{#"}
        prefixes = {"line_statement_prefix": None, "line_comment_prefix": None}
        found = [given.get(name, usual) for name, usual in (starts | prefixes).items()]
        return [str(mark) for mark in found if mark]

    def files(self) -> Iterator[RenderedFile]:
        """Render every file that the answers call for, in path order.

        Raises:
            TemplateError: A file or its path cannot be rendered, or is not one that a project can have.
        """
        for path, file in sorted(self.layer.project.items()):
            copied = self._copied_part(path)
            target = self._target(path, copied)
            if target is not None:
                content = file.content if copied or _is_binary(path, file.content) else self._render(path, file.content)
                # `#!` makes a file executable too: modes get lost in ZIP downloads and on Windows.
                yield RenderedFile(path, target, File(content, file.executable or content.startswith(b"#!")))

    def _text(self, text: str, where: str) -> str:
        if not any(mark in text for mark in self.marks):
            return text
        from ..catalog.jinja import render_text

        return render_text(self.environment, text, self.values, where)

    def _copied_part(self, path: str) -> str:
        """Return the outermost folder of `path`, or `path`, that `_copy_without_render` names; empty if none."""
        patterns = self.values.get("_copy_without_render", ())
        parts = [*reversed(PurePosixPath(path).parents[:-1]), PurePosixPath(path)]
        return next((str(part) for part in parts if any(fnmatch(str(part), pattern) for pattern in patterns)), "")

    def _target(self, path: str, copied: str) -> str | None:
        """Return the path that `path` renders to, or None if its name renders to nothing: then there is no file."""
        # The name of a copied folder is rendered, the names in it are not.
        name, rest = (copied, path.removeprefix(copied)) if copied else (path, "")
        target = self._text(name, f"The path `{path}` of `{self.layer.name}`") + rest
        if not target or target.endswith("/"):
            return None
        return check_file_path(str(PurePosixPath(target)))

    def _render(self, path: str, content: bytes) -> bytes:
        """Render one file as `cookiecutter.generate.generate_file` does."""
        newline = self.values.get("_new_lines")
        has_marks = any(mark.encode() in content for mark in self.marks)
        if not has_marks and not newline and b"\r" not in content:
            return content
        from ..catalog.jinja import describe, text_of

        try:
            rendered = self.environment.get_template(path).render(cookiecutter=self.values)
            if not newline:
                text = text_of(content)
                text.readline()  # the end of its first line is the end of every line
                newline = text.newlines[0] if isinstance(text.newlines, tuple) else text.newlines
            return rendered.replace("\n", newline or "\n").encode()
        except Exception as error:  # a template's expressions raise whatever Python raises
            raise TemplateError(
                f"{self._place(error, path)} of `{self.layer.name}` cannot be rendered: {describe(error)}"
            ) from error

    def _place(self, error: Exception, path: str) -> str:
        """Name the file and line that failed, which may be in a partial."""
        line: int | None = None
        for frame in traceback.extract_tb(error.__traceback__):
            if frame.filename in self.loader.names:  # Jinja rewrites a template's frames to its source
                path, line = frame.filename, frame.lineno
        return f"`{path}` line {line}" if line else f"`{path}`"


def _is_binary(path: str, content: bytes) -> bool:
    """Whether a file is copied although it may hold what looks like Jinja."""
    if PurePosixPath(path).suffix in _TEXT_SUFFIXES and b"\0" not in content:
        return False
    from binaryornot.check import is_binary  # loads a table of all file types, which takes longer than most renders

    with scratch_dir() as scratch:
        copy = scratch / PurePosixPath(path).name
        copy.write_bytes(content)
        return bool(is_binary(str(copy)))


def _check_names(paths: Mapping[str, object]) -> None:
    """Refuse two paths that are one on the disks of macOS and Windows."""
    seen: dict[str, str] = {}
    for path in sorted(paths):
        other = seen.setdefault(path.casefold(), path)
        if other != path:
            raise TemplateError(f"`{other}` and `{path}` differ only in case, which many disks do not tell apart")
