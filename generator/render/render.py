"""Render a template: answers in, a tree of files out, the same bytes on every machine.

Each file of each layer renders as with cookiecutter (a test compares the two). Later layers are laid over earlier ones,
and Python files are formatted with the project's own settings. Hooks and the user's cookiecutter configuration are
ignored.
"""

import traceback
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple
from unicodedata import category

from ..catalog.questions import Answer
from ..catalog.template import Layer, Template
from ..errors import TemplateError
from ..files.names import folded
from ..files.scratch import scratch_dir
from ..files.tree import File, check_file_path
from ..sandbox.budget import Budget
from ..sandbox.context import Context
from ..sandbox.draws import Draws
from .formatter import Formatted, format_tree

if TYPE_CHECKING:
    from .loader import LayerLoader

_TEXT_SUFFIXES = {"", ".cfg", ".csv", ".ini", ".json", ".md", ".py", ".pyi", ".sh", ".toml", ".txt", ".yaml", ".yml"}

_SIGNATURES = tuple(
    b"!<arch> %PDF 070701 8BPS ARROW1 BM BZh GIF8 ID3 MThd MZ OTTO OggS PACK PAR1 RIFF bplist dex fLaC wOF2 wOFF".split()
)
"""The first bytes of some binary formats that could also be text; `binaryornot` decides for such files."""


def render(template: Template, answers: Mapping[str, Answer], draws: Draws | None = None) -> dict[str, File]:
    """Render every layer that `answers` turn on, in order, and format the result.

    Args:
        template: From `load_template`.
        answers: The answers to every question of the template, from `resolve_answers`.
        draws: The template's random values and its clock.

    Returns:
        POSIX path -> file, in path order.

    Raises:
        TemplateError: A file cannot be rendered, two layers have the same file, or a path is not allowed in a project.
    """
    return dict(render_formatted(template, answers, draws=draws).tree)


def render_formatted(
    template: Template, answers: Mapping[str, Answer], earlier: Formatted | None = None, draws: Draws | None = None
) -> Formatted:
    """Render like `render`, but reuse the formatting of files that have not changed since `earlier`, see `format_tree`."""
    return format_tree(render_unformatted(template, answers, draws), template.name, earlier)


def render_unformatted(
    template: Template, answers: Mapping[str, Answer], draws: Draws | None = None
) -> dict[str, File]:
    """Render like `render`, without formatting the Python files."""
    tree: dict[str, File] = {}
    values = template.values(answers)
    draws, budget = draws or Draws(), Budget()
    for layer in [*template.layers, *(layer for _, layer in template.extras)]:
        draws.places |= {*layer.entries, *layer.project}
        draws.includes |= {*layer.partials, *layer.project}
    for layer in template.active_layers(values):
        files: dict[str, File] = {}
        for rendered in LayerRenderer(layer, values, template.source, draws, budget).files():
            if rendered.target in files:
                raise TemplateError(
                    f"Two files of `{layer.name}` render to `{rendered.target}`; the second is `{rendered.path}`"
                )
            files[rendered.target] = rendered.file
        repeated = sorted(files.keys() & tree.keys() - set(layer.metadata.replaces))
        if repeated:
            raise TemplateError(
                f"`{repeated[0]}` comes from `{layer.name}` and from a layer before it: rename one, or list it under"
                f" `replaces` in `{layer.name}/paccel.toml`"
            )
        tree |= files
    _check_names(tree)
    return dict(sorted(tree.items()))


def render_folders(template: Template, answers: Mapping[str, Answer]) -> list[str]:
    """Return the paths of the empty folders that a new project gets.

    Raises:
        TemplateError: A path cannot be rendered, or is not allowed in a project.
    """
    values = template.values(answers)
    layers = [layer for layer in template.active_layers(values) if layer.folders]
    return [path for layer in layers for path in LayerRenderer(layer, values).folders()]


