"""A renamed parameter of a function, method or constructor."""

import ast

from ..catalog.api import ApiName
from .classes import Classes
from .edits import Blocked, Finder, Found, modules_of, run_finders
from .modules import Module, Project
from .scopes import Function


def rename_parameter(project: Project, old: ApiName, new: ApiName) -> dict[str, Found]:
    """Find the edits that a renamed parameter of a function, method or constructor needs, by file.

    Raises:
        Blocked: The function already has the new name, or uses it for something else.
    """
    classes = Classes(project, project.canonical(f"{old.module}.{old.name}"))
    return run_finders(
        _ParameterFinder(project, module, classes, old, new.parameter) for module in modules_of(project, old.parameter)
    )


class _ParameterFinder(Finder):
    """Finds definitions and calls.

    Attributes:
        owner: The dotted path of the function, or of the class with the method or constructor.
        path: The dotted path of the function, method or class.
        may_be_class: Whether the owner is a class, or unknown.
    """

    def __init__(self, project: Project, module: Module, classes: Classes, name: ApiName, new: str) -> None:
        super().__init__(project, module)
        self.classes, self.name = classes, name
        self.old, self.new = name.parameter, new
        self.owner = classes.wanted
        self.path = f"{self.owner}.{name.member}" if name.member else self.owner
        definition = project.definition(self.owner)
        self.may_be_class = definition is None or isinstance(definition[1], ast.ClassDef)

    def find(self) -> None:
        for node in ast.walk(self.source.tree):
            if isinstance(node, Function) and self._defines(node):
                self._definition(node)
            elif isinstance(node, ast.Call) and any(keyword.arg == self.old for keyword in node.keywords):
                self._call(node)
            elif isinstance(node, ast.Call) and self._may_pass(node):
                self.leave(node, f"`**` may pass `{self.old}`, which is now `{self.new}`")

    def _may_pass(self, node: ast.Call) -> bool:
        """Whether `**` in a call may pass the old name: the module has it as a string, such as a key of a dictionary."""
        if all(keyword.arg is not None for keyword in node.keywords):
            return False
        constants = (one.value for one in ast.walk(self.source.tree) if isinstance(one, ast.Constant))
        return self.old in constants and bool(self._calls(node.func))

    def _defines(self, node: Function) -> bool:
        """Whether this is the function, or a method that overrides it."""
        scope = self.source.within.get(node)
        around = scope.node if scope is not None else None
        if isinstance(around, ast.ClassDef):
            path = f"{self.module.name}.{around.name}"
            if self.name.member:
                return node.name == self.name.member and self.classes.is_wanted(path)
            return node.name in {"__init__", "__new__"} and self.project.canonical(path) == self.owner
        is_function = f"{self.module.name}.{node.name}" == self.owner and scope is self.source.scope
        return is_function and not self.name.member

    def _definition(self, node: Function) -> None:
        scope = self.source.scopes[node]
        if not any(isinstance(binding.node, ast.arg) for binding in scope.names.get(self.old, [])):
            return
        if not self.rename_binding(scope, self.old, self.new):
            raise Blocked(f"`{node.name}` in `{self.module.path}` uses `{self.new}` for something else")

    def _call(self, node: ast.Call) -> None:
        called: ast.AST = node.func
        if node.args and self.project.path_of(self.module, called) == "functools.partial":
            called = node.args[0]
        calls = self._calls(called)
        if calls:
            self.rename_keyword(node, self.old, self.new)
        elif calls is None:
            self.leave(node, f"`{ast.unparse(called)}` may be {self.path}, whose `{self.old}` is now `{self.new}`")

    def _calls(self, called: ast.AST) -> bool | None:
        """Whether `called` is the function; None if the class of a method's object is unclear."""
        path = self.project.canonical(self.project.path_of(self.module, called))
        if path == self.path:
            return True
        if not self.name.member:
            return self._constructs(called, path)
        if not isinstance(called, ast.Attribute) or called.attr != self.name.member:
            return False
        if self.classes.is_wanted(path.rpartition(".")[0]):
            return True
        found = self.classes.class_of(self.module, called.value)
        return None if found is None else self.classes.is_wanted(found)

    def _constructs(self, called: ast.AST, path: str) -> bool:
        """Whether a call runs the class's own constructor: through a subclass without one, or through `super()`."""
        if self.may_be_class and self.classes.is_wanted(path):
            definition = self.project.definition(path)
            return definition is not None and "__init__" not in ast.unparse(definition[1])
        if isinstance(called, ast.Attribute) and called.attr == "__init__" and ast.unparse(called.value) == "super()":
            around = self.source.class_around(called)
            found = f"{self.module.name}.{around.name}" if around is not None else self.owner
            return found != self.owner and self.classes.is_wanted(found)
        return False
