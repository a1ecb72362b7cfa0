"""Rename in a project what its template, or a library, renamed: files in, files and a list of edits out."""

import ast
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ..catalog.api import ApiName
from ..catalog.metadata import RenamedApi
from ..files.tree import File
from .edits import Blocked, Edit, Found, Unclear, applied, mentions
from .members import has_member, rename_member
from .modules import Module, Project
from .names import rename_name
from .notebook import with_code_of_notebooks
from .parameters import rename_parameter
from .scopes import Function, all_arguments


class Renamed(NamedTuple):
    """The files of a project after renames.

    Attributes:
        files: All files, changed or not.
        made: The renames that were made.
        edits: The edits, in the order of the renames.
        unclear: Places that are left to the user.
        blocked: A message for each rename that was not made.
    """

    files: dict[str, File]
    made: tuple[RenamedApi, ...]
    edits: tuple[Edit, ...]
    unclear: tuple[Unclear, ...]
    blocked: tuple[str, ...]


def rename(files: Mapping[str, File], renames: Iterable[RenamedApi], fixed: Iterable[str] = ()) -> Renamed:
    """Make each rename, in order, in all Python files and notebooks that parse. Other files, and all other bytes, stay.

    Args:
        files: The project's files.
        renames: The renames.
        fixed: Files that are read, but not changed. A rename is not made if its definition is in one of them.
    """
    code = with_code_of_notebooks(files)
    now = dict(code.files)
    kept = {*fixed}
    kept |= {path for path in code.cells if code.real_path(path) in kept}
    edits: list[Edit] = []
    unclear: list[Unclear] = []
    blocked: list[str] = []
    made: list[RenamedApi] = []
    project = Project(now)
    for one in renames:
        try:
            found = find_edits(project, one.old, one.new)
            home = project.named(one.old.module)
            if home is not None and home.path in kept and home.path in found and found[home.path].edits:
                raise Blocked(f"`{home.path}` is left as it is")
        except (Blocked, RecursionError) as error:
            reason = error if isinstance(error, Blocked) else "the code is nested too deeply"
            blocked.append(f"`{one.old}` is now `{one.new}`, but is not renamed here: {reason}")
            continue
        made.append(one)
        unclear += _unreadable(project, one)
        for path, changes in sorted(found.items()):
            unclear += changes.unclear
            module = project.module(path)
            if module is None or not changes.edits:
                continue
            text, done = applied(module, changes.edits)
            cells = code.cells.get(path)
            fits_cells = cells is None or cells.with_code(text) is not None
            if path not in kept and fits_cells and _differs_in_names(module, text):
                edits += done
                now[path] = now[path]._replace(content=module.encode(text))
            else:  # an old name is better than a broken file
                unclear += [Unclear(path, edit.line, f"`{edit.old}` is now `{edit.new}`") for edit in done]
        if found:
            project = project.changed(now)
    shown = [one._replace(path=code.real_path(one.path), line=code.line(one.path, one.line)) for one in edits]
    left = [one._replace(path=code.real_path(one.path), line=code.line(one.path, one.line)) for one in unclear]
    return Renamed(code.put_back(now), tuple(made), tuple(shown), tuple(dict.fromkeys(left)), tuple(blocked))


def find_edits(project: Project, old: ApiName, new: ApiName) -> dict[str, Found]:
    """Find the edits that a rename needs, by file.

    Raises:
        Blocked: The rename cannot be made in this project.
    """
    if old.parameter:
        return rename_parameter(project, old, new)
    if old.member:
        return rename_member(project, old, new)
    return rename_name(project, old, new)


def _differs_in_names(module: Module, text: str) -> bool:
    """Whether a text is the module with other names: it parses, and its strings are the same, except single words."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return _strings(module.source.tree) == _strings(tree)


def _strings(tree: ast.AST) -> list[str]:
    """The strings of a module, without annotations and single words: these may be renamed, as in `__all__`."""
    annotations = (getattr(one, name, None) for one in ast.walk(tree) for name in ("annotation", "returns"))
    quoted = {id(one) for annotation in annotations if annotation is not None for one in ast.walk(annotation)}
    values = (one.value for one in ast.walk(tree) if isinstance(one, ast.Constant) and id(one) not in quoted)
    return [value for value in values if isinstance(value, str) and not value.isidentifier()]


def _unreadable(project: Project, one: RenamedApi) -> list[Unclear]:
    """The files that contain the old name, but do not parse."""
    reason = f"the file is not valid Python in UTF-8, so `{one.old.last}` is not renamed to `{one.new.last}`"
    return [Unclear(path, 1, reason) for path in mentions(project.files, one.old.last) if project.module(path) is None]


def defines(project: Project, name: ApiName) -> bool:
    """Whether a module of the project defines a name."""
    module = project.named(name.module)
    if module is None:
        return False
    if not name.member and not name.parameter:
        return name.name in module.source.scope.names
    found = project.definition(f"{name.module}.{name.name}")
    if found is None:
        return False
    node = found[1]
    if isinstance(node, ast.ClassDef) and not (name.parameter and not name.member):
        if not has_member(node, name.member):
            return False
        if not name.parameter:
            return True
    methods = [
        one
        for one in ast.walk(node)
        if isinstance(one, Function)
        and (one is node or (one.name == (name.member or "__init__") and isinstance(node, ast.ClassDef)))
    ]
    fields = isinstance(node, ast.ClassDef) and not name.member and has_member(node, name.parameter)
    return fields or any(argument.arg == name.parameter for one in methods for argument in all_arguments(one.args))


def applicable(renames: Iterable[RenamedApi], base: Project, ours: Project, theirs: Project) -> list[RenamedApi]:
    """Return the renames that apply to a project.

    In a module that the template generates, the baseline must define the old name and the new render the new one. A
    rename in any other module (of a library) applies, unless the user has a module of that name. Renames can build on
    each other, so they are checked in order.

    Args:
        renames: The declared renames, the earlier ones first.
        base: The baseline.
        ours: The user's files.
        theirs: The new render.
    """
    chosen: list[RenamedApi] = []
    new_names: list[ApiName] = []
    for one in renames:
        generated = base.has(one.old.module) or theirs.has(one.new.module)
        if generated:
            was_defined = _is_among(one.old, new_names) or defines(base, one.old)
            # If only some files were upgraded, the baseline may have the new name already, but other files the old one.
            was_defined = was_defined or (bool(one.since) and defines(base, one.new))
            renamed_again = _is_among(one.new, [later.old for later in renames])
            applies = was_defined and (renamed_again or defines(theirs, one.new))
        else:
            applies = not ours.has(one.old.module)
        if applies:
            chosen.append(one)
            new_names.append(one.new)
    return chosen


def _is_among(name: ApiName, others: Iterable[ApiName]) -> bool:
    """Whether a name, or one of its members or parameters, is among others."""
    return any((name.module, name.name) == (other.module, other.name) for other in others)
