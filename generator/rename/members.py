"""A field, attribute or method of a class that has another name now."""

import ast

from ..catalog.api import ApiName
from .edits import Blocked, Found, Unclear, declared_words, is_free, modules_of, references, word_at
from .modules import Module, Project
from .scopes import Scope

_REPLACES = {"dataclasses.replace", "copy.replace"}


def rename_member(project: Project, old: ApiName, new: ApiName) -> dict[str, Found]:
    """Find the edits that a renamed member of a class needs, by file.

    Followed are values whose class is plain from annotations, constructors and return types, subclasses, and keywords of a
    constructor that come from fields. Where the class of a value is not plain, the place is named and left.

    Raises:
        Blocked: The class, or one that inherits from it, has the new name already.
    """
    found: dict[str, Found] = {}
    wanted = project.canonical(f"{old.module}.{old.name}")
    for module in modules_of(project, [old.member]):
        one = _Renamer(project, module, wanted, old, new.member)
        one.read()
        if one.found.edits or one.found.unclear:
            found[module.path] = one.found
    return found


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


class _Renamer:
    def __init__(self, project: Project, module: Module, wanted: str, old: ApiName, new: str) -> None:
        self.project, self.module, self.wanted = project, module, wanted
        self.name, self.old, self.new = old, old.member, new
        self.found = Found([], [])

    def read(self) -> None:
        for node in ast.walk(self.module.source.tree):
            if isinstance(node, ast.ClassDef) and self._is_wanted(f"{self.module.name}.{node.name}", node):
                self._class_body(node)
            elif isinstance(node, ast.Attribute) and node.attr == self.old:
                self._attribute(node)
            elif isinstance(node, ast.Call):
                self._keywords(node)
            elif isinstance(node, ast.MatchClass) and self.old in node.kwd_attrs:
                self._leave(node, "a `case` names its attributes")

    def _is_wanted(self, path: str, node: ast.ClassDef) -> bool:
        definition = self.project.definition(path)
        return definition is not None and definition[1] is node and self.project.is_subclass(path, self.wanted)

    def _class_body(self, node: ast.ClassDef) -> None:
        """Fields and methods of the class itself, or of one that inherits from it."""
        scope = self.module.source.scopes[node]
        bindings = scope.names.get(self.old, [])
        if has_member(node, self.old) and has_member(node, self.new):
            raise Blocked(f"`{node.name}` in `{self.module.path}` has a `{self.new}` of its own")
        if not bindings:
            return
        places = references(self.module.source, self.old, scope)
        if not is_free(self.module.source, self.new, scope, [place for _, place in places]):
            self._leave(node, f"`{self.new}` is something else here")
            return
        for one in [*(binding.node for binding in bindings), *(name for name, _ in places)]:
            self._replace(one)

    def _attribute(self, node: ast.Attribute) -> None:
        path = self.project.canonical(self.project.path_of(self.module, node.value))
        if path and self.project.is_subclass(path, self.wanted):  # `Class.member`
            self._replace(node)
            return
        if isinstance(node.value, ast.Call) and ast.unparse(node.value) == "super()":
            found: str | None = self._class_around(node)
        else:
            found = self.project.class_of(self.module, node.value, self.wanted)
        if found and self.project.is_subclass(found, self.wanted):
            self._replace(node)
        elif found is None and self._may_be(path):
            self._leave(node, f"`{ast.unparse(node)}` may be {self.name}, whose name is now `{self.new}`")

    def _may_be(self, path: str) -> bool:
        """Whether a value of an unknown class may be of this one: what an imported module holds is not."""
        return not path or self.project.definition(path) is not None or path.startswith(f"{self.module.name}.")

    def _class_around(self, node: ast.AST) -> str | None:
        scope: Scope | None = self.module.source.within.get(node)
        while scope is not None:
            if isinstance(scope.node, ast.ClassDef):
                return f"{self.module.name}.{scope.node.name}"
            scope = scope.parent
        return None

    def _keywords(self, node: ast.Call) -> None:
        """`Class(member=…)` where members are fields, and `replace(value, member=…)`."""
        given = [keyword for keyword in node.keywords if keyword.arg == self.old]
        if not given:
            return
        path = self.project.canonical(self.project.path_of(self.module, node.func))
        if path and (path == self.wanted or self.project.is_subclass(path, self.wanted)):
            definition = self.project.definition(self.wanted)
            fits = definition is None or self.old in _fields(definition[1]) or self.new in _fields(definition[1])
        elif path in _REPLACES and node.args:
            fits = self._is_instance(node.args[0])
        else:
            method = isinstance(node.func, ast.Attribute) and node.func.attr == "_replace"
            fits = method and isinstance(node.func, ast.Attribute) and self._is_instance(node.func.value)
        if fits and not any(keyword.arg == self.new for keyword in node.keywords):
            for keyword in given:
                self._replace(keyword)

    def _is_instance(self, node: ast.AST) -> bool:
        found = self.project.class_of(self.module, node, self.wanted)
        return bool(found) and self.project.is_subclass(str(found), self.wanted)

    def _replace(self, node: ast.AST) -> None:
        self.found.edits.extend((*span, self.new) for span in word_at(self.module.source, node, self.old))

    def _leave(self, node: ast.AST, reason: str) -> None:
        self.found.unclear.append(Unclear(self.module.path, node.lineno, reason))  # type: ignore[attr-defined]


