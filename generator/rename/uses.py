"""Where a project uses a name whose meaning has changed: what a rename would edit, but nothing is renamed."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from ..catalog.api import ApiName
from ..catalog.metadata import ChangedMeaning
from ..files.tree import File
from .edits import Blocked, applied
from .members import rename_member
from .modules import Project
from .names import rename_name
from .notebook import with_code_of_notebooks


class Use(NamedTuple):
    """A place that uses a name.

    Attributes:
        path: The file.
        line: The line in it, from 1.
        text: That line, without the space around it.
        certain: Whether the name is certainly meant; not where the class of a value is not plain.
    """

    path: str
    line: int
    text: str
    certain: bool = True


class Uses(NamedTuple):
    """A name that means something else now, and where the user's own lines use it."""

    name: ApiName
    text: str
    uses: tuple[Use, ...]

    def without(self, places: Collection[tuple[str, int]]) -> "Uses":
        """The uses that are not at one of these paths and lines."""
        return self._replace(uses=tuple(use for use in self.uses if (use.path, use.line) not in places))

    def to_json(self) -> dict[str, Any]:
        return {"name": str(self.name), "text": self.text, "uses": [use._asdict() for use in self.uses]}


def find_uses(files: Mapping[str, File], changed: ChangedMeaning, base: Mapping[str, File]) -> Uses:
    """Find where the user's own files, and lines that are not in the baseline's files, use a name.

    Imports are no uses. Of a parameter, all calls of its function are: those that leave it out have its default.
    """
    name = changed.name
    code = with_code_of_notebooks(files)
    project = Project(code.files)
    fresh = f"{name.member or name.name}_"
    while any(fresh.encode() in file.content for file in project.files.values()):
        fresh += "_"
    try:
        if name.member:
            found = rename_member(project, name._replace(parameter=""), name._replace(member=fresh, parameter=""))
        else:
            found = rename_name(project, name._replace(parameter=""), name._replace(name=fresh, parameter=""))
    except (Blocked, RecursionError):
        return Uses(name, changed.text, ())
    uses: list[Use] = []
    for path, one in sorted(found.items()):
        module = project.module(path)
        if module is None:
            continue
        shown = code.shown(path)
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
