"""Rewrite the files of a project that has its own runtime: `paccel.runtime` becomes `paccel_runtime`, also in commands.

It works on text, not on syntax trees, so notebooks, launch scripts and documentation are rewritten too, and nothing else in
them changes. All patterns are ASCII, so the encoding of a file does not matter.
"""

import ast
import re
import tomllib
from pathlib import PurePosixPath
from typing import Any

from ..errors import TemplateError
from ..files.tree import PROJECT_FILE, File, Tree
from .requirements import replace_requirement
from .runtime import PACKAGE, Vendored, runtime_files, runtime_requirements

_SUFFIXES = {
    *(".py", ".pyi", ".ipynb", ".md", ".rst", ".txt", ".in", ".toml", ".cfg", ".ini", ".json", ".yml", ".yaml"),
    *(".sh", ".bash", ".sbatch", ".slurm", ".mk", ".ps1", ".bat"),
}
_NAMES = re.compile(r"(Dockerfile|Containerfile|Makefile|justfile|Procfile|Pipfile)(\..+)?", re.IGNORECASE)
_CODE = {".py", ".pyi", ".ipynb"}

_DOTTED = re.compile(r"(?<![\w.])paccel\.runtime(?!\w)", re.ASCII)
_FROM = re.compile(
    r"\bfrom[ \t]+paccel[ \t]+import[ \t]+(?:\((?P<many>[^()]*)\)|(?P<few>\w+(?:[ \t]+as[ \t]+\w+)?"
    r"(?:[ \t]*,[ \t]*\w+(?:[ \t]+as[ \t]+\w+)?)*))",
    re.ASCII,
)
_LEFT = re.compile(
    r"^[^#\n]*?(?:\bimport[ \t]+paccel\b|\bfrom[ \t]+paccel[ \t.]|\bpaccel[ \t]*\[|[\"']paccel[ \t]*[\"'<>=!~;])"
    r"|^[ \t]*(?:-[ \t]+)?(?:[\w-]+::)?paccel[ \t]*(?:[<>=!~;]|$)"
    r"|^\[tool\.[\w.-]*\bpaccel\]|#egg=paccel\b",
    re.ASCII | re.MULTILINE | re.IGNORECASE,
)
_INSTALLED = re.compile(
    r"^[^#\n]*\b(?:install|add)\b[^#\n]*[ \t\"']paccel(?=[ \t\"'<>=!~;]|$)", re.ASCII | re.MULTILINE
)
_RUN = re.compile(r"(?<![\w.\[])paccel (?:upgrade|set|diff|doctor)\b")


def is_rewritten(path: str) -> bool:
    """Whether a file is of a kind that may name the runtime."""
    name = PurePosixPath(path)
    return name.suffix.lower() in _SUFFIXES or _NAMES.fullmatch(name.name) is not None


def rewritten(path: str, file: File) -> File:
    """Return a file rewritten to use the project's own runtime; unchanged if it uses none, or would no longer be valid Python."""
    if b"paccel" not in file.content.lower() or not is_rewritten(path):
        return file
    text = file.content.decode("latin-1")  # decodes any bytes
    new = _FROM.sub(_import, _DOTTED.sub(PACKAGE, text))
    new = replace_requirement(new, runtime_requirements())
    if PurePosixPath(path).name == PROJECT_FILE and new != text:
        new = _with_import_order(_with_packages(new))
    if "\r\n" in text:
        new = re.sub(r"(?<!\r)\n", "\r\n", new)
    content = new.encode("latin-1")
    if path.endswith((".py", ".pyi")) and _is_python(file.content) and not _is_python(content):
        return file
    return file._replace(content=content)


def uses_runtime(path: str, file: File) -> bool:
    """Whether code imports the runtime, from paccel or from the project's own package."""
    if PurePosixPath(path).suffix not in _CODE or b"paccel" not in file.content:
        return False
    text = rewritten(path, file).content.decode("latin-1")
    return re.search(rf"\b(?:from|import)[ \t]+{PACKAGE}\b", text) is not None


def lines_left(path: str, file: File) -> list[int]:
    """Return the lines of a rewritten file that still import or require paccel."""
    if b"paccel" not in file.content.lower() or not is_rewritten(path) or path.endswith((".md", ".rst")):
        return []
    text = file.content.decode("latin-1")
    found = {text.count("\n", 0, one.end()) + 1 for one in _LEFT.finditer(text)}
    if not _RUN.search(text):  # a file that runs `paccel upgrade` still needs paccel
        found |= {text.count("\n", 0, one.end()) + 1 for one in _INSTALLED.finditer(text)}
    return sorted(found)


