"""Imports of Python, read as sets of names and merged as such."""

import ast
import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from .keyed import merge_keyed
from .languages import parse_python
from .logical_lines import logical_lines
from .pieces import Hunk, Lines, Sides, source_of

Name = tuple[str, str, str]
"""What an import names: (module, name, alias); name and alias may be empty."""

IMPORT = re.compile(r"\s*(import\s+\w|from\s+[\w.]+\s+import\b)")
"""The start of an import statement."""


@lru_cache(maxsize=64)
def imported(source: str) -> frozenset[Name]:
    """Every name that a Python text imports, anywhere in it; the text need not parse."""
    tree = parse_python(source)
    trees = [tree] if tree else [parse_python(statement) for statement in _import_statements(source)]
    found: set[Name] = set()
    for node in (node for tree in trees if tree for node in ast.walk(tree)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found.update(_names(node))
    return frozenset(found)


def _import_statements(source: str) -> Iterator[str]:
    statement: list[str] = []
    for line in source.splitlines():
        if statement or IMPORT.match(line):
            statement.append(line.strip())
            code = "\n".join(statement)
            if code.count("(") <= code.count(")") and not line.endswith("\\"):
                yield code
                statement = []


def _names(node: ast.Import | ast.ImportFrom) -> list[Name]:
    if isinstance(node, ast.Import):
        return [(alias.name, "", alias.asname or "") for alias in node.names]
    module = "." * node.level + (node.module or "")
    return [(module, alias.name, alias.asname or "") for alias in node.names]


@dataclass
class _Import:
    """One import statement, with the comments and blank lines above it."""

    above: list[str]
    lines: list[str]
    names: list[Name]

    @property
    def module(self) -> str | None:
        """The module of a `from` import."""
        return self.names[0][0] if self.names[0][1] else None

    @property
    def commented(self) -> bool:
        return any("#" in line for line in self.lines)


def union_imports(hunk: Hunk) -> list[str] | None:
    """Merge imports as sets of names; statements that need no change keep their text."""
    in_base, in_ours, in_theirs = (_imports(lines) for lines in hunk.sides.texts)
    if in_base is None or in_ours is None or in_theirs is None:
        return None
    (base, _), (result, tail), (theirs, _) = in_base, in_ours, in_theirs
    names = [{name: True for item in side for name in item.names} for side in (base, result, theirs)]
    wanted = merge_keyed(*names)
    if wanted is None or _binds_twice(wanted):
        return None
    for item in list(result):
        left = [name for name in item.names if name in wanted]
        if not left:
            result.remove(item)
        elif left != item.names:
            item.lines, item.names = _write(left, len(item.lines) > 1, hunk.width), left
    _take_rewritten(base, result, theirs)
    known = {*hunk.sides.base, *hunk.sides.ours}
    present = {name for item in result for name in item.names}
    place = 0  # in our statements, below those that theirs has above `item`
    for item in theirs:
        added = [name for name in item.names if name in wanted and name not in present]
        same = next((k for k, have in enumerate(result) if set(have.names) & set(item.names)), None)
        if not added:
            place = place if same is None else max(place, same + 1)
            continue
        while place < len(result) and not names[2].keys() & result[place].names and result[place].lines < item.lines:
            place += 1  # new in ours, and first in alphabetical order
        host = next((have for have in result if have.module and have.module == item.module), None)
        if host is not None and not host.commented and not item.commented:
            host.names = _ordered(host.names, added)
            host.lines = _write(host.names, len(host.lines) > 1, hunk.width)
            place = max(place, result.index(host) + 1)
        else:
            lines = item.lines if added == item.names else _write(added, len(item.lines) > 1, hunk.width)
            new_above = [line for line in item.above if line.strip() and line not in known]
            result.insert(place, _Import(new_above, list(lines), added))
            place += 1
            if item.module == "__future__" and place < len(result) and not result[place].above:
                result[place].above = [""]
    return [line for item in result for line in (*item.above, *item.lines)] + tail


def _take_rewritten(base: list[_Import], result: list[_Import], theirs: list[_Import]) -> None:
    """Take over the statements that only the template rewrote with the same names, for example to add a comment."""
    in_base, in_theirs = ({tuple(item.names): item.lines for item in side} for side in (base, theirs))
    for item in result:
        names = tuple(item.names)
        if names in in_theirs and item.lines == in_base.get(names):
            item.lines = list(in_theirs[names])


def _imports(lines: Lines) -> tuple[list[_Import], list[str]] | None:
    """The import statements, and the lines after the last; None if the lines hold anything else."""
    source = source_of(lines)
    if any(line[:1].isspace() and line.strip() for line in lines) and textwrap.dedent(source) != source:
        return None  # the place of an import inside a block matters
    tree = parse_python(source)
    spans = logical_lines("python", lines)
    if tree is None or spans is None:
        return None
    nodes = {node.lineno - 1: node for node in tree.body}
    items: list[_Import] = []
    above: list[str] = []
    for span in spans:
        node = nodes.get(span.start)
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            items.append(_Import(above, list(lines[span.start : span.stop]), _names(node)))
            above = []
        elif node is None:
            above += lines[span.start : span.stop]
        else:
            return None
    return (items, above) if len(items) == len(tree.body) else None


def _binds_twice(names: Iterable[Name]) -> bool:
    """Whether two imports bind one name to different objects."""
    bound: dict[str, Name] = {}
    for module, name, alias in names:
        if name == "*":
            continue
        binds = alias or name or module.partition(".")[0]
        meaning = (module, name, "") if alias or name else (binds, "", "")
        if bound.setdefault(binds, meaning) != meaning:
            return True
    return False


def _ordered(names: list[Name], added: list[Name]) -> list[Name]:
    """Add names in order if the present ones are sorted, with or without regard to case; else at the end."""
    for key in (None, _casefolded):
        if names == sorted(names, key=key):
            return sorted([*names, *added], key=key)
    return [*names, *added]


def _casefolded(name: Name) -> list[str]:
    return [part.casefold() for part in name]


def _write(names: list[Name], several_lines: bool, width: int) -> list[str]:
    parts = [(name or module) + (f" as {alias}" if alias else "") for module, name, alias in names]
    if not names[0][1]:
        return ["import " + ", ".join(parts)]
    head = f"from {names[0][0]} import "
    line = head + ", ".join(parts)
    if not several_lines and len(line) <= width:
        return [line]
    return [head + "(", *(f"    {part}," for part in parts), ")"]


def without_double_imports(sides: Sides, lines: Sequence[str]) -> list[str]:
    """Drop the second of two equal top-level imports, which the sides added at different places."""
    at_most = Counter[str]()
    for side in sides.texts:
        at_most |= Counter(_import_lines(side).values())
    seen = Counter[str]()
    doubled: set[int] = set()
    for number, line in _import_lines(lines).items():
        seen[line] += 1
        if seen[line] > max(1, at_most[line]):
            doubled.add(number)
    return [line for number, line in enumerate(lines) if number not in doubled]


def _import_lines(lines: Sequence[str]) -> dict[int, str]:
    """Line number -> top-level import that fits on this line."""
    tree = parse_python(source_of(lines))
    nodes = tree.body if tree else []
    return {
        node.lineno - 1: lines[node.lineno - 1]
        for node in nodes
        if isinstance(node, (ast.Import, ast.ImportFrom)) and node.lineno == node.end_lineno
    }
