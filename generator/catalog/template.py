"""A template in memory, and the layers that it is rendered from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..fetch.address import address_from
from ..files.tree import Tree
from .changelog import newest
from .metadata import Extra, Metadata, TemplateRef
from .questions import Answer, Question, holds


class Layer(NamedTuple):
    """One cookiecutter template directory.

    Attributes:
        name: The folder's name.
        entries: The content of its `cookiecutter.json`.
        project: The files in its `{{cookiecutter.…}}` folder, unrendered.
        partials: The files in its `templates/` folder, which project files may include.
        head: Its `cookiecutter.json` and `paccel.toml` as files.
        metadata: The content of its `paccel.toml`.
        folders: Empty folders in its `{{cookiecutter.…}}` folder, with unrendered names. Only new projects get them, as
            upgrades compare files.
    """

    name: str
    entries: Mapping[str, Any]
    project: Tree
    partials: Tree
    head: Tree
    metadata: Metadata
    folders: tuple[str, ...] = ()


class Template(NamedTuple):
    """A template, read and checked.

    Attributes:
        source: A bundled name, a URL, or a path (absolute, or relative to a project), without secrets.
        name: Its folder's name.
        layers: The layers that are always rendered, in order; the template's own layer is the last.
        extras: Layers that are rendered after them if the answers turn them on.
        questions: Its own questions, then those of its layers and extras; without those that it fixes.
        metadata: Its `paccel.toml`, merged with the questions, moves, renames and changes of its layers.
        digest: SHA-256 over the content of all layers and partials.
        commit: The git commit that was read; empty for other sources.
        warnings: Warnings for whoever renders it.
        bundled: Whether it comes with paccel.
    """

    source: str
    name: str
    layers: tuple[Layer, ...]
    extras: tuple[tuple[Extra, Layer], ...]
    questions: tuple[Question, ...]
    metadata: Metadata
    digest: str
    commit: str = ""
    warnings: tuple[str, ...] = ()
    bundled: bool = False

    @property
    def ref(self) -> TemplateRef:
        """What a manifest records about it."""
        return TemplateRef(self.source, self.name, self.digest, newest(self.metadata.changes), self.commit)

    def recorded_in(self, root: Path) -> "Template":
        """Return the template with its source as the project in `root` records it, see `address_from`."""
        return self if self.bundled else self._replace(source=address_from(self.source, root))

    @property
    def entries(self) -> dict[str, Any]:
        """The entries of its own `cookiecutter.json`, then those of its layers and extras, with the fixed answers."""
        entries: dict[str, Any] = {}
        for layer in [self.layers[-1], *self.layers[:-1], *(layer for _, layer in self.extras)]:
            for name, raw in layer.entries.items():
                entries.setdefault(name, raw)
        return {**entries, **self.metadata.fixed}

    def values(self, answers: Mapping[str, Answer]) -> dict[str, Answer]:
        """Return the answers to the questions of all its layers: `answers` and the fixed ones."""
        return {**self.metadata.fixed, **answers}

    def active_layers(self, values: Mapping[str, Answer]) -> list[Layer]:
        """Return the layers to render, in order. `values` are the result of the method `values`."""
        return [*self.layers, *(layer for extra, layer in self.extras if holds(extra.when, values))]
