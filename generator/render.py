"""Render a template: answers in, a tree of files out, the same bytes on every machine.

Each layer goes through cookiecutter's own engine, file by file, in a scratch folder; the layers are laid over each other,
and Python files are formatted with the project's settings. Hooks and the user's cookiecutter configuration have no part in it.
"""

import contextlib
import traceback
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from cookiecutter.generate import generate_file, is_copy_only_path
from jinja2 import FileSystemLoader

from .baseline import check_file_path
from .blacken import format_tree
from .catalog import PARTIALS_DIR, Layer, Template
from .environment import TemplateEnvironment, describe, make_environment, render_text
from .errors import TemplateError
from .questions import Answer
from .scratch import scratch_dir
from .tree import File, Tree, read_file, write_tree


def render(template: Template, answers: Mapping[str, Answer]) -> dict[str, File]:
    """Render every layer that `answers` turn on, in order, and format the result.

    Works in a scratch folder that is gone afterwards, and changes the working directory meanwhile: not thread-safe.

    Args:
        template: From `load_template`.
        answers: Of every question of the template, from `resolve_answers`.

    Returns:
        POSIX path -> file, in path order.

    Raises:
        TemplateError: A file cannot be rendered or is no valid Python, two layers give the same file, or a path is not
            one that a project can have.
    """
    tree: dict[str, File] = {}
    values = {**template.metadata.fixed, **answers}
    for layer in template.active_layers(answers):
        rendered = _render_layer(layer, values)
        double = sorted(rendered.keys() & tree.keys() - set(layer.metadata.replaces))
        if double:
            raise TemplateError(
                f"`{double[0]}` comes from `{layer.name}` and from a layer before it: rename one, or list it under"
                f" `replaces` in `{layer.name}/paccel.toml`"
            )
        tree |= rendered
    _check_names(tree)
    return format_tree(dict(sorted(tree.items())), template.name)


def _render_layer(layer: Layer, answers: Mapping[str, Answer]) -> dict[str, File]:
    environment = make_environment(layer.settings, layer.name)
    values = _context(layer, answers, environment)
    with scratch_dir() as scratch:
        stage, output = scratch / "layer" / "project", scratch / "output"
        stage.mkdir(parents=True)
        output.mkdir()
        write_tree(stage, layer.project)
        write_tree(stage.parent / PARTIALS_DIR, layer.partials)
        tree: dict[str, File] = {}
        with contextlib.chdir(stage):  # cookiecutter finds a file and what it includes from the working directory
            environment.loader = FileSystemLoader([".", f"../{PARTIALS_DIR}"])
            for path in sorted(layer.project):
                copied = _copied_part(path, values)
                target = _target(layer, path, copied, values, environment)
                if target is None:
                    continue
                if target in tree:
                    raise TemplateError(f"Two files of `{layer.name}` render to `{target}`; the second is `{path}`")
                file = layer.project[path]
                if not copied:
                    (output / target).parent.mkdir(parents=True, exist_ok=True)
                    _generate(layer, path, output, values, environment)
                    file = read_file(output / target)
                # `#!` makes executable too: modes get lost in ZIP downloads and on Windows.
                tree[target] = File(file.content, layer.project[path].executable or file.content.startswith(b"#!"))
    return tree


def _context(layer: Layer, answers: Mapping[str, Answer], environment: TemplateEnvironment) -> dict[str, Any]:
    """Return what `cookiecutter.…` means in the layer's files: the answers, and its private variables."""
    values: dict[str, Any] = dict(answers)
    for name, value in layer.settings.items():
        if name.startswith("__") and isinstance(value, str):  # rendered, one by one, like cookiecutter does
            value = render_text(environment, value, values, f"`{name}` of `{layer.name}`")
        values[name] = value
    return values


def _copied_part(path: str, values: Mapping[str, Any]) -> str:
    """Return the outermost folder of `path`, or `path`, that `_copy_without_render` names; empty if none."""
    parts = [*reversed(PurePosixPath(path).parents[:-1]), PurePosixPath(path)]
    context = {"cookiecutter": values}
    return next((str(part) for part in parts if is_copy_only_path(str(part), context)), "")


def _target(
    layer: Layer, path: str, copied: str, values: Mapping[str, Any], environment: TemplateEnvironment
) -> str | None:
    """Return the path of the file that `path` renders to, or None if its name renders to nothing: no file then."""
    # The name of a copied folder is rendered, the names in it are not.
    name, rest = (copied, path.removeprefix(copied)) if copied else (path, "")
    target = render_text(environment, name, values, f"The path `{path}` of `{layer.name}`") + rest
    if not target or target.endswith("/"):
        return None
    return check_file_path(str(PurePosixPath(target)))


def _generate(
    layer: Layer, path: str, output: Path, values: Mapping[str, Any], environment: TemplateEnvironment
) -> None:
    """Render one file, which lies in the working directory, to its place below `output`."""
    try:
        generate_file(str(output), path, {"cookiecutter": values}, environment)
    except Exception as error:  # a template's expressions raise whatever Python raises
        raise TemplateError(f"{_place(error, path)} of `{layer.name}` cannot be rendered: {describe(error)}") from error


def _place(error: Exception, path: str) -> str:
    """Name the file and line that failed, which may be in a partial."""
    line: int | None = None
    for frame in traceback.extract_tb(error.__traceback__):
        # Jinja rewrites a template's frames to its source, named relative to the working directory.
        if not Path(frame.filename).is_absolute() and Path(frame.filename).is_file():
            path, line = frame.filename.removeprefix("../"), frame.lineno
    return f"`{path}` line {line}" if line else f"`{path}`"


def _check_names(tree: Tree) -> None:
    """Refuse two paths that are one on the disks of macOS and Windows."""
    seen: dict[str, str] = {}
    for path in tree:
        other = seen.setdefault(path.casefold(), path)
        if other != path:
            raise TemplateError(f"`{other}` and `{path}` differ only in case, which many disks do not tell apart")
