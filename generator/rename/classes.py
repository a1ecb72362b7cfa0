"""The class of a value, as far as annotations, constructors and return types show it."""

import ast

from .modules import MAX_DEPTH, Module, Project
from .scopes import Binding, Function, Scope, all_arguments

_BUILTIN = {"int", "float", "str", "bool", "bytes", "list", "dict", "tuple", "set"}

_SAME_CLASS = {"dataclasses.replace", "copy.replace", "copy.copy", "copy.deepcopy"}
"""Functions that return a value of their argument's class."""

_INSTANCE = {"paccel.runtime.load_config"}
"""Functions that return an instance of the class in their argument."""


class Classes:
    """Finds values of one class and its subclasses in a project.

    Args:
        project: The Python files.
        wanted: The dotted path of the class, which may be outside of the project.
    """

    def __init__(self, project: Project, wanted: str) -> None:
        self.project, self.wanted = project, wanted
        self._known: dict[int, str | None] = {}

    def is_wanted(self, path: str | None) -> bool:
        """Whether a dotted path is the wanted class, or one that inherits from it."""
        return bool(path) and self.project.is_subclass(str(path), self.wanted)

    def class_of(self, module: Module, node: ast.AST, depth: int = 0) -> str | None:
        """Return the dotted path of a value's class.

        Args:
            module: The module with the value.
            node: The value.
            depth: The number of steps so far.

        Returns:
            The path; empty if the value is certainly not an instance of a class known here; None if nothing shows it.
        """
        if depth > MAX_DEPTH:
            return None
        if id(node) not in self._known:
            self._known[id(node)] = self._class_of(module, node, depth)
        return self._known[id(node)]

    def _class_of(self, module: Module, node: ast.AST, depth: int) -> str | None:
        if isinstance(node, ast.Constant | ast.JoinedStr | ast.List | ast.Dict | ast.Set | ast.Lambda):
            return ""
        if isinstance(node, ast.Await | ast.NamedExpr | ast.Starred):
            return self.class_of(module, node.value, depth + 1)
        if isinstance(node, ast.IfExp):
            return _only([self.class_of(module, one, depth + 1) for one in (node.body, node.orelse)])
        if isinstance(node, ast.Name):
            return self._class_of_name(module, node, depth)
        if isinstance(node, ast.Call):
            return self._class_of_call(module, node, depth)
        if isinstance(node, ast.Attribute):
            path = self.project.path_of(module, node)
            if path and not self.project.has_part_of(path) and path.partition(".")[0] != "self":
                return None
            return self._class_of_attribute(module, node, depth)
        return None

    def _class_of_name(self, module: Module, node: ast.Name, depth: int) -> str | None:
        owner = module.source.within.get(node, module.source.scope).owner(node.id)
        if owner is None:
            return None
        bindings = owner.names.get(node.id, [])
        if any(isinstance(binding.node, ast.alias) for binding in bindings):
            return "" if len(bindings) == 1 else None  # a module, function or class, never an instance
        return _only([self._class_of_binding(module, owner, one, depth) for one in bindings])

    def _class_of_binding(self, module: Module, scope: Scope, binding: Binding, depth: int) -> str | None:
        node, statement = binding
        if isinstance(node, Function | ast.ClassDef):
            return ""
        if isinstance(node, ast.arg):
            if node.annotation is not None:
                return self._annotated(module, node.annotation)
            return self._class_of_self(module, scope, node)
        if isinstance(statement, ast.AnnAssign) and statement.target is node:
            return self._annotated(module, statement.annotation)
        if isinstance(statement, ast.Assign) and node in statement.targets:
            return self.class_of(module, statement.value, depth + 1)
        if isinstance(statement, ast.With | ast.AsyncWith):
            for item in statement.items:
                if item.optional_vars is node:
                    return self.class_of(module, item.context_expr, depth + 1)
        for around in ast.walk(statement):
            if isinstance(around, ast.NamedExpr) and around.target is node:
                return self.class_of(module, around.value, depth + 1)
            if isinstance(around, ast.For | ast.AsyncFor | ast.comprehension) and around.target is node:
                return self._class_of_element(module, around.iter, depth)
        return None

    def _class_of_self(self, module: Module, scope: Scope, node: ast.arg) -> str | None:
        """The class of a method's first parameter."""
        function, around = scope.node, scope.parent
        if not isinstance(function, Function) or around is None or not isinstance(around.node, ast.ClassDef):
            return None
        decorators = {ast.unparse(decorator) for decorator in function.decorator_list}
        if node is not all_arguments(function.args)[0] or decorators & {"staticmethod", "classmethod"}:
            return None
        outer = around.parent
        return f"{module.name}.{around.node.name}" if outer is not None and outer.kind == "module" else ""

    def _class_of_call(self, module: Module, node: ast.Call, depth: int) -> str | None:
        path = self.project.canonical(self.project.path_of(module, node.func))
        if path == self.wanted:
            return path
        found = self.project.definition(path) if path else None
        if found is not None and isinstance(found[1], ast.ClassDef):
            return path
        if path in _SAME_CLASS and node.args:
            return self.class_of(module, node.args[0], depth + 1)
        if path in _INSTANCE and node.args:
            return self.project.canonical(self.project.path_of(module, node.args[0])) or None
        if isinstance(node.func, ast.Attribute) and node.func.attr == "_replace":
            return self.class_of(module, node.func.value, depth + 1)
        if found is None and isinstance(node.func, ast.Attribute):
            owner = self.class_of(module, node.func.value, depth + 1)
            found = self.project.definition(f"{owner}.{node.func.attr}") if owner else None
        if found is not None and isinstance(found[1], Function) and found[1].returns is not None:
            return self._annotated(found[0], found[1].returns)
        return None

    def _class_of_attribute(self, module: Module, node: ast.Attribute, depth: int) -> str | None:
        owner = self.class_of(module, node.value, depth + 1)
        found = self.project.definition(owner) if owner else None
        if found is None or not isinstance(found[1], ast.ClassDef):
            return None
        values: list[str | None] = []
        for one in ast.walk(found[1]):
            if isinstance(one, ast.AnnAssign) and _is_member(one.target, node.attr):
                return self._annotated(found[0], one.annotation)
            if isinstance(one, Function) and one.name == node.attr and one.returns is not None:
                is_property = any("property" in ast.unparse(decorator) for decorator in one.decorator_list)
                return self._annotated(found[0], one.returns) if is_property else ""
            if isinstance(one, ast.Assign) and any(_is_member(target, node.attr) for target in one.targets):
                values.append(self.class_of(found[0], one.value, depth + 1))
        return _only(values)

    def _class_of_element(self, module: Module, node: ast.AST, depth: int) -> str | None:
        """The class of the items of a list, a tuple, or an annotated name or call."""
        if isinstance(node, ast.List | ast.Tuple | ast.Set):
            return _only([self.class_of(module, element, depth + 1) for element in node.elts])
        annotation: ast.AST | None = None
        if isinstance(node, ast.Name):
            owner = module.source.within.get(node, module.source.scope).owner(node.id)
            for binding in owner.names.get(node.id, []) if owner is not None else []:
                annotation = getattr(binding.node, "annotation", None) or getattr(binding.statement, "annotation", None)
        elif isinstance(node, ast.Call):
            found = self.project.definition(self.project.path_of(module, node.func))
            if found is not None and isinstance(found[1], Function):
                module, annotation = found[0], found[1].returns
        if isinstance(annotation, ast.Subscript):
            inner = annotation.slice
            return self._annotated(module, inner.elts[0] if isinstance(inner, ast.Tuple) else inner)
        return None

    def _annotated(self, module: Module, node: ast.AST) -> str | None:
        """The dotted path of the class in an annotation, without `| None`; None if nothing shows it."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            try:
                inner = ast.parse(node.value, mode="eval").body
            except (SyntaxError, ValueError, RecursionError):
                return None
            scope = module.source.within.get(node, module.source.scope)
            module.source.within.update(dict.fromkeys(ast.walk(inner), scope))
            return self._annotated(module, inner)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            sides = [side for side in (node.left, node.right) if ast.unparse(side) != "None"]
            return self._annotated(module, sides[0]) if len(sides) == 1 else None
        if isinstance(node, ast.Subscript) and ast.unparse(node.value).rpartition(".")[2] in {"Optional", "Annotated"}:
            return self._annotated(module, node.slice.elts[0] if isinstance(node.slice, ast.Tuple) else node.slice)
        path = self.project.canonical(self.project.path_of(module, node))
        if path and (path == self.wanted or self.project.definition(path) is not None):
            return path
        if path and not self.project.has_part_of(path) and not path.startswith(("typing.", "typing_extensions.")):
            return None if self.project.is_subclass(self.wanted, path) else ""  # a class from elsewhere
        return "" if isinstance(node, ast.Name) and node.id in _BUILTIN else None


def _only(found: list[str | None]) -> str | None:
    """The one class that all agree on."""
    return found[0] if len({*found}) == 1 else None


def _is_member(target: ast.AST, name: str) -> bool:
    """Whether the target of an assignment in a class is its member: `name` or `self.name`."""
    if isinstance(target, ast.Attribute):
        return target.attr == name and isinstance(target.value, ast.Name) and target.value.id == "self"
    return isinstance(target, ast.Name) and target.id == name
