"""Conflicts in which both sides insert definitions, or fields of a class, at one place: both insertions are kept."""

import ast
import textwrap
from dataclasses import dataclass

from .keyed import merge_keyed
from .languages import parse_python
from .pieces import Hunk, Lines, source_of


@dataclass(frozen=True)
class _Block:
    """Lines that hold only definitions, or only annotated fields, each with the comments above it.

    Attributes:
        fields: Whether they are fields of a class.
        indent: The indentation of the first, in columns.
        members: Name -> lines.
        code: Name -> dump of the syntax tree of these lines.
        tail: The lines after the last member.
    """

    fields: bool
    indent: int
    members: dict[str, Lines]
    code: dict[str, str]
    tail: Lines


def union_definitions(hunk: Hunk) -> list[str] | None:
    """Keep the definitions, or fields of a class, that both sides inserted at one place: their order does not matter."""
    if any(line.strip() for line in hunk.sides.base):
        return None
    for place, moved in hunk.readings():
        ours = place.sides.ours
        block, other = _block(ours), _block(place.sides.theirs)
        if block and other and (block.fields, block.indent) == (other.fields, other.indent):
            merged = merge_keyed({}, block.code, other.code)
            if merged is None:
                return None
            new = [line for name in merged if name not in block.code for line in other.members[name]]
            if not new:
                return list(hunk.sides.ours)
            # The lines by which the reading moved up are still above: the insertion ends with them instead.
            return [*_below(block, ours, new), *other.tail][len(moved) :] + list(moved)
    return None


def _below(block: _Block, ours: Lines, new: list[str]) -> list[str]:
    """New lines below ours, with blank lines between definitions."""
    if block.fields:
        return [*ours, *new]
    begin = next(place for place, line in enumerate(new) if line.strip())
    if not ours[-1].strip():
        return [*ours, *new[begin:]]
    gap = [""] * (0 if begin else 1 if block.indent else 2)
    return [*ours, *gap, *new]


def _block(lines: Lines) -> _Block | None:
    """Read lines as definitions or fields; None if they hold anything else, or a name twice."""
    text = textwrap.dedent(source_of(lines))
    tree = parse_python(text)
    if tree is None or not tree.body:
        return None
    fields = isinstance(tree.body[0], ast.AnnAssign)
    first = tree.body[0].lineno - 1
    indent = len(lines[first]) - len(text.split("\n")[first])
    members: dict[str, Lines] = {}
    code: dict[str, str] = {}
    start, name = 0, ""
    for node in tree.body:
        end = node.end_lineno or 0
        is_docstring = fields and name and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if not is_docstring:
            name = _member(node, fields)
            if not name or name in members:
                return None
        members[name] = members.get(name, ()) + lines[start:end]
        code[name] = code.get(name, "") + ast.dump(node)
        start = end
    return _Block(fields, indent, members, code, lines[start:])


def _member(node: ast.stmt, fields: bool) -> str:
    """The name that a statement defines; empty if it is not a definition, or not a field with a default."""
    if not fields:
        return node.name if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) else ""
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
        return node.target.id
    return ""
