"""Format the Python files of a tree with black, by the tree's own `[tool.black]`.

black is imported for the first file that needs it: that takes longer than everything else in most upgrades.
"""

import ast
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import TemplateError
from ..files.tree import PROJECT_FILE, File, Tree

if TYPE_CHECKING:
    from black import Mode


class Formatted(NamedTuple):
    """A formatted tree, and what it was before.

    Attributes:
        tree: POSIX path -> file.
        unformatted: Path -> SHA-256 of the file before, for those that were formatted: with it, an upgrade need not
            format again what has not changed, which takes longer than the rest of it.
    """

    tree: Mapping[str, File]
    unformatted: Mapping[str, str]


def format_tree(tree: Tree, template: str, earlier: Formatted | None = None) -> Formatted:
    """Format the Python files of a render by its `pyproject.toml`; nothing if that has no `[tool.black]`.

    Args:
        tree: POSIX path -> file.
        template: The template's name, for errors.
        earlier: What the same version of paccel formatted before. With the same settings, files that were the same
            before they were formatted are taken from it.

    Raises:
        TemplateError: `pyproject.toml` is not valid TOML, or a file is not valid Python.
    """
    formatter = _formatter(tree, template)
    if formatter is None:
        return Formatted(tree, {})
    if earlier is not None and _formatter(earlier.tree, template) != formatter:
        earlier = None
    formatted: dict[str, File] = {}
    unformatted: dict[str, str] = {}
    for path, file in tree.items():
        if not formatter.applies(path):
            formatted[path] = file
            continue
        unformatted[path] = file.sha256
        if earlier is not None and path in earlier.tree and earlier.unformatted.get(path) == file.sha256:
            content = earlier.tree[path].content
        else:
            content = formatter.format(file.content, path)
        formatted[path] = File(content, file.executable)
    return Formatted(formatted, unformatted)


def _formatter(tree: Tree, template: str) -> "Formatter | None":
    return Formatter.of(tree[PROJECT_FILE], template) if PROJECT_FILE in tree else None


@dataclass(frozen=True)
class Formatter:
    """What a rendered `pyproject.toml` says about formatting.

    Attributes:
        black_options: Its `[tool.black]`, with underscores in the names.
        requires_python: Its `requires-python`.
        template: The template's name, for errors.
    """

    black_options: Mapping[str, Any]
    requires_python: str | None
    template: str

    @classmethod
    def of(cls, project: File, template: str) -> "Formatter | None":
        """Read a `pyproject.toml`; None if there is no `[tool.black]` in it: then nothing is formatted.

        Raises:
            TemplateError: It is not valid TOML.
        """
        try:
            data = tomllib.loads(project.content.decode())
        except ValueError as error:
            raise TemplateError(f"`{PROJECT_FILE}`, rendered from `{template}`, is not valid TOML: {error}") from error
        options = data.get("tool", {}).get("black")
        if options is None:
            return None
        options = {name.removeprefix("--").replace("-", "_"): value for name, value in options.items()}
        return cls(options, data.get("project", {}).get("requires-python"), template)

    def applies(self, path: str) -> bool:
        """Whether the file at `path` is formatted."""
        return path.endswith((".py", ".pyi")) and not any(pattern.search("/" + path) for pattern in self._excluded)

    def format(self, content: bytes, path: str) -> bytes:
        """Format one file; its line ends and byte-order mark are kept.

        Raises:
            TemplateError: It is not valid Python.
        """
        from black import format_str

        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise TemplateError(f"`{path}`, rendered from `{self.template}`, is not UTF-8") from error
        newline = "\r\n" if text.partition("\n")[0].endswith("\r") else "\n"
        mode = replace(self._mode, is_pyi=path.endswith(".pyi"))
        try:
            formatted = format_str(text.replace("\r\n", "\n"), mode=mode)
        except Exception as error:  # black raises its own for what it cannot parse, and others for what it trips over
            raise TemplateError(self._python_error(text, path, error)) from error
        bom = b"\xef\xbb\xbf" if content.startswith(b"\xef\xbb\xbf") else b""
        return bom + formatted.replace("\n", newline).encode()

    @cached_property
    def _excluded(self) -> list[re.Pattern[str]]:
        names = ("exclude", "extend_exclude", "force_exclude")
        return [re.compile(self.black_options[name]) for name in names if self.black_options.get(name)]

    @cached_property
    def _mode(self) -> "Mode":
        from black import Mode
        from black.files import infer_target_version
        from black.mode import TargetVersion

        options = self.black_options
        versions: Iterable[Any] = [
            getattr(TargetVersion, str(name).upper(), None) for name in options.get("target_version", [])
        ]
        if None in versions:
            raise TemplateError(
                f"`target-version` of `[tool.black]` in `{self.template}` names a Python version that black does not know"
            )
        project = {"project": {"requires-python": self.requires_python}} if self.requires_python else {}
        return Mode(
            target_versions=set(versions or infer_target_version(project) or ()),
            line_length=options.get("line_length", 88),
            string_normalization=not options.get("skip_string_normalization", False),
            magic_trailing_comma=not options.get("skip_magic_trailing_comma", False),
            preview=options.get("preview", False) or options.get("unstable", False),
            unstable=options.get("unstable", False),
        )

    def _python_error(self, text: str, path: str, error: Exception) -> str:
        """Say where a file is wrong, in the parser's own words if it agrees with black."""
        try:
            ast.parse(text)
        except SyntaxError as syntax:
            return f"`{path}` line {syntax.lineno}, rendered from `{self.template}`, is not valid Python: {syntax.msg}"
        except ValueError as null:
            return f"`{path}`, rendered from `{self.template}`, is not valid Python: {null}"
        return f"`{path}`, rendered from `{self.template}`, cannot be formatted by black: {error}"
