"""Find a template and read it: a bundled name, a directory, a git URL or a ZIP file.

A template is read into memory whole, so that rendering needs no files, and a clone or unpacked archive can be removed.
"""

import json
import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import TemplateError
from ..files.archive import MAX_BYTES, MAX_FILES
from ..files.tree import File, Tree, read_file, read_tree, tree_hash
from .changelog import newest
from .fetch import fetched
from .metadata import CONTEXT_FILE, METADATA_FILE, Extra, Metadata, TemplateRef, parse_metadata
from .questions import Answer, Question, did_you_mean, parse_questions

PARTIALS_DIR = "templates"
SHARED_PARTIALS_DIR = "_partials"
DEFAULT_TEMPLATE = "image-classification"


class Layer(NamedTuple):
    """One cookiecutter template directory.

    Attributes:
        name: The folder's name.
        entries: The content of its `cookiecutter.json`.
        project: Files of its `{{cookiecutter.…}}` folder, unrendered.
        partials: Files of its `templates/` folder, which its files may include.
        head: Its `cookiecutter.json` and `paccel.toml` as they are.
        metadata: Its `paccel.toml`, read.
    """

    name: str
    entries: Mapping[str, Any]
    project: Tree
    partials: Tree
    head: Tree
    metadata: Metadata

    @property
    def constants(self) -> dict[str, Any]:
        """The entries of `cookiecutter.json` that are not questions: private variables and dictionaries."""
        return {name: value for name, value in self.entries.items() if name.startswith("_") or isinstance(value, dict)}


class Template(NamedTuple):
    """A template, read and checked.

    Attributes:
        source: What names it: a bundled name, an absolute path, or a URL.
        name: Its folder's name.
        layers: What is always rendered, in order; the template's own layer is the last.
        extras: What is rendered after that, if the answers turn it on.
        questions: Its own questions first, then those of its layers and extras that it does not fix.
        metadata: Its `paccel.toml`, with the questions, moves, renames and changes of its layers merged in.
        digest: SHA-256 over the content of all layers and partials.
        warnings: What a user should know before rendering it.
    """

    source: str
    name: str
    layers: tuple[Layer, ...]
    extras: tuple[tuple[Extra, Layer], ...]
    questions: tuple[Question, ...]
    metadata: Metadata
    digest: str
    warnings: tuple[str, ...] = ()

    @property
    def ref(self) -> TemplateRef:
        """What a manifest records of it."""
        return TemplateRef(self.source, self.name, self.digest, newest(self.metadata.changes))

    @property
    def bundled(self) -> bool:
        """Whether it comes with paccel."""
        return self.source in bundled_names()

    @property
    def constants(self) -> dict[str, Any]:
        """The entries of its own `cookiecutter.json` that are not questions."""
        return self.layers[-1].constants

    def values(self, answers: Mapping[str, Answer]) -> dict[str, Answer]:
        """Return the answers to all questions of its layers: `answers`, and those that the template fixes."""
        return {**self.metadata.fixed, **answers}

    def active_layers(self, values: Mapping[str, Answer]) -> list[Layer]:
        """Return the layers to render, in order; `values` as the method of that name returns them."""
        turned_on = (
            layer for extra, layer in self.extras if all(values.get(k) == value for k, value in extra.when.items())
        )
        return [*self.layers, *turned_on]


def bundled_root() -> Path:
    """Return the folder of the templates that come with paccel."""
    found = find_spec("paccel.templates")  # package data: found, not imported
    assert found is not None
    assert found.submodule_search_locations
    return Path(found.submodule_search_locations[0])


def bundled_names() -> list[str]:
    """Return the names of the templates that come with paccel, the default first."""
    names = (
        folder.name
        for folder in bundled_root().iterdir()
        if folder.name[0].isalnum() and (folder / CONTEXT_FILE).is_file()
    )
    return sorted(names, key=lambda name: (name != DEFAULT_TEMPLATE, name))


def read_bundled_metadata() -> dict[str, Metadata]:
    """Return name -> `paccel.toml` of the templates that come with paccel; nothing else of them is read.

    Raises:
        TemplateError: A `paccel.toml` cannot be used.
    """
    metadata: dict[str, Metadata] = {}
    for name in bundled_names():
        path = bundled_root() / name / METADATA_FILE
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        metadata[name] = parse_metadata(text, f"{name}/{METADATA_FILE}")
    return metadata


