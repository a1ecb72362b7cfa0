"""Find a template and read it: a bundled name, a directory, a git URL or a ZIP file.

The whole template is read into memory: rendering needs no files, and a clone or unpacked archive can be removed.
"""

import json
import os
import re
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import TemplateError, did_you_mean
from ..fetch.address import Address, parse_address
from ..fetch.credentials import without_secrets
from ..fetch.fetch import Fetched, fetched
from ..fetch.nested import CONTEXT_FILE
from ..files.tree import STATE_DIR, File, Tree, empty_folders, read_inside, read_tree, tree_hash
from .metadata import METADATA_FILE, Metadata, TemplateRef, parse_metadata
from .questions import Answer, Question, parse_questions
from .template import Layer, Template

PARTIALS_DIR = "templates"
SHARED_PARTIALS_DIR = "_partials"
DEFAULT_TEMPLATE = "image-classification"

_LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\n"

_ADDED_UP = (
    "moved",
    "once",
    "renamed_answers",
    "dropped_answers",
    "renamed_api",
    "rewrites",
    "changed_meaning",
    "changes",
)
"""The lists of a `paccel.toml` that a template adds up over its layers."""


def bundled_root() -> Path:
    """Return the folder of the templates that come with paccel."""
    found = find_spec("paccel.templates")  # package data, not imported
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
    """Return name -> `paccel.toml` of the templates that come with paccel, without reading their other files.

    Raises:
        TemplateError: A `paccel.toml` is not valid.
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
        source: A bundled name, or an address for `parse_address`. Write `./name` for a folder with a bundled name.

    Raises:
        TemplateError: There is no such template, it cannot be fetched, or it is not a template.
    """
    if source in bundled_names():
        return _read_template(Fetched(bundled_root() / source), source)._replace(bundled=True)
    return _load(parse_address(source))


def load_recorded(recorded: TemplateRef, root: Path, *, as_rendered: bool = False) -> Template:
    """Find and read the template of a project.

    Args:
        recorded: The template in the project's manifest.
        root: The project's folder. Relative sources start from it.
        as_rendered: Read the commit that the project was rendered from, if it is known and can still be fetched.
            Otherwise, read the template as it is today.

    Raises:
        TemplateError: The template cannot be read. The message says how to give the project another source.
    """
    source = recorded.source
    if source in bundled_names():
        return load_template(source)
    try:
        address = parse_address(source, Path(os.path.realpath(root)))
        found: Template | None = None
        if as_rendered and recorded.commit and address.kind == "git":
            with suppress(TemplateError):
                found = _load(address._replace(version=recorded.commit, sure=True))
        found = found or _load(address)
    except TemplateError as error:
        raise TemplateError(
            f"{error}\nThis is the template's source in the project's `{STATE_DIR}/manifest.json`; if it has moved, or"
            " needs a password or token, run `paccel upgrade --template SOURCE`"
        ) from error
    warnings = found.warnings
    if address.has_secrets:
        warnings += (
            "The project's manifest contains a password or token. An upgrade removes it; if it was committed, git's history"
            " still has it: revoke it",
        )
    return found._replace(source=without_secrets(source), warnings=warnings)


def _load(address: Address) -> Template:
    if address.kind == "nothing":
        raise _unknown(address)
    with fetched(address) as found:
        template = _read_template(found, address.shown)
    if not address.has_secrets:
        return template
    warning = (
        "The password or token in the template's address is not recorded: give git access another way (a credential"
        " helper, `~/.netrc`), or give the address to `paccel upgrade --template` again"
    )
    return template._replace(warnings=(*template.warnings, warning))


def _unknown(address: Address) -> TemplateError:
    names = bundled_names()
    offered = ", ".join(f"`{name}`" for name in names) or "none"
    shown = address.shown
    example = ""
    if re.fullmatch(r"\w[\w.-]*/[\w.-]+([@#].*)?", shown):
        example = f", for GitHub `gh:{shown}`"
    elif re.match(r"[\w-]+(\.[\w-]+)+(:\d+)?/", shown):
        example = f", as `https://{shown}`"
    return TemplateError(
        f"There is no template `{shown}`{did_you_mean(shown, names)}; bundled templates: {offered}; or give a directory, a"
        f" ZIP file or a git URL{example}"
    )


