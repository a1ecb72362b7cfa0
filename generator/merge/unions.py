"""Conflicts whose lines are a set, merged by key: imports, definitions, requirements, ignored files, TOML.

Each union takes a conflict apart into a mapping for each side, merges the three with `merge_keyed`, and writes the result
as the user has it, with what is new in the template's at the end or where the order says. It returns None where both
sides changed one element differently, or where it cannot be sure that the lines are a set.
"""

import ast
import json
import re
import textwrap
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import eq
from typing import Any, TypeVar

from .languages import import_names, logical_lines, parse_python, requirement_key
from .pieces import Hunk, Lines, Sides, source_of

K = TypeVar("K")

MISSING: Any = object()
"""The value of a key that a side does not have, or that has none because both sides changed it differently."""


def merge_keyed(
    base: Mapping[K, Any],
    ours: Mapping[K, Any],
    theirs: Mapping[K, Any],
    *,
    same: Callable[[Any, Any], bool] = eq,
    inside: Callable[[Any, Any, Any], Any] = lambda base, ours, theirs: MISSING,
) -> dict[K, Any] | None:
    """Merge three mappings key by key: our keys in their order, then those that are new in theirs.

    Args:
        same: Whether two values are equal; then ours stands.
        inside: Merge the three values of a key that both sides changed; `MISSING` where that cannot be done.

    Returns:
        The merged mapping; None where both sides changed one key differently.
    """

    def equal(one: Any, other: Any) -> bool:
        return one is other or (one is not MISSING and other is not MISSING and same(one, other))

    merged: dict[K, Any] = {}
    for key in (*ours, *(key for key in theirs if key not in ours)):
        values = [side.get(key, MISSING) for side in (base, ours, theirs)]
        if equal(values[1], values[2]) or equal(values[0], values[2]):
            value = values[1]
        elif equal(values[0], values[1]):
            value = values[2]
        else:
            value = inside(*values)
            if value is MISSING:
                return None
        if value is not MISSING:
            merged[key] = value
    return merged


# --- imports ---------------------------------------------------------------------------------------------------------

Name = tuple[str, str, str]


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
    """Merge imports as sets of names, changing only the statements that must change."""
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
        if left and left != item.names:
            item.lines = _write(left, len(item.lines) > 1, hunk.width)
        elif not left:
            result.remove(item)
        item.names = left
    _take_rewritten(base, result, theirs)
    known = {*hunk.sides.base, *hunk.sides.ours}
    present = {name for item in result for name in item.names}
    place = 0
    for item in theirs:
        added = [name for name in item.names if name in wanted and name not in present]
        same = next((k for k, have in enumerate(result) if have.names and set(have.names) & set(item.names)), None)
        if not added:
            place = place if same is None else max(place, same + 1)
            continue
        while place < len(result) and not names[2].keys() & result[place].names and result[place].lines < item.lines:
            place += 1  # new in ours, and first in the alphabet
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
    """Take over statements that only the template rewrote without changing their names: a comment, for instance."""
    in_base, in_theirs = ({tuple(item.names): item.lines for item in side} for side in (base, theirs))
    for item in result:
        names = tuple(item.names)
        if names in in_theirs and item.lines == in_base.get(names):
            item.lines = list(in_theirs[names])


def _imports(lines: Lines) -> tuple[list[_Import], list[str]] | None:
    """The import statements among the lines, and what follows the last; None if there is anything else."""
    source = source_of(lines)
    if any(line[:1].isspace() and line.strip() for line in lines) and textwrap.dedent(source) != source:
        return None  # imports inside a block: where they stand matters
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
            items.append(_Import(above, list(lines[span.start : span.stop]), import_names(node)))
            above = []
        elif node is None:
            above += lines[span.start : span.stop]
        else:
            return None
    return (items, above) if len(items) == len(tree.body) else None


def _binds_twice(names: Iterable[Name]) -> bool:
    """Whether two imports give different things the same name."""
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
    """Add names: sorted if those that were there are sorted, else at the end."""
    for key in (_plain, _folded):
        if [key(name) for name in names] == sorted(key(name) for name in names):
            return sorted([*names, *added], key=key)
    return [*names, *added]


def _plain(name: Name) -> tuple[str, ...]:
    return name


def _folded(name: Name) -> tuple[str, ...]:
    return tuple(part.casefold() for part in name)


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
    """Drop a top-level import that both sides added at different places: the later of two equal lines."""
    at_most = Counter[str]()
    for side in sides.texts:
        at_most |= Counter(_import_lines(side).values())
    seen = Counter[str]()
    again: set[int] = set()
    for number, line in _import_lines(lines).items():
        seen[line] += 1
        if seen[line] > max(1, at_most[line]):
            again.add(number)
    return [line for number, line in enumerate(lines) if number not in again]


def _import_lines(lines: Sequence[str]) -> dict[int, str]:
    """Top-level imports that are one line each, by their places."""
    tree = parse_python(source_of(lines))
    nodes = tree.body if tree else []
    return {
        node.lineno - 1: lines[node.lineno - 1]
        for node in nodes
        if isinstance(node, (ast.Import, ast.ImportFrom)) and node.lineno == node.end_lineno
    }


# --- definitions and fields ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Block:
    """Python that is nothing but definitions or annotated fields, each with the comments above it.

    Attributes:
        fields: Whether they are fields of a class.
        indent: The columns before the first.
        members: Name -> lines.
        code: Name -> the syntax tree of those lines, as text.
        tail: The lines after the last.
    """

    fields: bool
    indent: int
    members: dict[str, Lines]
    code: dict[str, str]
    tail: Lines