def load_template(source: str) -> Template:
    """Find and read a template.

    Args:
        source: A bundled name, a directory, or what `fetch` takes: a ZIP file or its URL, or a git URL. A directory
            that is called like a bundled template is written `./name`.

    Raises:
        TemplateError: There is no such template, it cannot be fetched, or it is not a template.
    """
    names = bundled_names()
    if source in names:
        return _read_template(bundled_root() / source, source)
    local = Path(source).expanduser()
    if local.is_dir():
        absolute = os.path.abspath(local)
        return _read_template(Path(absolute), absolute)
    place, mark, inside = source.partition("#")
    file = Path(place).expanduser()
    absolute = os.path.abspath(file) + mark + inside if file.is_file() else source
    with fetched(absolute, shown=source) as folder:
        if folder is not None:
            return _read_template(folder, absolute)
    offered = ", ".join(f"`{name}`" for name in names) or "none"
    raise TemplateError(
        f"There is no template `{source}`{did_you_mean(source, names)}; bundled templates: {offered}; or give a directory, a"
        " ZIP file or a git URL"
    )


def _read_template(folder: Path, source: str) -> Template:
    own = _read_layer(folder)
    meta = own.metadata
    if own.name.startswith("_"):
        raise TemplateError(
            f"`{source}` is a layer of other templates, not a template itself: `paccel list` shows the templates"
        )
    # Partials beside a plain cookiecutter template are somebody else's; with a paccel.toml they are shared ones.
    is_pack = (folder / METADATA_FILE).is_file()
    shared = _read_files(folder.parent / SHARED_PARTIALS_DIR) if is_pack else {}
    layers = (*(_read_layer(folder.parent / name, used_by=source) for name in meta.layers), own)
    brought = [extra for layer in layers for extra in layer.metadata.extras]
    extras = tuple((extra, _read_layer(folder.parent / extra.layer, used_by=source)) for extra in brought)
    for extra, layer in extras:
        if layer.metadata.extras:
            raise TemplateError(f"`{extra.layer}/{METADATA_FILE}` has `extras`: an extra cannot have extras itself")
    everything = [*layers, *(layer for _, layer in extras)]
    content: dict[str, File] = {f"{SHARED_PARTIALS_DIR}/{path}": file for path, file in shared.items()}
    for index, layer in enumerate(everything):  # by position: the digest does not depend on the name of a folder
        for part, tree in (("", layer.head), ("project/", layer.project), (f"{PARTIALS_DIR}/", layer.partials)):
            content |= {f"{index}/{part}{path}": file for path, file in tree.items()}
    questions = _merge_questions([own, *(layer for layer in everything if layer is not own)])
    _check_answers([(f"`{extra.layer}` waits for", extra.when) for extra in brought], questions, source)
    _check_answers([("`fixed` has", meta.fixed)], questions, source)
    return Template(
        source=source,
        name=own.name,
        layers=tuple(_with_partials(layer, shared) for layer in layers),
        extras=tuple((extra, _with_partials(layer, shared)) for extra, layer in extras),
        questions=tuple(question for question in questions if question.name not in meta.fixed),
        metadata=_merge_metadata(own, everything),
        digest=tree_hash(content),
        warnings=tuple(
            f"The hooks in `{layer.name}/hooks` are not run: paccel never runs code from a template"
            for layer in everything
            if (folder.parent / layer.name / "hooks").is_dir()
        ),
    )


