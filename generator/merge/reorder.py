"""The view in which the order of definitions does not count: moving a function is not an edit of it.

A module's top-level statements are matched by name. If the user moved some, base and template are put into the user's
order; else, if the template moved some, base and ours are put into the template's.
"""

import ast
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .languages import parse_python
from .pieces import Lines, Sides, source_of


class _Definition(NamedTuple):
    """A top-level statement with the comments and blank lines above it; the imports at the top are one together."""

    name: str
    lines: Lines

    @property
    def blank_lines(self) -> int:
        """The number of blank lines at its start."""
        return next((i for i, line in enumerate(self.lines) if line.strip()), len(self.lines))


def reordered(sides: Sides) -> Sides | None:
    """Put the definitions of all sides into one order; None if they are in one, or cannot be matched by name."""
    base, ours, theirs = map(_definitions, sides.texts)
    if not base or not ours or not theirs:
        return None
    if _differ_in_order(base, ours):
        return sides._replace(base=_in_order(base, ours), theirs=_in_order(theirs, ours))
    if _differ_in_order(base, theirs):
        return sides._replace(base=_in_order(base, theirs), ours=_in_order(ours, theirs))
    return None


def _definitions(lines: Lines) -> list[_Definition] | None:
    """The definitions of a module, and the lines after the last as one more; None if two have the same name."""
    tree = parse_python(source_of(lines))
    if tree is None:
        return None
    found: list[_Definition] = []
    start = 0
    for name, end in (*_ends(tree.body), ("end", len(lines))):
        found.append(_Definition(name, lines[start:end]))
        start = end
    counts = Counter(definition.name for definition in found)
    return found if max(counts.values()) == 1 else None


def _ends(body: Sequence[ast.stmt]) -> Iterator[tuple[str, int]]:
    """Yield name and last line of each definition; first the imports at the top, which stay there."""
    head = 0
    for place, node in enumerate(body):
        if isinstance(node, (ast.Import, ast.ImportFrom)) or (place == 0 and isinstance(node, ast.Expr)):
            head = place + 1
        else:
            break
    if head:
        yield "head", body[head - 1].end_lineno or 0
    for node in body[head:]:
        yield _name(node), node.end_lineno or 0


def _name(node: ast.stmt) -> str:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return f"def {node.name}"
    if isinstance(node, (ast.Assign, ast.AnnAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return "set " + ", ".join(ast.unparse(target) for target in targets)
    return ("if " + ast.unparse(node.test)) if isinstance(node, ast.If) else ast.unparse(node)


def _differ_in_order(one: list[_Definition], other: list[_Definition]) -> bool:
    names, others = ([definition.name for definition in side] for side in (one, other))
    return [name for name in names if name in others] != [name for name in others if name in names]


def _in_order(definitions: list[_Definition], order: list[_Definition]) -> Lines:
    """The definitions in the order of `order`; one that it lacks stays below its predecessor."""
    by_name = {definition.name: definition for definition in definitions}
    places = {place.name: place for place in order}
    followers: dict[str, list[str]] = {}
    last = ""
    for name in by_name:
        if name in places:
            last = name
        else:
            followers.setdefault(last, []).append(name)
    names = list(followers.get("", []))
    for name in places:
        if name in by_name:
            names += [name, *followers.get(name, [])]
    lines: list[str] = []
    for name in names:
        definition = by_name[name]
        # Blank lines above a definition belong to its place, not to the definition.
        lines += [""] * places.get(name, definition).blank_lines
        lines += definition.lines[definition.blank_lines :]
    return tuple(lines)
