"""Find the template in a folder, archive or repository, which may hold several."""

import json
import re
from pathlib import Path

from ..errors import TemplateError
from ..files.names import is_text
from .address import Address

CONTEXT_FILE = "cookiecutter.json"
"""The file that makes a folder a cookiecutter template."""


def find_template(top: Path, address: Address) -> Path:
    """Return the folder of the template in `top`: the one that the address names, or else the only one.

    Args:
        top: A folder, an unpacked archive or a cloned repository.
        address: The address that led to it.

    Raises:
        TemplateError: There is no template, or there are several.
    """
    folder = top / address.inside
    if not folder.is_dir() or not folder.resolve().is_relative_to(top.resolve()):
        raise TemplateError(f"`{address.shown}` has no folder `{address.inside}`")
    seen: set[Path] = set()
    while folder not in seen:  # nested templates may list each other in a circle
        seen.add(folder)
        choices = _nested(folder, top)
        if not choices and (folder / CONTEXT_FILE).is_file():
            return folder
        choices = choices or _below(folder)
        if len(choices) > 1:
            names = sorted(path.resolve().relative_to(top.resolve()).as_posix() for path in choices)
            listed = ", ".join(f"`{name}`" for name in names)
            raise TemplateError(f"`{address.shown}` has several templates ({listed}): choose one, as in `…#{names[0]}`")
        if choices:
            folder = choices[0]
    around = next((parent for parent in folder.absolute().parents if (parent / CONTEXT_FILE).is_file()), None)
    hint = f"; the folder around it, `{around}`, has one: give that" if around is not None else ""
    raise TemplateError(f"`{address.shown}` is not a cookiecutter template: it has no `{CONTEXT_FILE}`{hint}")


def _nested(folder: Path, top: Path) -> list[Path]:
    """The templates that a `cookiecutter.json` lists instead of questions, in either of cookiecutter's two formats."""
    if not (folder / CONTEXT_FILE).is_file():  # reading a named pipe would never return
        return []
    try:
        context = json.loads((folder / CONTEXT_FILE).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return []  # reading the template will report it
    paths: list[object] = []
    if isinstance(context, dict) and isinstance(context.get("templates"), dict):
        paths = [entry.get("path") for entry in context["templates"].values() if isinstance(entry, dict)]
    elif isinstance(context, dict) and isinstance(context.get("template"), list):
        paths = [found[1] for entry in context["template"] if (found := re.search(r"\((.+)\)", str(entry)))]
    places = [(folder / path).resolve() for path in paths if isinstance(path, str) and is_text(path)]
    inside = [place for place in places if place.is_relative_to(top.resolve()) and (place / CONTEXT_FILE).is_file()]
    return [*dict.fromkeys(inside)]


def _below(folder: Path) -> list[Path]:
    """The templates in a folder, or else one level further down; names with `_` are layers, not templates."""
    for candidates in (folder.iterdir(), folder.glob("[!.]*/*")):
        found = [path for path in candidates if (path / CONTEXT_FILE).is_file() and path.name[0] not in "_."]
        if found:
            return found
    return []
