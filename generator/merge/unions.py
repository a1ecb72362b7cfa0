"""Conflict hunks whose lines are a set: imports, dependency lists, ignore files, keys of a JSON object.

Each function gets what base, ours and theirs have in a hunk, and returns the merged lines, or None where both changed
the same element differently, or where it cannot be sure. The order is ours, then what is new in theirs.
"""

import ast
import json
import re
import textwrap
import tomllib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .languages import import_names, logical_lines, parse_python
from .pieces import Sides, source_of

Lines = Sequence[str]
Name = tuple[str, str, str]

_MISSING = object()


@dataclass
class _Import:
    """One import statement of a hunk, with the comments and blank lines above it."""

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


def union_imports(base: Lines, ours: Lines, theirs: Lines, width: int) -> list[str] | None:
    """Merge hunks of nothing but imports as sets of names, changing only the statements that must change."""
    in_base, in_ours, in_theirs = _imports(base), _imports(ours), _imports(theirs)
    if in_base is None or in_ours is None or in_theirs is None:
        return None
    (before, _), (result, tail), (template, _) = in_base, in_ours, in_theirs
    old, mine, new = ({name for item in side for name in item.names} for side in (before, result, template))
    wanted = (old & mine & new) | (mine - old) | (new - old)
    if _binds_twice(wanted):
        return None
    for item in list(result):
        names = [name for name in item.names if name in wanted]
        if names == item.names:
            continue
        item.names = names
        if names:
            item.lines = _write(names, len(item.lines) > 1, width)
        else:
            result.remove(item)
    _take_rewritten(before, result, template)
    present = {name for item in result for name in item.names}
    place = 0
    for item in template:
        added = [name for name in item.names if name in wanted and name not in present]
        same = next((k for k, have in enumerate(result) if have.names and set(have.names) & set(item.names)), None)
        if not added:
            place = place if same is None else max(place, same + 1)
            continue
        while place < len(result) and not set(result[place].names) & new and result[place].lines < item.lines:
            place += 1  # what is new in ours, as far as it comes first in the alphabet
        host = next((have for have in result if have.module and have.module == item.module), None)
        if host is not None and not host.commented and not item.commented:
            host.names = _ordered(host.names, added)
            host.lines = _write(host.names, len(host.lines) > 1, width)
            place = max(place, result.index(host) + 1)
        else:
            lines = item.lines if added == item.names else _write(added, len(item.lines) > 1, width)
            new_above = [line for line in item.above if line.strip() and line not in {*base, *ours}]
            result.insert(place, _Import(new_above, list(lines), added))
            place += 1
            if item.module == "__future__" and place < len(result) and not result[place].above:
                result[place].above = [""]
    return [line for item in result for line in (*item.above, *item.lines)] + tail


def _take_rewritten(before: list[_Import], result: list[_Import], template: list[_Import]) -> None:
    """Take over statements that only the template wrote anew without changing their names: a comment, for instance."""
    was, new = ({tuple(item.names): item.lines for item in side} for side in (before, template))
    for item in result:
        names = tuple(item.names)
        if names in new and item.lines == was.get(names):
            item.lines = list(new[names])


def _imports(lines: Lines) -> tuple[list[_Import], list[str]] | None:
    """The import statements of a hunk, and what follows the last; None if there is anything else."""
    if any(line[:1].isspace() and line.strip() for line in lines) and textwrap.dedent("\n".join(lines)) != "\n".join(
        lines
    ):
        return None  # imports inside a block: where they stand matters
    tree = parse_python("".join(line + "\n" for line in lines))
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


def _binds_twice(names: set[Name]) -> bool:
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
    """Append, or sort if what was there is sorted."""
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


# --- items: one string or one requirement a line -----------------------------------------------------------------

_QUOTED = re.compile(r"""(?P<indent>\s*)(?P<body>"[^"\\]*"|'[^']*')\s*(?P<comma>,?)(?P<rest>\s*(#.*)?)""")
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(\[[^\]]*\])?\s*(?P<rest>[<>=!~;@].*)?")


def union_items(base: Lines, ours: Lines, theirs: Lines, quoted: bool, ordered: bool) -> list[str] | None:
    """Merge hunks of one item a line, by name of the requirement or by the whole line.

    Args:
        quoted: The items are strings of a TOML array, which need commas between them.
        ordered: A line may undo one before it, as `!` does in an ignore file; such hunks are not sets.
    """
    if ordered and any(line.lstrip().startswith("!") for line in (*base, *ours, *theirs)):
        return None
    old, mine, new = (_items(side, quoted) for side in (base, ours, theirs))
    if old is None or mine is None or new is None:
        return None
    chosen = _merge_keys(old, mine, new, _same_item)
    if chosen is None:
        return None
    lines: list[str] = []
    for line in ours:
        key = _item_key(line, quoted)
        if key is None:
            lines.append(line)
        elif key in chosen:
            lines.append(chosen[key])
    lines += [
        line for line in theirs if _item_key(line, quoted) is None and line.strip() and line not in {*base, *ours}
    ]
    lines += [chosen[key] for key in new if key in chosen and key not in mine]
    return _with_commas(lines, ours) if quoted else lines


def _merge_keys(
    old: dict[str, Any], mine: dict[str, Any], new: dict[str, Any], same: Callable[[Any, Any], bool]
) -> dict[str, Any] | None:
    """Three-way merge of mappings; None where both sides changed one key differently."""
    chosen: dict[str, Any] = {}
    for key in [*mine, *(key for key in new if key not in mine), *(key for key in old if key not in mine | new)]:
        was, is_mine, is_new = (side.get(key, _MISSING) for side in (old, mine, new))
        if is_mine is was or is_new is is_mine or same(is_mine, was):
            value = is_new
        elif is_new is was or same(is_new, was) or same(is_mine, is_new):
            value = is_mine
        else:
            return None
        if value is not _MISSING:
            chosen[key] = is_mine if is_mine is not _MISSING and same(is_mine, value) else value
    return chosen


