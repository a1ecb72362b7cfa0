"""Rename in a project what its template, or a library, has renamed: files in, files and a list of edits out.

done = rename(files, renames)
"""

import ast
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ..catalog.api import ApiName
from ..catalog.metadata import RenamedApi
from ..files.tree import File
from .edits import Blocked, Edit, Found, Unclear, applied, mentions
from .members import has_member, rename_member, rename_parameter
from .modules import Function, Module, Project
from .names import rename_name
from .notebook import with_code_of_notebooks
from .scopes import all_arguments


class Renamed(NamedTuple):
    """The files of a project after renames.

    Attributes:
        files: All files; those that nothing concerns as they were.
        made: The renames that were made.
        edits: What was replaced, in the order of the renames.
        unclear: Places that are left to the user.
        blocked: Renames that were not made, each with the reason.
    """

    files: dict[str, File]
    made: tuple[RenamedApi, ...]
    edits: tuple[Edit, ...]
    unclear: tuple[Unclear, ...]
    blocked: tuple[str, ...]


def rename(files: Mapping[str, File], renames: Iterable[RenamedApi], fixed: Iterable[str] = ()) -> Renamed:
    """Make each rename in all Python files that parse, in order; other files, and all other bytes, stay as they are.

    Args:
        files: The project's files.
        renames: What to rename.
        fixed: Files that are read, but not changed; a rename that would have to change the definition in one is not made.
    """
    code = with_code_of_notebooks(files)
    now = dict(code.files)
    kept = {*fixed}
    kept |= {path for path in code.cells if code.shown(path) in kept}
    edits: list[Edit] = []
    unclear: list[Unclear] = []
    blocked: list[str] = []
    made: list[RenamedApi] = []
    project = Project(now)
    for one in renames:
        try:
            found = _find(project, one)
            home = project.named(one.old.module)
            if home is not None and home.path in kept and home.path in found and found[home.path].edits:
                raise Blocked(f"`{home.path}` is left as it is")
        except Blocked as reason:
            blocked.append(f"`{one.old}` is now `{one.new}`, but is not renamed here: {reason}")
            continue
        except RecursionError:
            blocked.append(f"`{one.old}` is now `{one.new}`, but is not renamed here: the code is nested too deeply")
            continue
        made.append(one)
        unclear += _unread(project, one)
        for path, changes in sorted(found.items()):
            unclear += changes.unclear
            module = project.module(path)
            if module is None or not changes.edits:
                continue
            text, done = applied(module, changes.edits)
            if path in kept:
                unclear += [Unclear(path, edit.line, f"`{edit.old}` is now `{edit.new}`") for edit in done]
                continue
            cells = code.cells.get(path)
            if not _is_like(module, text) or (cells is not None and cells.with_code(text) is None):
                # A place that this knows nothing of: better a stale name than a broken file.
                unclear += [Unclear(path, edit.line, f"`{edit.old}` is now `{edit.new}`") for edit in done]
                continue
            edits += done
            now[path] = now[path]._replace(content=module.encode(text))
        if found:
            project = project.changed(now)
    shown = [one._replace(path=code.shown(one.path), line=code.line(one.path, one.line)) for one in edits]
    left = [one._replace(path=code.shown(one.path), line=code.line(one.path, one.line)) for one in unclear]
    return Renamed(code.put_back(now), tuple(made), tuple(shown), tuple(dict.fromkeys(left)), tuple(blocked))


def _is_like(module: Module, text: str) -> bool:
    """Whether a text is the module with other names: it parses, and its strings are the same, but for names alone."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return _strings(module.source.tree) == _strings(tree)


def _strings(tree: ast.AST) -> list[str]:
    """The strings of a module that are more than one word: annotations and `__all__` may name what is renamed."""
    annotations = (getattr(one, name, None) for one in ast.walk(tree) for name in ("annotation", "returns"))
    quoted = {id(one) for annotation in annotations if annotation is not None for one in ast.walk(annotation)}
    values = (one.value for one in ast.walk(tree) if isinstance(one, ast.Constant) and id(one) not in quoted)
    return [value for value in values if isinstance(value, str) and not value.isidentifier()]


def _unread(project: Project, one: RenamedApi) -> list[Unclear]:
    """Files that name it, but cannot be read."""
    return [
        Unclear(
            path, 1, f"it is not valid Python in UTF-8, so `{one.old.last}` is not renamed to `{one.new.last}` in it"
        )
        for path in mentions(project.files, [one.old.last])
        if project.module(path) is None
    ]


def _find(project: Project, one: RenamedApi) -> dict[str, Found]:
    if one.old.parameter:
        return rename_parameter(project, one.old, one.new)
    if one.old.member:
        return rename_member(project, one.old, one.new)
    return rename_name(project, one.old, one.new)


def defines(project: Project, name: ApiName) -> bool:
    """Whether a project's own module defines something."""
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
    """Those of `renames` that hold for a project with these answers.

    Of a module that the template generates: the old name was in it, and the new one is. Another module, of a library, is
    taken at the template's word, unless the user has one of that name. Names are those at the time of each rename, so they
    are followed one by one.
    """
    chosen: list[RenamedApi] = []
    was: set[ApiName] = set()
    for one in renames:
        generated = base.has(one.old.module) or theirs.has(one.new.module)
        if generated:
            # Of a file that was upgraded alone, the baseline has the new name; a version says that the rest has not.
            before = any(_same_thing(one.old, name) for name in was) or defines(base, one.old)
            before = before or (bool(one.since) and defines(base, one.new))
            holds = before and (defines(theirs, one.new) or _is_renamed_again(one.new, renames))
        else:
            holds = not ours.has(one.old.module)
        if holds:
            chosen.append(one)
            was.add(one.new)
    return chosen


def _same_thing(old: ApiName, name: ApiName) -> bool:
    return (old.module, old.name) == (name.module, name.name)


def _is_renamed_again(name: ApiName, renames: Iterable[RenamedApi]) -> bool:
    return any(_same_thing(one.old, name) for one in renames)
