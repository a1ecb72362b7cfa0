"""A renamed field, attribute or method of a class."""

import ast

from ..catalog.api import ApiName
from .classes import Classes
from .edits import Blocked, Finder, Found, modules_of, run_finders
from .modules import Module, Project

_REPLACES = {"dataclasses.replace", "copy.replace"}


def rename_member(project: Project, old: ApiName, new: ApiName) -> dict[str, Found]:
    """Find the edits that a renamed member of a class needs, by file.

    This follows subclasses, values whose class is clear from annotations, constructors and return types, and keywords of
    constructors that come from fields. Where the class of a value is unclear, the place is left to the user.

    Raises:
        Blocked: The class, or one that inherits from it, already has the new name.
    """
    classes = Classes(project, project.canonical(f"{old.module}.{old.name}"))
    return run_finders(
        _MemberFinder(project, module, classes, old, new.member) for module in modules_of(project, old.member)
    )


def has_member(node: ast.ClassDef, name: str) -> bool:
    """Whether a class has a field, method or attribute of that name."""
    for one in node.body:
        targets = one.targets if isinstance(one, ast.Assign) else [getattr(one, "target", None)]
        if getattr(one, "name", "") == name or any(isinstance(to, ast.Name) and to.id == name for to in targets):
            return True
    return any(
        isinstance(one, ast.Attribute)
        and one.attr == name
        and isinstance(one.value, ast.Name)
        and one.value.id == "self"
        for one in ast.walk(node)
    )


class _MemberFinder(Finder):
    def __init__(self, project: Project, module: Module, classes: Classes, name: ApiName, new: str) -> None:
        super().__init__(project, module)
        self.classes = classes
        self.name, self.old, self.new = name, name.member, new

    def find(self) -> None:
        for node in ast.walk(self.source.tree):
            if isinstance(node, ast.ClassDef) and self._is_wanted(f"{self.module.name}.{node.name}", node):
                self._class_body(node)
            elif isinstance(node, ast.Attribute) and node.attr == self.old:
                self._attribute(node)
            elif isinstance(node, ast.Call):
                self._keywords(node)
            elif isinstance(node, ast.MatchClass) and self.old in node.kwd_attrs:
                self.leave(node, f"a `case` uses `{self.old}`, which is now `{self.new}`")

    def _is_wanted(self, path: str, node: ast.ClassDef) -> bool:
        definition = self.project.definition(path)
        return definition is not None and definition[1] is node and self.classes.is_wanted(path)

    def _class_body(self, node: ast.ClassDef) -> None:
        """Rename a field or method of the class itself, or of one that inherits from it."""
        scope = self.source.scopes[node]
        if has_member(node, self.old) and has_member(node, self.new):
            raise Blocked(f"`{node.name}` in `{self.module.path}` already has `{self.new}`")
        if self.old in scope.names and not self.rename_binding(scope, self.old, self.new):
            self.leave(node, f"`{self.new}` is something else here")

    def _attribute(self, node: ast.Attribute) -> None:
        path = self.project.canonical(self.project.path_of(self.module, node.value))
        if self.classes.is_wanted(path):  # `Class.member`
            self.replace(node, self.old, self.new)
            return
        if isinstance(node.value, ast.Call) and ast.unparse(node.value) == "super()":
            around = self.source.class_around(node)
            found = f"{self.module.name}.{around.name}" if around is not None else None
        else:
            found = self.classes.class_of(self.module, node.value)
        if self.classes.is_wanted(found):
            self.replace(node, self.old, self.new)
        elif found is None and self._may_be_instance(path):
            self.leave(node, f"`{ast.unparse(node)}` may be {self.name}, whose name is now `{self.new}`")

    def _may_be_instance(self, path: str) -> bool:
        """Whether a value of an unknown class may be an instance: values of modules outside of the project are not."""
        return not path or self.project.definition(path) is not None or path.startswith(f"{self.module.name}.")

    def _keywords(self, node: ast.Call) -> None:
        """Rename in `Class(member=…)` where members are fields, and in `replace(value, member=…)`."""
        if not any(keyword.arg == self.old for keyword in node.keywords):
            return
        path = self.project.canonical(self.project.path_of(self.module, node.func))
        if self.classes.is_wanted(path):
            definition = self.project.definition(self.classes.wanted)
            fits = definition is None or not {self.old, self.new}.isdisjoint(_fields(definition[1]))
        elif path in _REPLACES and node.args:
            fits = self._is_instance(node.args[0])
        else:
            method = node.func
            fits = isinstance(method, ast.Attribute) and method.attr == "_replace" and self._is_instance(method.value)
        if fits:
            self.rename_keyword(node, self.old, self.new)

    def _is_instance(self, node: ast.AST) -> bool:
        return self.classes.is_wanted(self.classes.class_of(self.module, node))


def _fields(node: ast.AST) -> set[str]:
    body = node.body if isinstance(node, ast.ClassDef) else []
    return {one.target.id for one in body if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)}