def _same_item(a: object, b: object) -> bool:
    return isinstance(a, str) and isinstance(b, str) and a.strip().rstrip(",") == b.strip().rstrip(",")


def _item_key(line: str, quoted: bool) -> str | None:
    """What identifies the item of a line; None for blank lines and comments."""
    text = line.strip()
    if not text or text.startswith("#"):
        return None
    if quoted:
        found = _QUOTED.fullmatch(line)
        text = found["body"][1:-1] if found else text
    return _requirement_key(text)


def _requirement_key(text: str) -> str:
    """A requirement's name and marker, or the text itself where it is none."""
    found = _REQUIREMENT.fullmatch(text.partition(" #")[0].strip())
    if not found:
        return text
    marker = (found["rest"] or "").partition(";")[2].strip()
    return re.sub(r"[-_.]+", "-", found["name"]).lower() + (f"; {marker}" if marker else "")


def _items(lines: Lines, quoted: bool) -> dict[str, str] | None:
    items: dict[str, str] = {}
    for line in lines:
        key = _item_key(line, quoted)
        if key is None:
            continue
        if key in items or (quoted and not _QUOTED.fullmatch(line)):
            return None
        items[key] = line
    return items


def _with_commas(lines: list[str], ours: Lines) -> list[str]:
    """Every item but the last gets a comma; the last one as ours had it."""
    of_ours = [found for line in ours if (found := _QUOTED.fullmatch(line))]
    places = [i for i, line in enumerate(lines) if _QUOTED.fullmatch(line)]
    for i in places:
        found = _QUOTED.fullmatch(lines[i])
        assert found
        comma = "," if i != places[-1] or not of_ours or of_ours[-1]["comma"] else ""
        lines[i] = found["indent"] + found["body"] + comma + found["rest"]
    return lines


def union_array(base: Lines, ours: Lines, theirs: Lines, width: int) -> list[str] | None:
    """Merge hunks that are each one TOML assignment of an array of requirement-like strings, as `x = ["a", "b"]`."""
    arrays: list[dict[str, str]] = []
    keys: set[str] = set()
    for side in (base, ours, theirs):
        try:
            table = tomllib.loads("\n".join(side))
        except ValueError:
            return None
        (key, values), *more = table.items() or [("", None)]
        if more or not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            return None
        keys.add(key)
        arrays.append({_requirement_key(value): value for value in values})
        if len(arrays[-1]) != len(values) or not all(_REQUIREMENT.fullmatch(value) for value in values):
            return None
    old, mine, new = arrays
    chosen = _merge_keys(old, mine, new, lambda a, b: bool(a == b)) if len(keys) == 1 else None
    if chosen is None:
        return None
    items = [json.dumps(value, ensure_ascii=False) for value in chosen.values()]
    head = ours[0].partition("[")[0]
    line = f"{head}[{', '.join(items)}]"
    if len(ours) == 1 and len(line) <= width:
        return [line]
    indent = next((found["indent"] for text in ours[1:] if (found := _QUOTED.fullmatch(text))), "    ")
    return [f"{head}[", *(f"{indent}{item}," for item in items), "]"]


# --- JSON --------------------------------------------------------------------------------------------------------


def union_json(base: Lines, ours: Lines, theirs: Lines) -> list[str] | None:
    """Merge whole JSON objects key by key, where writing ours out again gives ours: then no style is lost."""
    texts = ["\n".join(side) for side in (base, ours, theirs)]
    try:
        old, mine, new = (json.loads(text) for text in texts)
    except (ValueError, RecursionError):
        return None
    first = next((line for line in ours[1:] if line.strip()), "")
    blank = first[: len(first) - len(first.lstrip())]
    for indent in (blank or None, None):
        for ascii_only in (False, True):
            if json.dumps(mine, indent=indent, ensure_ascii=ascii_only) == texts[1]:
                merged = _merge_json(old, mine, new)
                if merged is _MISSING:
                    return None
                return json.dumps(merged, indent=indent, ensure_ascii=ascii_only).split("\n")
    return None


def _merge_json(old: object, mine: object, new: object) -> object:
    """The merged value; `_MISSING` where both changed a value differently."""
    if _same_json(mine, new) or _same_json(new, old):
        return mine
    if _same_json(mine, old):
        return new
    if not (isinstance(mine, dict) and isinstance(new, dict) and isinstance(old, dict)):
        return _MISSING
    merged: dict[str, object] = {}
    for key in [*mine, *(key for key in new if key not in mine)]:
        sides = [side.get(key, _MISSING) for side in (old, mine, new)]
        if sides[1] is _MISSING and _same_json(sides[2], sides[0]):
            continue  # we removed it
        if sides[2] is _MISSING and _same_json(sides[1], sides[0]):
            continue  # they removed it
        value = _merge_json(*sides)
        if value is _MISSING:
            return _MISSING
        merged[key] = value
    return merged


def _same_json(a: object, b: object) -> bool:
    """Equality that tells `true` from `1`, which Python's does not."""
    return a is b or (a is not _MISSING and b is not _MISSING and json.dumps(a) == json.dumps(b))


def without_double_imports(sides: Sides, lines: Sequence[str]) -> list[str]:
    """Drop a top-level import that both sides added at different places: the later of two equal lines."""
    at_most = Counter[str]()
    for side in (sides.ours, sides.theirs, sides.base):
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