def _read_layer(folder: Path, used_by: str = "") -> Layer:
    needed = f", a layer of `{used_by}`," if used_by else ""
    if not folder.is_dir():
        raise TemplateError(f"`{folder.name}`{needed} does not exist")
    if not (folder / CONTEXT_FILE).is_file():
        raise TemplateError(f"`{folder.name}`{needed} is not a cookiecutter template: it has no `{CONTEXT_FILE}`")
    head = {name: read_file(folder / name) for name in (CONTEXT_FILE, METADATA_FILE) if (folder / name).is_file()}
    try:
        texts = {name: file.content.decode() for name, file in head.items()}
        context = json.loads(texts[CONTEXT_FILE])
    except UnicodeDecodeError as error:
        raise TemplateError(f"`{CONTEXT_FILE}` or `{METADATA_FILE}` of `{folder.name}` is not UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise TemplateError(f"`{folder.name}/{CONTEXT_FILE}` is not valid JSON: {error}") from error
    if not isinstance(context, dict):
        raise TemplateError(f"`{folder.name}/{CONTEXT_FILE}` must be a JSON object of questions")
    where = f"{folder.name}/{METADATA_FILE}"
    metadata = parse_metadata(texts.get(METADATA_FILE, ""), where)
    if used_by and (metadata.layers or metadata.fixed):
        raise TemplateError(f"`{where}` has `layers` or `fixed`, which only a template can have, not a layer")
    project = _project_folder(folder, context)
    return Layer(folder.name, context, _read_files(project), _read_files(folder / PARTIALS_DIR), head, metadata)


def _project_folder(folder: Path, context: Mapping[str, Any]) -> Path:
    """Return the folder of project files, which cookiecutter knows by its name."""
    options = context.get("_jinja2_env_vars")
    opening = str(options.get("variable_start_string", "{{")) if isinstance(options, dict) else "{{"
    found = [
        path for path in folder.iterdir() if path.is_dir() and "cookiecutter" in path.name and opening in path.name
    ]
    if len(found) == 1:
        return found[0]
    names = ", ".join(sorted(f"`{path.name}`" for path in found)) or "none"
    raise TemplateError(
        f"`{folder.name}` must have exactly one folder of project files, named like `{{{{cookiecutter.project_name}}}}`;"
        f" found: {names}"
    )


def _read_files(folder: Path) -> dict[str, File]:
    """Read the files below `folder`, which need not exist, after checking how many and how large they are."""
    count = size = 0
    for parent, folders, names in os.walk(folder):
        for name in [*folders, *names]:
            path = Path(parent, name)
            if path.is_symlink():
                raise TemplateError(f"A template cannot contain symbolic links: `{path.relative_to(folder.parent)}`")
        count += len(names)
        size += sum(Path(parent, name).stat().st_size for name in names)
        if count > MAX_FILES or size > MAX_BYTES:
            raise TemplateError(f"`{folder}` has more than {MAX_FILES} files or {MAX_BYTES // 2**20} MiB")
    return read_tree(folder)


def _merge_questions(layers: list[Layer]) -> tuple[Question, ...]:
    """Return the union of the layers' questions, with the help from every `paccel.toml`."""
    merged: dict[str, Question] = {}
    for layer in layers:
        for question in parse_questions(layer.entries, f"{layer.name}/{CONTEXT_FILE}"):
            known = merged.setdefault(question.name, question)
            if (known.kind, known.default, known.choices) != (question.kind, question.default, question.choices):
                raise TemplateError(f"`{layer.name}` asks `{question.name}` differently than a layer before it")
    for layer in layers:
        for name, text in layer.metadata.questions.items():
            if name not in merged:
                raise TemplateError(
                    f"`{layer.name}/{METADATA_FILE}` documents an unknown question: `{name}`"
                    f"{did_you_mean(name, merged)}"
                )
            unknown = [choice for choice in text.choices if choice not in merged[name].choices]
            if unknown:
                raise TemplateError(
                    f"`{layer.name}/{METADATA_FILE}` documents `{unknown[0]}`, which is not a choice of `{name}`"
                    f"{did_you_mean(unknown[0], merged[name].choices)}"
                )
            known = merged[name]
            merged[name] = known._replace(
                help=text.help or known.help, choice_help={**known.choice_help, **text.choices}
            )
    return tuple(merged.values())


def _check_answers(
    groups: list[tuple[str, Mapping[str, Answer]]], questions: tuple[Question, ...], source: str
) -> None:
    """Refuse an extra that no answer can turn on, and a fixed answer that is not possible."""
    known = {question.name: question for question in questions}
    for what, answers in groups:
        for name, value in answers.items():
            question = known.get(name)
            possible = question is not None and (
                value in question.choices
                if question.kind == "choice"
                else isinstance(value, bool) == (question.kind == "bool")
            )
            if not possible:
                raise TemplateError(
                    f"{what} an impossible answer, in `{source}`: `{name} = {value}`{did_you_mean(name, known)}"
                )


def _merge_metadata(own: Layer, layers: list[Layer]) -> Metadata:
    """Return the template's own metadata with what its layers add."""
    all_metadata = [layer.metadata for layer in layers]
    return own.metadata._replace(
        title=own.metadata.title or own.name,
        questions={name: text for metadata in all_metadata for name, text in metadata.questions.items()},
        moved=tuple(move for metadata in all_metadata for move in metadata.moved),
        renamed_answers=tuple(renamed for metadata in all_metadata for renamed in metadata.renamed_answers),
        dropped_answers=tuple(name for metadata in all_metadata for name in metadata.dropped_answers),
        changes=tuple(change for metadata in all_metadata for change in metadata.changes),
    )


def _with_partials(layer: Layer, shared: Tree) -> Layer:
    """Give a layer the shared partials beside its own."""
    double = sorted(shared.keys() & layer.partials.keys())
    if double:
        raise TemplateError(
            f"The partial `{double[0]}` is both in `{SHARED_PARTIALS_DIR}` and in `{layer.name}`: keep one of them"
        )
    return layer._replace(partials={**shared, **layer.partials})
