"""Where a project uses a name whose meaning changed: the places that a rename would edit, found without renaming."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from ..catalog.api import ApiName
from ..catalog.metadata import ChangedMeaning
from ..files.tree import File
from .edits import Blocked, applied
from .modules import Project
from .notebook import with_code_of_notebooks
from .rename import find_edits


class Use(NamedTuple):
    """A place that uses a name.

    Attributes:
        path: The file.
        line: The line, from 1.
        text: The line's text, stripped.
        certain: Whether it certainly uses the name; False if the class of a value is unclear.
    """

    path: str
    line: int
    text: str
    certain: bool = True


class Uses(NamedTuple):
    """A name with a new meaning, and the user's own lines that use it."""

    name: ApiName
    text: str
    uses: tuple[Use, ...]

    def without(self, places: Collection[tuple[str, int]]) -> "Uses":
        """Drop the uses at these paths and lines."""
        return self._replace(uses=tuple(use for use in self.uses if (use.path, use.line) not in places))

    def to_json(self) -> dict[str, Any]:
        return {"name": str(self.name), "text": self.text, "uses": [use._asdict() for use in self.uses]}


def find_uses(files: Mapping[str, File], changed: ChangedMeaning, base: Mapping[str, File]) -> Uses:
    """Find the lines that use a name, in the user's own files and in lines that the baseline does not have.

    Imports do not count. For a parameter, every call of its function counts, as a call without it uses its default.
    """
    name = changed.name
    code = with_code_of_notebooks(files)
    project = Project(code.files)
    unused = f"{name.member or name.name}_"
    while any(unused.encode() in file.content for file in project.files.values()):
        unused += "_"
    old = name._replace(parameter="")
    new = old._replace(member=unused) if name.member else old._replace(name=unused)
    try:
        found = find_edits(project, old, new)
    except (Blocked, RecursionError):
        return Uses(name, changed.text, ())
    uses: list[Use] = []
    for path, one in sorted(found.items()):
        module = project.module(path)
        if module is None:
            continue
        shown = code.real_path(path)
        generated = {*base[shown].content.splitlines()} if shown in base and shown == path else set()
        lines = module.source.text.splitlines()
        places = {edit.line: True for edit in applied(module, one.edits)[1]}
        places |= {place.line: False for place in one.unclear if place.line not in places}
        for line, certain in sorted(places.items()):
            text = lines[line - 1].strip() if line <= len(lines) else ""
            own = lines[line - 1].encode() not in generated if line <= len(lines) else False
            if own and not text.startswith(("import ", "from ", "def ", "class ")):
                uses.append(Use(shown, code.line(path, line), text, certain))
    return Uses(name, changed.text, tuple(uses))