def _read_template(found: Fetched, source: str) -> Template:
    folder = found.folder
    own = _read_layer(found, folder)
    meta = own.metadata
    if own.name.startswith("_"):
        raise TemplateError(
            f"`{source}` is a layer of other templates, not a template itself: `paccel list` shows the templates"
        )
    # A plain cookiecutter template has no shared partials: a `_partials` folder beside it has nothing to do with it.
    has_metadata = (folder / METADATA_FILE).is_file()
    shared = _read_files(found, folder.parent / SHARED_PARTIALS_DIR) if has_metadata else {}
    layers = (*(_read_layer(found, folder.parent / name, used_by=source) for name in meta.layers), own)
    brought = [extra for layer in layers for extra in layer.metadata.extras]
    extras = tuple((extra, _read_layer(found, folder.parent / extra.layer, used_by=source)) for extra in brought)
    for extra, layer in extras:
        if layer.metadata.extras:
            raise TemplateError(f"`{extra.layer}/{METADATA_FILE}` has `extras`: an extra cannot have extras itself")
    everything = [*layers, *(layer for _, layer in extras)]
    content: dict[str, File] = {f"{SHARED_PARTIALS_DIR}/{path}": file for path, file in shared.items()}
    for index, layer in enumerate(everything):  # by position, so that the digest does not depend on folder names
        for part, tree in (("", layer.head), ("project/", layer.project), (f"{PARTIALS_DIR}/", layer.partials)):
            content |= {f"{index}/{part}{path}": file for path, file in tree.items()}
    questions = _merge_questions([own, *(layer for layer in everything if layer is not own)])
    for extra in brought:  # an extra that no answer can turn on is an error of the template
        _check_answers(f"`{extra.layer}` waits for", extra.when, questions, source)
    _check_answers("`fixed` has", meta.fixed, questions, source)
    return Template(
        source=source,
        name=own.name,
        layers=tuple(_with_partials(layer, shared) for layer in layers),
        extras=tuple((extra, _with_partials(layer, shared)) for extra, layer in extras),
        questions=tuple(question for question in questions if question.name not in meta.fixed),
        metadata=_merge_metadata(own, everything),
        digest=tree_hash(content),
        commit=found.commit,
        warnings=tuple(
            f"The hooks in `{layer.name}/hooks` are not run: paccel never runs code from a template"
            for layer in everything
            if (folder.parent / layer.name / "hooks").is_dir()
        ),
    )


