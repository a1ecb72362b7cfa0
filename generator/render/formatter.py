"""Format the Python files of a tree with black, with the `[tool.black]` options of its own `pyproject.toml`.

black is imported only when a file needs it, because the import takes longer than everything else in most upgrades.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ..errors import TemplateError
from ..files.gitignore import ignore_spec
from ..files.tree import PROJECT_FILE, File, Tree
from ..sandbox.patterns import search

if TYPE_CHECKING:
    from black import Mode
    from pathspec import GitIgnoreSpec

T = TypeVar("T")

BLACKS_EXCLUDE = re.compile(
    r"/(\.direnv|\.eggs|\.git|\.hg|\.ipynb_checkpoints|\.mypy_cache|\.nox|\.pytest_cache|\.ruff_cache|\.tox|\.svn|\.venv"
    r"|\.vscode|__pypackages__|_build|buck-out|build|dist|venv)/"
)
"""`black.const.DEFAULT_EXCLUDES`, without importing black; a test compares the two."""


class Formatted(NamedTuple):
    """A formatted tree.

    Attributes:
        tree: POSIX path -> file.
        unformatted: Path -> SHA-256 before formatting, for each formatted file. With it, an upgrade skips files that have
            not changed; formatting them would take longer than the rest of the upgrade.
    """

    tree: Mapping[str, File]
    unformatted: Mapping[str, str]


def format_tree(tree: Tree, template: str, earlier: Formatted | None = None) -> Formatted:
    """Format the Python files of a render, if its `pyproject.toml` has a `[tool.black]`.

    Files that `black .` skips do not change: excluded and ignored files, and files that are not valid Python.

    Args:
        tree: POSIX path -> file.
        template: The template's name, for errors.
        earlier: An earlier result of the same version of paccel. If the settings are the same, it provides the files
            that are the same before formatting.

    Raises:
        TemplateError: An option in `[tool.black]` is not valid.
    """
    formatter = Formatter.of(tree, template)
    if formatter is None:
        return Formatted(tree, {})
    if earlier is not None and Formatter.of(earlier.tree, template) != formatter:
        earlier = None
    included = formatter.included(tree)
    formatted: dict[str, File] = {}
    unformatted: dict[str, str] = {}
    for path, file in tree.items():
        known = earlier is not None and path in earlier.tree and earlier.unformatted.get(path) == file.sha256
        if path not in included or (not known and formatter.ignores(path)):
            formatted[path] = file
            continue
        unformatted[path] = file.sha256
        content = earlier.tree[path].content if known and earlier else formatter.format(file.content, path)
        formatted[path] = File(content, file.executable)
    return Formatted(formatted, unformatted)


@dataclass(frozen=True)
class Formatter:
    """The formatting settings of a render.

    Attributes:
        black_options: The `[tool.black]` of its `pyproject.toml`, with underscores in the names.
        requires_python: Its `requires-python`.
        ignored: Folder -> the text of its `.gitignore`, outer folders first. black reads them only without an `exclude`.
        template: The template's name, for errors.
    """

    black_options: Mapping[str, Any]
    requires_python: str | None
    ignored: Mapping[str, str]
    template: str

    @classmethod
    def of(cls, tree: Tree, template: str) -> "Formatter | None":
        """Read the settings of a render; None if there is no readable `[tool.black]`, so that nothing is formatted."""
        try:
            data = tomllib.loads(tree[PROJECT_FILE].content.decode())
        except (KeyError, ValueError, RecursionError):
            return None  # a template may generate whatever it likes
        tool, project = data.get("tool"), data.get("project")
        options = tool.get("black") if isinstance(tool, dict) else None
        if not isinstance(options, dict):
            return None
        options = {name.removeprefix("--").replace("-", "_"): value for name, value in options.items()}
        requires = project.get("requires-python") if isinstance(project, dict) else None
        ignored = {
            path.rpartition("/")[0]: tree[path].content.decode("utf-8-sig", errors="replace")
            for path in sorted(tree, key=lambda path: path.count("/"))
            if PurePosixPath(path).name == ".gitignore" and "exclude" not in options
        }
        return cls(options, requires if isinstance(requires, str) else None, ignored, template)

    def included(self, paths: Iterable[str]) -> set[str]:
        """Return the files that black's options include and do not exclude."""
        wanted = [path for path in paths if path.endswith((".py", ".pyi"))]
        include = self._option("include", str, "")
        if include:
            wanted = [path for path, found in zip(wanted, self._search(include, wanted), strict=True) if found]
        for name in ("exclude", "extend_exclude", "force_exclude"):
            pattern = self._option(name, str, "")
            if name == "exclude" and name not in self.black_options:
                wanted = [path for path in wanted if not BLACKS_EXCLUDE.search(f"/{path}")]
            elif pattern:
                wanted = self._without(pattern, wanted)
        return set(wanted)

    def ignores(self, path: str) -> bool:
        """Return whether git, and so black, ignores a file."""
        return any(
            spec.match_file(part.removeprefix(f"{folder}/" if folder else ""))
            for folder, spec in self._ignoring
            for part in _steps(path)
            if not folder or part.startswith(f"{folder}/")
        )

    def format(self, content: bytes, path: str) -> bytes:
        """Format one file. Line ends and byte order mark are kept; a file that is not valid Python does not change."""
        from black import format_str

        mode = replace(self._mode, is_pyi=self._mode.is_pyi or path.endswith(".pyi"))
        try:
            text = content.decode("utf-8-sig")
            lines = text.replace("\r\n", "\n").splitlines(keepends=True)
            first = int(mode.skip_source_first_line)
            formatted = "".join(lines[:first]) + format_str("".join(lines[first:]), mode=mode)
        except Exception:  # black raises its own errors for invalid code, and others where it has a bug
            return content
        newline = "\r\n" if text.partition("\n")[0].endswith("\r") else "\n"
        bom = b"\xef\xbb\xbf" if content.startswith(b"\xef\xbb\xbf") else b""
        return bom + formatted.replace("\n", newline).encode()

    def _option(self, name: str, kind: type[T], usual: T) -> T:
        """Return an option of `[tool.black]`; like black, accept numbers and booleans as text."""
        value = self.black_options.get(name, usual)
        if isinstance(value, str) and kind is bool and value.lower() in ("true", "false"):
            value = value.lower() == "true"
        if isinstance(value, str) and kind is int and re.fullmatch("[0-9]{1,6}", value):
            value = int(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            kinds: dict[type, str] = {int: "a number", bool: "true or false", str: "text", list: "a list"}
            raise self._wrong(name, f"must be {kinds[kind]}, not `{value}`")
        return value

    def _wrong(self, name: str, problem: str) -> TemplateError:
        option = name.replace("_", "-")
        return TemplateError(f"`{option}` of `[tool.black]`, rendered from `{self.template}`, {problem}")

    def _without(self, pattern: str, paths: list[str]) -> list[str]:
        """Return the paths that a pattern does not match, nor any of their folders."""
        steps = sorted({step for path in paths for step in _steps(path)})
        found = dict(zip(steps, self._search(pattern, steps), strict=True))
        return [path for path in paths if not any(found[step] for step in _steps(path))]

    def _search(self, pattern: str, paths: list[str]) -> list[bool]:
        verbose = f"(?x){pattern}" if "\n" in pattern else pattern  # like black
        where = f"an expression in `[tool.black]`, rendered from `{self.template}`"
        return [bool(match) for match in search(verbose, [f"/{path}" for path in paths], where)]

    @cached_property
    def _ignoring(self) -> "list[tuple[str, GitIgnoreSpec]]":
        return [(folder, ignore_spec(text)) for folder, text in self.ignored.items()]

    @cached_property
    def _mode(self) -> "Mode":
        from black import Mode
        from black.files import infer_target_version
        from black.mode import Preview, TargetVersion

        names = self._option("target_version", list, [])
        versions: Iterable[Any] = [getattr(TargetVersion, str(name).upper(), None) for name in names]
        if None in versions:
            raise self._wrong("target_version", "names a Python version that black does not know")
        features = [getattr(Preview, str(name), None) for name in self._option("enable_unstable_feature", list, [])]
        if None in features:
            raise self._wrong("enable_unstable_feature", "names a feature that black does not know")
        project = {"project": {"requires-python": self.requires_python}} if self.requires_python else {}
        try:
            inferred = infer_target_version(project)
        except Exception:  # black does not catch every error of an odd version
            inferred = None
        unstable = self._option("unstable", bool, False)
        return Mode(
            target_versions=set(versions or inferred or ()),
            line_length=self._option("line_length", int, 88),
            string_normalization=not self._option("skip_string_normalization", bool, False),
            magic_trailing_comma=not self._option("skip_magic_trailing_comma", bool, False),
            skip_source_first_line=self._option("skip_source_first_line", bool, False),
            is_pyi=self._option("pyi", bool, False),
            preview=self._option("preview", bool, False) or unstable,
            unstable=unstable,
            enabled_features={feature for feature in features if feature is not None},
        )


def _steps(path: str) -> list[str]:
    """Return the folders above a file, each with a slash at the end, and the file."""
    parts = path.split("/")
    return ["/".join(parts[:end]) + "/" for end in range(1, len(parts))] + [path]
