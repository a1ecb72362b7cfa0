"""Format the Python files of a tree with black, by the tree's own `[tool.black]`."""

import ast
import re
import tomllib
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .errors import TemplateError
from .tree import File, Tree

if TYPE_CHECKING:
    from black import Mode

PROJECT_FILE = "pyproject.toml"


def format_tree(tree: Tree, where: str) -> dict[str, File]:
    """Format every Python file; a tree without `[tool.black]` in its `pyproject.toml` is returned as it is.

    Args:
        tree: The rendered files.
        where: The template's name, for errors.

    Raises:
        TemplateError: `pyproject.toml` is no TOML, or a file is no valid Python.
    """
    result = dict(tree)
    project = tree.get(PROJECT_FILE)
    if project is None:
        return result
    try:
        settings = tomllib.loads(project.content.decode())
    except ValueError as error:
        raise TemplateError(f"`{PROJECT_FILE}`, rendered from `{where}`, is not valid TOML: {error}") from error
    options = settings.get("tool", {}).get("black")
    if options is None:
        return result
    options = {name.removeprefix("--").replace("-", "_"): value for name, value in options.items()}
    mode = _black_mode(options, settings, where)
    excluded = [re.compile(options[key]) for key in ("exclude", "extend_exclude", "force_exclude") if options.get(key)]
    for path, file in tree.items():
        if path.endswith((".py", ".pyi")) and not any(pattern.search("/" + path) for pattern in excluded):
            result[path] = File(_format(file.content, mode, path, where), file.executable)
    return result


def _black_mode(options: dict[str, Any], settings: dict[str, Any], where: str) -> "Mode":
    from black import Mode
    from black.files import infer_target_version
    from black.mode import TargetVersion

    versions: Iterable[Any] = [
        getattr(TargetVersion, str(name).upper(), None) for name in options.get("target_version", [])
    ]
    if None in versions:
        raise TemplateError(f"`target-version` of `[tool.black]` in `{where}` names a Python that black does not know")
    return Mode(
        target_versions=set(versions or infer_target_version(settings) or ()),
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