def _read_layer(found: Fetched, folder: Path, used_by: str = "") -> Layer:
    needed = f", a layer of `{used_by}`," if used_by else ""
    if not folder.is_dir():
        raise TemplateError(f"`{folder.name}`{needed} does not exist")
    if not (folder / CONTEXT_FILE).is_file():
        raise TemplateError(f"`{folder.name}`{needed} is not a cookiecutter template: it has no `{CONTEXT_FILE}`")
    within = found.within or folder
    if not folder.resolve().is_relative_to(within.resolve()):
        raise TemplateError(f"`{folder.name}`{needed} is a symbolic link that leads outside of the template")
    head = {
        name: read_inside(folder / name, within) for name in (CONTEXT_FILE, METADATA_FILE) if (folder / name).is_file()
    }
    try:
        texts = {name: file.content.decode("utf-8-sig") for name, file in head.items()}
        context = json.loads(texts[CONTEXT_FILE], object_pairs_hook=OrderedDict)  # a template may print it
    except UnicodeDecodeError as error:
        raise TemplateError(f"`{CONTEXT_FILE}` or `{METADATA_FILE}` of `{folder.name}` is not UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise TemplateError(f"`{folder.name}/{CONTEXT_FILE}` is not valid JSON: {error}") from error
    if not isinstance(context, dict):
        raise TemplateError(f"`{folder.name}/{CONTEXT_FILE}` must be a JSON object of questions")
    where = f"{folder.name}/{METADATA_FILE}"
    metadata = parse_metadata(texts.get(METADATA_FILE, ""), where)
    if used_by and (metadata.layers or metadata.fixed):
        raise TemplateError(f"`{where}` has `layers` or `fixed`: only a template can have them, not a layer")
    project = _project_folder(folder, context)
    return Layer(
        name=folder.name,
        entries=context,
        project=_read_files(found, project, within),
        partials=_read_files(found, folder / PARTIALS_DIR, within),
        head=head,
        metadata=metadata,
        folders=tuple(empty_folders(project)),
    )


def _project_folder(folder: Path, context: Mapping[str, Any]) -> Path:
    """Return the folder of project files; like cookiecutter, recognise it by its name."""
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


def _read_files(found: Fetched, folder: Path, within: Path | None = None) -> dict[str, File]:
    """Read the files below `folder`, which need not exist.

    Args:
        found: The template that the folder belongs to.
        folder: The folder.
        within: The folder that links must not leave in a template of this disk. None: `folder` itself.

    Raises:
        TemplateError: `read_tree` fails, or git submodules or Git LFS files are missing.
    """
    within = found.within or within
    if within is None and folder.is_symlink():
        raise TemplateError(f"`{folder.name}` is a symbolic link: replace it with a copy of the folder")
    for submodule, reason in found.unfetched.items():
        if submodule.is_relative_to(folder):
            raise TemplateError(f"The submodule `{submodule.relative_to(folder.parent)}` could not be cloned: {reason}")
    for path in empty_folders(folder):
        if _is_submodule(folder / path):
            raise TemplateError(
                f"The submodule `{path}` of the template is empty: run `git submodule update --init --recursive` in its folder"
            )
    tree = read_tree(folder, within=within or folder)
    for path, file in tree.items():
        if file.content.startswith(_LFS_POINTER):
            raise TemplateError(
                f"`{path}` of the template is a pointer of Git LFS, not the file itself: run `git lfs install` (or `git lfs"
                " pull` in the template's folder) and try again; ZIP downloads lack these files, use the git repository"
            )
    return tree


def _is_submodule(folder: Path) -> bool:
    """Whether the nearest `.gitmodules` above a folder lists it as a submodule."""
    for above in folder.parents:
        modules = above / ".gitmodules"
        if modules.is_file():
            path = re.escape(folder.relative_to(above).as_posix())
            return re.search(rf"(?m)^\s*path\s*=\s*{path}\s*$", modules.read_text(errors="replace")) is not None
    return False


def _merge_questions(layers: list[Layer]) -> tuple[Question, ...]:
    """Return the union of the layers' questions, with the settings from every `paccel.toml`."""
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
            merged[name] = merged[name].described(text, f"{layer.name}/{METADATA_FILE}")
    return tuple(merged.values())


def _check_answers(what: str, answers: Mapping[str, Answer], questions: tuple[Question, ...], source: str) -> None:
    """Refuse answers in a `paccel.toml` that nobody could give."""
    known = {question.name: question for question in questions}
    for name, value in answers.items():
        question = known.get(name)
        possible = question is not None and (
            value in question.choices if question.choices else isinstance(value, bool) == (question.kind == "bool")
        )
        if not possible:
            raise TemplateError(
                f"{what} an impossible answer, in `{source}`: `{name} = {value}`{did_you_mean(name, known)}"
            )


def _merge_metadata(own: Layer, layers: list[Layer]) -> Metadata:
    """Return the template's own metadata with what its layers add."""
    merged: dict[str, Any] = {
        field: tuple(entry for layer in layers for entry in getattr(layer.metadata, field)) for field in _ADDED_UP
    }
    questions = {name: text for layer in layers for name, text in layer.metadata.questions.items()}
    return own.metadata._replace(title=own.metadata.title or own.name, questions=questions, **merged)


def _with_partials(layer: Layer, shared: Tree) -> Layer:
    """Add the shared partials to those of a layer."""
    both = sorted(shared.keys() & layer.partials.keys())
    if both:
        raise TemplateError(
            f"The partial `{both[0]}` is both in `{SHARED_PARTIALS_DIR}` and in `{layer.name}`: keep one of them"
        )
    return layer._replace(partials={**shared, **layer.partials})
