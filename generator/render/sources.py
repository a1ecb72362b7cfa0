"""What each file of a layer is made from, so that an upgrade renders only what can have changed.

A file's *origin* is a hash over everything that decides its bytes: its source, the answers that it names, what it may
include, the settings of its layer. Rendering is a function of that, so a file that was rendered from the same origin
before is taken as it was. A file in which nothing is to be rendered is its own render.
"""

import json
import re
from collections.abc import Mapping
from fnmatch import fnmatch
from functools import cached_property
from hashlib import sha256
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from ..catalog.questions import Answer
from ..files.tree import File, check_file_path, tree_hash

if TYPE_CHECKING:
    from ..catalog.catalog import Layer
    from ..catalog.jinja import TemplateEnvironment

RENDERING = "1: cookiecutter 2, jinja2 3, black 26"
"""A part of every origin: to be changed with whatever changes the bytes that the same source renders to."""

_DELIMITERS = {
    "block_start_string": "{%",
    "variable_start_string": "{{",
    "comment_start_string": "{#",
    "line_statement_prefix": None,
    "line_comment_prefix": None,
}
_HARMLESS = {"trim_blocks", "lstrip_blocks", "block_end_string", "variable_end_string", "comment_end_string"}
_CONTEXT = "cookiecutter"


class Source(NamedTuple):
    """One file of a layer and where it goes.

    Attributes:
        path: In the layer.
        target: In the project.
        file: As it is in the layer.
        plain: Whether there is nothing to render in it.
        origin: The hash of all that its render depends on, formatting aside.
    """

    path: str
    target: str
    file: File
    plain: bool
    origin: str


class Sources:
    """The files of one layer under certain answers."""

    def __init__(self, layer: "Layer", answers: Mapping[str, Answer]) -> None:
        self.layer = layer
        self.settings = layer.settings
        options = self.settings.get("_jinja2_env_vars", {})
        options = options if isinstance(options, dict) else {"?": options}
        known = _DELIMITERS.keys() | _HARMLESS
        self._openings = [str(options.get(key, mark)) for key, mark in _DELIMITERS.items() if options.get(key, mark)]
        self._ordinary = options.keys() <= known and not self.settings.get("_extensions")
        self._newline = self.settings.get("_new_lines")
        self._closing = str(options.get("block_end_string", "%}"))
        if not self._ordinary:  # what it asks for is refused before anything is rendered
            assert self.environment is not None
        self.values = self._context(answers)

    @cached_property
    def environment(self) -> "TemplateEnvironment":
        """The layer's Jinja environment; importing Jinja takes longer than what most upgrades need it for."""
        from ..catalog.catalog import PARTIALS_DIR
        from ..catalog.jinja import TreeLoader, make_environment

        environment = make_environment(self.settings, self.layer.name)
        environment.loader = TreeLoader(self.layer.project, self.layer.partials, PARTIALS_DIR)
        return environment

    @cached_property
    def _loads(self) -> re.Pattern[str]:
        """Where a text begins to load another file, with its name in group 1 or 2 where it is written out."""
        starts = "|".join(re.escape(mark) for mark in self._openings)
        name = r"""\s*(?:"([^"]+)"|'([^']+)')"""
        end = rf"(?=[^\S\n]*(?:$|[-+]?{re.escape(self._closing)}|with|import))"
        return re.compile(rf"(?:{starts})[-+\s]*(?:include|import|from|extends)\b(?:{name}{end})?", re.MULTILINE)

    def read(self) -> list[Source]:
        """Every file that the answers call for, in path order.

        Raises:
            TemplateError: A path cannot be rendered, or is not one that a project can have.
        """
        sources: list[Source] = []
        for path, file in sorted(self.layer.project.items()):
            copied = self._copied_part(path)
            target = self._target(path, copied)
            if target is not None:
                plain = bool(copied) or self._is_plain(file.content)
                sources.append(Source(path, target, file, plain, self._origin(path, file, plain)))
        return sources

    def text(self, text: str, values: Mapping[str, Any], where: str) -> str:
        """Render a short text of the layer; `where` names it in errors."""
        if self._ordinary and not any(mark in text for mark in self._openings):
            return text
        from ..catalog.jinja import render_text

        return render_text(self.environment, text, values, where)

    def _context(self, answers: Mapping[str, Answer]) -> dict[str, Any]:
        """Return what `cookiecutter.…` means in the layer's files: the answers, and its private variables."""
        values: dict[str, Any] = dict(answers)
        for name, value in self.settings.items():
            if name.startswith("__") and isinstance(value, str):  # rendered, one by one, like cookiecutter does
                value = self.text(value, values, f"`{name}` of `{self.layer.name}`")
            values[name] = value
        return values

    def _copied_part(self, path: str) -> str:
        """Return the outermost folder of `path`, or `path`, that `_copy_without_render` names; empty if none."""
        patterns = self.values.get("_copy_without_render", ())
        parts = [*reversed(PurePosixPath(path).parents[:-1]), PurePosixPath(path)]
        return next((str(part) for part in parts if any(fnmatch(str(part), pattern) for pattern in patterns)), "")

    def _target(self, path: str, copied: str) -> str | None:
        """Return the path of the file that `path` renders to, or None if its name renders to nothing: no file then."""
        # The name of a copied folder is rendered, the names in it are not.
        name, rest = (copied, path.removeprefix(copied)) if copied else (path, "")
        target = self.text(name, self.values, f"The path `{path}` of `{self.layer.name}`") + rest
        if not target or target.endswith("/"):
            return None
        return check_file_path(str(PurePosixPath(target)))

    def _is_plain(self, content: bytes) -> bool:
        """Whether the engine would give a file back as it is: text without a mark of Jinja's, or binary."""
        if (
            not self._ordinary
            or self._newline
            or b"\r" in content
            or any(m.encode() in content for m in self._openings)
        ):
            return False
        try:
            content.decode()
        except UnicodeDecodeError:
            return False
        return True

    def _origin(self, path: str, file: File, plain: bool) -> str:
        parts: list[object] = [RENDERING, path, file.sha256, file.executable]
        if not plain:
            text = file.content.decode(errors="replace")
            parts.append(json.dumps(self.settings, sort_keys=True))
            reached = self._reached(text) if self._ordinary else None
            if reached is None:
                parts += [json.dumps(self.values, sort_keys=True), self._everything]
            else:
                parts += [json.dumps(self._named("\n".join([text, *reached])), sort_keys=True), *reached]
        return sha256("\0".join(map(str, parts)).encode()).hexdigest()

    def _reached(self, text: str) -> list[str] | None:
        """The texts of all files that `text` includes, and that those do; None where that cannot be told."""
        reached: dict[str, str] = {}
        waiting = [text]
        while waiting:
            for found in self._loads.finditer(waiting.pop()):
                name = found[1] or found[2]
                file = self.layer.project.get(name) or self.layer.partials.get(name)
                if file is None:  # an expression, or a name that only the engine makes something of
                    return None
                if name not in reached:
                    reached[name] = file.content.decode(errors="replace")
                    waiting.append(reached[name])
        return [reached[name] for name in sorted(reached)]

    def _named(self, text: str) -> dict[str, Any]:
        """The values that `text` can tell apart: those it names, or all where it holds more than names."""
        names = set()
        for found in re.finditer(rf"{_CONTEXT}(?:\.(\w+))?", text):
            if found[1] not in self.values:
                return self.values
            names.add(found[1])
        return {name: self.values[name] for name in sorted(names)}

    @cached_property
    def _everything(self) -> str:
        return tree_hash(self.layer.project) + tree_hash(self.layer.partials)