class RenderedFile(NamedTuple):
    """One rendered file: its path in the layer, its path in the project, and its content."""

    path: str
    target: str
    file: File


class LayerRenderer:
    """Renders one layer as cookiecutter does, in memory.

    Args:
        layer: The layer.
        answers: Question -> answer, with the fixed ones.
        source: The template's source.
        draws: The template's random values and its clock.
        budget: The limits of the render.

    Raises:
        TemplateError: A Jinja option is not allowed, or an entry cannot be rendered.

    Attributes:
        context: The values of `cookiecutter.…` in the layer's files.
    """

    def __init__(
        self,
        layer: Layer,
        answers: Mapping[str, Answer],
        source: str = "",
        draws: Draws | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.layer = layer
        self.context = context = Context(layer.entries, layer.name, draws, budget)
        context.values |= {name: answer for name, answer in answers.items() if name not in layer.entries}
        for name in context.order():
            if name.startswith("_"):
                context.add_private(name)
            elif name in answers:
                context.add_answer(name, answers[name])
            else:
                context.values[name] = layer.entries[name]  # a table: keeps its position, rendered below
        context.add_tables()
        # cookiecutter's own variables. The real folders differ between machines, so they must not get into files.
        context.values |= {"_template": source, "_output_dir": ".", "_repo_dir": source, "_checkout": None}
        self._patterns = context.values.get("_copy_without_render", ())
        try:
            self._is_copied("")
        except TypeError as error:
            raise TemplateError(f"`_copy_without_render` of `{layer.name}` must be a list of patterns") from error
        self._folders: dict[str, str | None] = {"": ""}

    @cached_property
    def loader(self) -> "LayerLoader":
        """The loader of the files that the layer's files may include."""
        from .loader import LayerLoader

        return LayerLoader(self.layer)

    def files(self) -> Iterator[RenderedFile]:
        """Render every file that the answers turn on, a folder's own files before its subfolders.

        Raises:
            TemplateError: A file or its path cannot be rendered, or is not allowed in a project.
        """
        for path, file in sorted(self.layer.project.items(), key=_walk_order):
            target = self._target(path)
            if target is not None:
                content = self._render(path, file.content) if self.renders(path, file.content) else file.content
                # `#!` also makes a file executable: ZIP downloads and Windows lose modes.
                yield RenderedFile(path, target, File(content, file.executable or content.startswith(b"#!")))

    def folders(self) -> Iterator[str]:
        """Render the paths of the layer's empty folders that the answers turn on.

        Raises:
            TemplateError: A path cannot be rendered, or is not allowed in a project.
        """
        for path in self.layer.folders:
            target = self._target(path)
            if target is not None:
                yield target

    def renders(self, path: str, content: bytes) -> bool:
        """Whether a file is rendered, not copied."""
        return not self._copied_part(path) and not _is_binary(path, content)

    def _is_copied(self, path: str) -> bool:
        return any(fnmatch(path, pattern) for pattern in self._patterns)

    def _copied_part(self, path: str) -> str:
        """Return the outermost part of `path` that `_copy_without_render` matches: a folder or the path; else ""."""
        parts = [*reversed(PurePosixPath(path).parents[:-1]), PurePosixPath(path)]
        return next((str(part) for part in parts if self._is_copied(str(part))), "")

    def _target(self, path: str) -> str | None:
        """Return the rendered path, or None if a part of it renders to nothing: then the file is left out."""
        # The name of a copied folder is rendered, names inside it are not.
        copied = self._copied_part(path)
        name, rest = (copied, path.removeprefix(copied)) if copied else (path, "")
        folder = self._folder(name.rpartition("/")[0])
        target = self._path(name, path)
        if folder is None or target in ("", f"{folder}/") or (target + rest).endswith("/"):
            return None
        return check_file_path(str(PurePosixPath(target + rest)))

    def _folder(self, folder: str) -> str | None:
        """Return the rendered path of a folder, or None if a part of it renders to nothing."""
        if folder not in self._folders:
            parent = self._folder(folder.rpartition("/")[0])
            rendered = None if parent is None else self._path(folder, folder)
            self._folders[folder] = None if rendered in ("", f"{parent}/") else rendered
        return self._folders[folder]

    def _path(self, text: str, path: str) -> str:
        return self.context.text(text, f"The path `{path}` of `{self.layer.name}`", f"{path}:path")

    def _render(self, path: str, content: bytes) -> bytes:
        """Render one file as `cookiecutter.generate.generate_file` does."""
        context, newline = self.context, self.context.values.get("_new_lines") or None
        options = self.layer.entries.get("_jinja2_env_vars", {})
        plain = newline is None and b"\r" not in content and "newline_sequence" not in options
        if plain and not any(mark.encode() in content for mark in context.marks):
            return content
        from ..sandbox.environment import describe
        from .loader import text_of

        context.budget.begin()
        context.draws.begin(path)
        try:
            context.environment.loader = self.loader
            template = context.environment.get_template(path)
            rendered = "".join(self._counted(template.generate(context.names)))
            if newline is None:
                text = text_of(content)
                text.readline()  # the end of the first line becomes the end of every line
                newline = text.newlines[0] if isinstance(text.newlines, tuple) else text.newlines
            elif newline not in ("\n", "\r\n", "\r"):
                raise TemplateError(f"`_new_lines` of `{self.layer.name}` is not a line end: `{newline!r}`")
            return rendered.replace("\n", newline or "\n").encode()
        except TemplateError:
            raise
        except UnicodeDecodeError as error:
            raise TemplateError(
                f"`{path}` of `{self.layer.name}` cannot be rendered, because it is not UTF-8: convert it, or list it under"
                " `_copy_without_render` in `cookiecutter.json`"
            ) from error
        except Exception as error:  # a template's expressions can raise anything
            raise TemplateError(
                f"{self._place(error, path)} of `{self.layer.name}` cannot be rendered: {describe(error)}"
            ) from error

    def _counted(self, parts: Iterator[str]) -> Iterator[str]:
        """Yield the parts of a file, counting their size against the limits."""
        for part in parts:
            self.context.budget.spend(len(part))
            yield part

    def _place(self, error: Exception, path: str) -> str:
        """Return the file and line that failed; the error may be in a partial."""
        line: int | None = None
        for frame in traceback.extract_tb(error.__traceback__):
            if frame.filename in self.loader.names:  # Jinja gives its frames the template's file and line
                path, line = frame.filename, frame.lineno
        return f"`{path}` line {line}" if line else f"`{path}`"


def _walk_order(item: tuple[str, File]) -> list[tuple[bool, str]]:
    """Sort files in cookiecutter's order: a file may change the context of the next."""
    *folders, name = item[0].split("/")
    return [*((True, folder) for folder in folders), (False, name)]


def _is_binary(path: str, content: bytes) -> bool:
    """Whether a file is binary: it is copied even if some bytes look like Jinja."""
    if PurePosixPath(path).suffix in _TEXT_SUFFIXES and not content.startswith(_SIGNATURES) and _is_text(content):
        return False
    from binaryornot.check import is_binary  # loads a table of file types, which takes longer than most renders

    with scratch_dir() as scratch:
        copy = scratch / PurePosixPath(path).name
        copy.write_bytes(content)
        return bool(is_binary(str(copy)))


def _is_text(content: bytes) -> bool:
    try:
        return not any(category(char) == "Cc" and char not in "\t\n\r" for char in {*content.decode()})
    except UnicodeDecodeError:
        return False


def _check_names(paths: Mapping[str, object]) -> None:
    """Refuse two paths that are the same file on macOS or Windows."""
    seen: dict[str, str] = {}
    for path in sorted(paths):
        other = seen.setdefault(folded(path), path)
        if other != path:
            raise TemplateError(
                f"`{other}` and `{path}` differ only in case or accents, which many disks do not tell apart"
            )