def _fields(node: ast.AST) -> set[str]:
    body = node.body if isinstance(node, ast.ClassDef) else []
    return {one.target.id for one in body if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)}


def rename_parameter(project: Project, old: ApiName, new: ApiName) -> dict[str, Found]:
    """Find the edits that a renamed parameter of a function, method or constructor needs, by file.

    Raises:
        Blocked: The function has the new name already, or uses it for something else.
    """
    found: dict[str, Found] = {}
    for module in modules_of(project, [old.parameter]):
        one = _Parameter(project, module, old, new.parameter)
        one.read()
        if one.found.edits or one.found.unclear:
            found[module.path] = one.found
    return found


class _Parameter:
    def __init__(self, project: Project, module: Module, name: ApiName, new: str) -> None:
        self.project, self.module, self.name = project, module, name
        self.old, self.new = name.parameter, new
        self.owner = project.canonical(f"{name.module}.{name.name}")
        self.path = f"{self.owner}.{name.member}" if name.member else self.owner
        self.found = Found([], [])

    def read(self) -> None:
        definition = self.project.definition(self.owner)
        self.is_class = definition is None or isinstance(definition[1], ast.ClassDef)
        for node in ast.walk(self.module.source.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and self._defines(node):
                self._definition(node)
            elif isinstance(node, ast.Call) and any(keyword.arg == self.old for keyword in node.keywords):
                self._call(node)
            elif isinstance(node, ast.Call) and self._may_hold(node):
                self._leave(node, f"`**` may hold `{self.old}`, which is now `{self.new}`")

    def _may_hold(self, node: ast.Call) -> bool:
        """Whether `**` may give a call of the function the old name: it stands in a string, as a key of a dictionary."""
        words = (one for one in ast.walk(self.module.source.tree) if isinstance(one, ast.Constant))
        opened = any(keyword.arg is None for keyword in node.keywords)
        return opened and any(one.value == self.old for one in words) and bool(self._calls(node, node.func))

    def _defines(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
        """Whether this is the function, or a method that overrides it."""
        scope = self.module.source.within.get(node)
        around = scope.node if scope is not None else None
        if isinstance(around, ast.ClassDef):
            path = f"{self.module.name}.{around.name}"
            if self.name.member:
                return node.name == self.name.member and self.project.is_subclass(path, self.owner)
            return node.name in {"__init__", "__new__"} and self.project.canonical(path) == self.owner
        return (
            not self.name.member
            and f"{self.module.name}.{node.name}" == self.owner
            and scope is self.module.source.scope
        )

    def _definition(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        source = self.module.source
        scope = source.scopes[node]
        bindings = scope.names.get(self.old, [])
        if not any(isinstance(binding.node, ast.arg) for binding in bindings):
            return
        places = references(source, self.old, scope)
        if not is_free(source, self.new, scope, [place for _, place in places]):
            raise Blocked(f"`{node.name}` in `{self.module.path}` uses `{self.new}` for something else")
        for one in [*(binding.node for binding in bindings), *(name for name, _ in places)]:
            self.found.edits.extend((*span, self.new) for span in word_at(source, one, self.old))
        self.found.edits.extend((*span, self.new) for span in declared_words(source, self.old, scope))

    def _call(self, node: ast.Call) -> None:
        called = node.func
        path = self.project.path_of(self.module, called)
        if path == "functools.partial" and node.args:
            called = node.args[0]
        matches = self._calls(node, called)
        if matches is None:
            if self.name.member:
                self._leave(node, f"`{ast.unparse(called)}` may be {self.path}, whose `{self.old}` is now `{self.new}`")
        elif matches and not any(keyword.arg == self.new for keyword in node.keywords):
            for keyword in node.keywords:
                if keyword.arg == self.old:
                    self.found.edits.extend(
                        (*span, self.new) for span in word_at(self.module.source, keyword, self.old)
                    )

    def _calls(self, node: ast.Call, called: ast.AST) -> bool | None:
        """Whether `called` is the function; None where the class of a method's object is not plain."""
        path = self.project.canonical(self.project.path_of(self.module, called))
        if path == self.path:
            return True
        if not self.name.member:
            return self._constructs(called, path)
        if not isinstance(called, ast.Attribute) or called.attr != self.name.member:
            return False
        if path and self.project.is_subclass(path.rpartition(".")[0], self.owner):
            return True
        found = self.project.class_of(self.module, called.value, self.owner)
        return self.project.is_subclass(found, self.owner) if found else None if found is None else False

    def _constructs(self, called: ast.AST, path: str) -> bool:
        """Whether this makes an instance through the class's own constructor: a subclass without one, or `super()`."""
        if path and self.is_class and self.project.is_subclass(path, self.owner):
            definition = self.project.definition(path)
            return definition is not None and "__init__" not in ast.unparse(definition[1])
        if isinstance(called, ast.Attribute) and called.attr == "__init__" and ast.unparse(called.value) == "super()":
            scope = self.module.source.within.get(called)
            for one in scope.chain() if scope is not None else ():
                if isinstance(one.node, ast.ClassDef):
                    found = f"{self.module.name}.{one.node.name}"
                    return found != self.owner and self.project.is_subclass(found, self.owner)
        return False

    def _leave(self, node: ast.AST, reason: str) -> None:
        self.found.unclear.append(Unclear(self.module.path, node.lineno, reason))  # type: ignore[attr-defined]
