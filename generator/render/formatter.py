"""Format the Python files of a tree with black, by the tree's own `[tool.black]`.

black is imported for the first file that needs it: that takes longer than everything else in most upgrades.
"""

import ast
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..errors import TemplateError
from ..files.tree import PROJECT_FILE, File

if TYPE_CHECKING:
    from black import Mode


@dataclass(frozen=True)
class Formatter:
    """What a rendered `pyproject.toml` says of formatting.

    Attributes:
        options: Its `[tool.black]`, in black's own spelling.
        python: Its `requires-python`.
        where: The template's name, for errors.
    """

    options: Mapping[str, Any]
    python: str | None
    where: str

    @classmethod
    def of(cls, project: File, where: str) -> "Formatter | None":
        """Read a `pyproject.toml`; None if there is no `[tool.black]` in it: then nothing is formatted.

        Raises:
            TemplateError: It is no TOML.
        """
        try:
            settings = tomllib.loads(project.content.decode())
        except ValueError as error:
            raise TemplateError(f"`{PROJECT_FILE}`, rendered from `{where}`, is not valid TOML: {error}") from error
        options = settings.get("tool", {}).get("black")
        if options is None:
            return None
        options = {name.removeprefix("--").replace("-", "_"): value for name, value in options.items()}
        python = settings.get("project", {}).get("requires-python")
        return cls(options, python, where)

    @cached_property
    def settings(self) -> str:
        """All that has a say in the bytes, as text."""
        return repr((sorted(self.options.items()), self.python))

    def applies(self, path: str) -> bool:
        """Whether the file at `path` is formatted."""
        return path.endswith((".py", ".pyi")) and not any(pattern.search("/" + path) for pattern in self._excluded)

    def format(self, content: bytes, path: str) -> bytes:
        """Format one file.

        Raises:
            TemplateError: It is no valid Python.
        """
        return _format(content, self._mode, path, self.where)

    @cached_property
    def _excluded(self) -> list[re.Pattern[str]]:
        names = ("exclude", "extend_exclude", "force_exclude")
        return [re.compile(self.options[name]) for name in names if self.options.get(name)]

    @cached_property
    def _mode(self) -> "Mode":
        return _black_mode(self.options, self.python, self.where)


def _black_mode(options: Mapping[str, Any], python: str | None, where: str) -> "Mode":
    from black import Mode
    from black.files import infer_target_version
    from black.mode import TargetVersion

    versions: Iterable[Any] = [
        getattr(TargetVersion, str(name).upper(), None) for name in options.get("target_version", [])
    ]
    if None in versions:
        raise TemplateError(f"`target-version` of `[tool.black]` in `{where}` names a Python that black does not know")
    return Mode(
        target_versions=set(
            versions or infer_target_version({"project": {"requires-python": python}} if python else {}) or ()
        ),
        line_length=options.get("line_length", 88),
        string_normalization=not options.get("skip_string_normalization", False),
        magic_trailing_comma=not options.get("skip_magic_trailing_comma", False),
        preview=options.get("preview", False) or options.get("unstable", False),
        unstable=options.get("unstable", False),
    )


def _format(content: bytes, mode: "Mode", path: str, where: str) -> bytes:
    from black import format_str

    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TemplateError(f"`{path}`, rendered from `{where}`, is not UTF-8") from error
    newline = "\r\n" if text.partition("\n")[0].endswith("\r") else "\n"
    try:
        formatted = format_str(text.replace("\r\n", "\n"), mode=replace(mode, is_pyi=path.endswith(".pyi")))
    except (
        Exception
    ) as error:  # black raises its own for what it cannot parse, and several others for what it trips over
        raise TemplateError(_python_error(text, path, where, error)) from error
    bom = b"\xef\xbb\xbf" if content.startswith(b"\xef\xbb\xbf") else b""
    return bom + formatted.replace("\n", newline).encode()


def _python_error(text: str, path: str, where: str, error: Exception) -> str:
    """Say where a file is wrong, in the parser's own words if it agrees with black."""
    try:
        ast.parse(text)
    except SyntaxError as syntax:
        return f"`{path}` line {syntax.lineno}, rendered from `{where}`, is not valid Python: {syntax.msg}"
    except ValueError as null:
        return f"`{path}`, rendered from `{where}`, is not valid Python: {null}"
    return f"`{path}`, rendered from `{where}`, cannot be formatted by black: {error}"
