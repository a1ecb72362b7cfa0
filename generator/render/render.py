"""Render a template: answers in, a tree of files out, the same bytes on every machine.

Each file of each layer becomes what cookiecutter would make of it (a test holds the two side by side); the layers are
laid over each other, and Python files are formatted with the project's settings. Hooks and the user's cookiecutter
configuration have no part in it.
"""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from ..catalog.catalog import Template
from ..catalog.questions import Answer
from ..errors import TemplateError
from ..files.tree import PROJECT_FILE, File, Tree
from .sources import Source, Sources

if TYPE_CHECKING:
    from .formatter import Formatter

_TEXT_SUFFIXES = {"", ".cfg", ".csv", ".ini", ".json", ".md", ".py", ".pyi", ".sh", ".toml", ".txt", ".yaml", ".yml"}


def render(template: Template, answers: Mapping[str, Answer], known: Tree | None = None) -> dict[str, File]:
    """Render every layer that `answers` turn on, in order, and format the result.

    Args:
        template: From `load_template`.
        answers: Of every question of the template, from `resolve_answers`.
        known: An earlier render; what would become the same again is taken from it.

    Returns:
        POSIX path -> file, in path order.

    Raises:
        TemplateError: A file cannot be rendered or is no valid Python, two layers give the same file, or a path is not
            one that a project can have.
    """
    chosen: dict[str, tuple[Sources, Source]] = {}
    values = {**template.metadata.fixed, **answers}
    for layer in template.active_layers(answers):
        sources = Sources(layer, values)
        found: dict[str, Source] = {}
        for source in sources.read():
            if source.target in found:
                raise TemplateError(
                    f"Two files of `{layer.name}` render to `{source.target}`; the second is `{source.path}`"
                )
            found[source.target] = source
        double = sorted(found.keys() & chosen.keys() - set(layer.metadata.replaces))
        if double:
            raise TemplateError(
                f"`{double[0]}` comes from `{layer.name}` and from a layer before it: rename one, or list it under"
                f" `replaces` in `{layer.name}/paccel.toml`"
            )
        chosen |= {target: (sources, source) for target, source in found.items()}
    _check_names(chosen)
    return _rendered(template, dict(sorted(chosen.items())), known or {})


def _rendered(template: Template, chosen: Mapping[str, tuple[Sources, Source]], known: Tree) -> dict[str, File]:
    settings: File | None = None
    formatter: Formatter | None = None
    if PROJECT_FILE in chosen:  # first: it says how the others are formatted
        sources, source = chosen[PROJECT_FILE]
        same = known.get(PROJECT_FILE)
        settings = same if same and same.origin == source.origin else _render_file(sources, source)
        if settings is not same or b"black" in settings.content:  # else it was read before, and formats nothing
            from . import formatter as blacken

            formatter = blacken.Formatter.of(settings, template.name)
    tree: dict[str, File] = {}
    for target, (sources, source) in chosen.items():
        formatted = formatter is not None and formatter.applies(target)
        origin = source.origin
        if formatted:
            assert formatter is not None
            origin = sha256(f"{origin}\0{formatter.settings}".encode()).hexdigest()
        same = known.get(target)
        if target == PROJECT_FILE and settings is not None:
            tree[target] = settings
        elif same is not None and same.origin == origin:
            tree[target] = same
        else:
            file = _render_file(sources, source)
            if formatted:
                assert formatter is not None
                file = file._replace(content=formatter.format(file.content, target), origin=origin)
            tree[target] = file
    return tree


def _render_file(sources: Sources, source: Source) -> File:
    content = source.file.content if source.plain else _generate(sources, source)
    # `#!` makes executable too: modes get lost in ZIP downloads and on Windows.
    return File(content, source.file.executable or content.startswith(b"#!"), source.origin)


def _generate(sources: Sources, source: Source) -> bytes:
    """Render one file as `cookiecutter.generate.generate_file` does, without a disk between."""
    if _is_binary(source):
        return source.file.content
    from ..catalog.jinja import describe, text_of

    environment, values = sources.environment, sources.values
    try:
        template = environment.get_template(source.path)
        rendered = template.render(cookiecutter=values)
        newline = values.get("_new_lines")
        if not newline:
            text = text_of(source.file.content)
            text.readline()  # its first line's end is every line's
            newline = text.newlines[0] if isinstance(text.newlines, tuple) else text.newlines
        return rendered.replace("\n", newline or "\n").encode()
    except Exception as error:  # a template's expressions raise whatever Python raises
        raise TemplateError(
            f"{_place(error, sources, source.path)} of `{sources.layer.name}` cannot be rendered: {describe(error)}"
        ) from error


def _is_binary(source: Source) -> bool:
    """Whether a file is copied although it holds what looks like Jinja."""
    content = source.file.content
    if PurePosixPath(source.path).suffix in _TEXT_SUFFIXES and b"\0" not in content:
        return False  # without a look at the whole table of file types, whose import takes its time
    from binaryornot.check import is_binary

    from ..files.scratch import scratch_dir

    with scratch_dir() as scratch:
        path = scratch / PurePosixPath(source.path).name
        path.write_bytes(content)
        return bool(is_binary(str(path)))


def _place(error: Exception, sources: Sources, path: str) -> str:
    """Name the file and line that failed, which may be in a partial."""
    import traceback

    names = getattr(sources.environment.loader, "names", ())
    line: int | None = None
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename in names:  # Jinja rewrites a template's frames to its source
            path, line = frame.filename, frame.lineno
    return f"`{path}` line {line}" if line else f"`{path}`"


def _check_names(paths: Mapping[str, object]) -> None:
    """Refuse two paths that are one on the disks of macOS and Windows."""
    seen: dict[str, str] = {}
    for path in sorted(paths):
        other = seen.setdefault(path.casefold(), path)
        if other != path:
            raise TemplateError(f"`{other}` and `{path}` differ only in case, which many disks do not tell apart")