def union_definitions(hunk: Hunk) -> list[str] | None:
    """Keep both of two insertions at one place whose order means nothing: definitions, or fields of a class."""
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
            # What was read further up stands above still; the same lines end the insertion instead.
            return [*_below(block, ours, new), *other.tail][len(moved) :] + list(moved)
    return None


def _below(block: _Block, ours: Lines, new: list[str]) -> list[str]:
    """Our lines and new ones, with blank lines between definitions."""
    if block.fields:
        return [*ours, *new]
    begin = next(place for place, line in enumerate(new) if line.strip())
    if not ours[-1].strip():
        return [*ours, *new[begin:]]
    gap = [""] * (0 if begin else 1 if block.indent else 2)
    return [*ours, *gap, *new]


def _block(lines: Lines) -> _Block | None:
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
        documents = fields and name and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if not documents:
            name = _member(node, fields)
            if not name or name in members:
                return None
        members[name] = members.get(name, ()) + lines[start:end]
        code[name] = code.get(name, "") + ast.dump(node)
        start = end
    return _Block(fields, indent, members, code, lines[start:])


def _member(node: ast.stmt, fields: bool) -> str:
    """The name that a statement defines; empty if it is no definition, or no field with a default."""
    if not fields:
        return node.name if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) else ""
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
        return node.target.id
    return ""


# --- one element on each line: requirements, ignored files, strings of a TOML array -------------------------------------


def union_requirements(hunk: Hunk) -> list[str] | None:
    """Merge requirements by package and marker."""
    return _union_lines(hunk, lambda line: requirement_key(line) or line.strip())


def union_ignored(hunk: Hunk) -> list[str] | None:
    """Merge patterns of files to ignore; not where one undoes another above it, as `!` does."""
    if any(line.lstrip().startswith("!") for lines in hunk.sides.texts for line in lines):
        return None
    return _union_lines(hunk, str.strip)


_STRING = re.compile(r"""(?P<indent>\s*)(?P<body>"[^"\\]*"|'[^']*')\s*(?P<comma>,?)(?P<rest>\s*(#.*)?)""")


def union_strings(hunk: Hunk) -> list[str] | None:
    """Merge strings of a TOML array, one on each line, by package and marker where they are requirements."""
    elements = [line for lines in hunk.sides.texts for line in lines if _is_element(line)]
    if not elements or not all(map(_STRING.fullmatch, elements)):
        return None
    lines = _union_lines(hunk, lambda line: _value_key(_string(line)["body"][1:-1]))
    if lines is None:
        return None
    places = [place for place, line in enumerate(lines) if _is_element(line)]
    ends = [_string(line)["comma"] for line in hunk.sides.ours if _is_element(line)]
    for place in places:  # each but the last needs a comma; the last has one where ours had it
        found = _string(lines[place])
        comma = "," if place != places[-1] or not ends or ends[-1] else ""
        lines[place] = found["indent"] + found["body"] + comma + found["rest"]
    return lines


def _union_lines(hunk: Hunk, key: Callable[[str], str]) -> list[str] | None:
    """Merge lines that each hold one element; None if one stands twice."""
    read: list[dict[str, str]] = []
    for lines in hunk.sides.texts:
        elements = [line for line in lines if _is_element(line)]
        read.append({key(line): line for line in elements})
        if len(read[-1]) < len(elements):
            return None
    merged = merge_keyed(*read, same=lambda one, other: one.strip().rstrip(",") == other.strip().rstrip(","))
    if merged is None:
        return None
    _, ours, theirs = read
    kept = [merged.get(key(line)) if _is_element(line) else line for line in hunk.sides.ours]
    known = {*hunk.sides.base, *hunk.sides.ours}
    comments = [line for line in hunk.sides.theirs if line.strip() and not _is_element(line) and line not in known]
    new = [merged[name] for name in theirs if name in merged and name not in ours]
    return [line for line in (*kept, *comments, *new) if line is not None]


def _is_element(line: str) -> bool:
    """Whether a line is neither blank nor a comment."""
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _string(line: str) -> re.Match[str]:
    found = _STRING.fullmatch(line)
    assert found, line
    return found


def _value_key(value: str) -> str:
    return requirement_key(value) or value


def union_array(hunk: Hunk) -> list[str] | None:
    """Merge TOML assignments of one array of requirements, or of names, as `x = ["a", "b"]`."""
    arrays: list[dict[str, str]] = []
    names: set[str] = set()
    for lines in hunk.sides.texts:
        try:
            table = tomllib.loads(source_of(lines))
        except ValueError:
            return None
        (name, values), *more = table.items() or [("", None)]
        if more or not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            return None
        names.add(name)
        arrays.append({requirement_key(value) or "": value for value in values})
        if len(arrays[-1]) != len(values) or "" in arrays[-1]:
            return None
    merged = merge_keyed(*arrays) if len(names) == 1 else None
    if merged is None:
        return None
    strings = [json.dumps(value, ensure_ascii=False) for value in merged.values()]
    ours = hunk.sides.ours
    head = ours[0].partition("[")[0]
    line = f"{head}[{', '.join(strings)}]"
    if len(ours) == 1 and len(line) <= hunk.width:
        return [line]
    indent = next((found["indent"] for text in ours[1:] if (found := _STRING.fullmatch(text))), "    ")
    return [f"{head}[", *(f"{indent}{string}," for string in strings), "]"]