def in_project(tree: Tree, vendored: Vendored | None) -> Tree:
    """Return a render as an ejected project has it: rewritten, and with the installed runtime.

    Args:
        tree: The render.
        vendored: The project's copy of the runtime. None: the render is returned unchanged.

    Raises:
        TemplateError: The template has a file where the runtime goes.
        PreconditionError: The runtime is not completely installed.
    """
    if vendored is None:
        return tree
    taken = [path for path in tree if path == vendored.path or path.startswith(f"{vendored.path}/")]
    if taken:
        raise TemplateError(f"The template has a file `{taken[0]}`, where the project has its copy of the runtime")
    copied = {f"{vendored.path}/{path}": file for path, file in runtime_files().items()}
    return dict(sorted({**{path: rewritten(path, file) for path, file in tree.items()}, **copied}.items()))


def without_copy(tree: Tree, vendored: Vendored | None) -> Tree:
    """Return a project's files without its copy of the runtime, which no template renders."""
    if vendored is None:
        return tree
    return {path: file for path, file in tree.items() if not path.startswith(f"{vendored.path}/")}


def _import(found: re.Match[str]) -> str:
    """Rewrite `from paccel import runtime`, and keep the other names of the statement."""
    names = [name.split("#")[0].split() for name in (found["many"] or found["few"]).replace("\n", " ").split(",")]
    names = [name for name in names if name]
    own = [name[-1] for name in names if name[0] == "runtime"]
    others = [" ".join(name) for name in names if name[0] != "runtime"]
    if not own:
        return found[0]
    imports = [f"import {PACKAGE} as {alias}" for alias in own]
    return "; ".join([*imports, *([f"from paccel import {', '.join(others)}"] if others else [])])


def _is_python(content: bytes) -> bool:
    try:
        ast.parse(content)
    except (SyntaxError, ValueError, RecursionError):
        return False
    return True


def _with_packages(text: str) -> str:
    """Add the runtime's packages to setuptools' list of packages, if there is one."""
    setuptools = _table(text, "tool", "setuptools")
    packages = setuptools.get("packages")
    if not isinstance(packages, list) or PACKAGE in packages:
        return text
    folders = {PurePosixPath(path).parent for path in runtime_files() if path.endswith(".py")}
    names = sorted(".".join([PACKAGE, *folder.parts]) for folder in folders)
    added = "".join(f'"{name}", ' for name in names)
    return _if_valid(text, re.sub(r"(?m)^(packages[ \t]*=[ \t]*\[\s*)", lambda found: found[1] + added, text, count=1))


def _with_import_order(text: str) -> str:
    """Tell ruff that the runtime is third-party, so that its imports are sorted where they were."""
    if not _table(text, "tool", "ruff"):
        return text
    isort = _table(text, "tool", "ruff", "lint", "isort")
    line = f'known-third-party = ["{PACKAGE}"]\n'
    if PACKAGE in isort.get("known-third-party", []):
        return text
    if "known-third-party" in isort:
        new = re.sub(
            r"(?m)^(known-third-party[ \t]*=[ \t]*\[\s*)", lambda found: f'{found[1]}"{PACKAGE}", ', text, count=1
        )
    elif re.search(r"(?m)^\[tool\.ruff\.lint\.isort\][ \t]*\r?$", text):
        new = re.sub(r"(?m)^(\[tool\.ruff\.lint\.isort\][^\n]*\n)", lambda found: found[1] + line, text, count=1)
    else:
        new = f"{text.rstrip()}\n\n[tool.ruff.lint.isort]\n{line}"
    return _if_valid(text, new)


def _table(text: str, *names: str) -> dict[str, Any]:
    try:
        value: Any = tomllib.loads(text.replace("\r\n", "\n"))
    except (ValueError, RecursionError):
        return {}
    for name in names:
        value = value.get(name, {}) if isinstance(value, dict) else {}
    return value if isinstance(value, dict) else {}


def _if_valid(old: str, new: str) -> str:
    """Return the new text of a TOML file, or the old one if the new one is not valid."""
    return new if _table(new) else old
