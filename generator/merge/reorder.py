"""Definitions matched by name: a module's top-level statements put into the order that the user, or the template, chose.

Moving a function is no edit of it. Base and template are put into the user's order where the user moved something, else
base and user's file into the template's; then lines are merged as ever.
"""

import ast
from collections import Counter
from collections.abc import Iterator, Sequence

from .languages import parse_python
from .pieces import Sides, source_of

Unit = tuple[str, tuple[str, ...]]


def reordered(sides: Sides) -> Sides | None:
    """The sides with their definitions in one order; None where they are in one order already, or cannot be split."""
    base, ours, theirs = (_units(lines) for lines in (sides.base, sides.ours, sides.theirs))
    if not base or not ours or not theirs:
        return None
    if _moved(base, ours):
        return sides._replace(base=_in_order(base, ours), theirs=_in_order(theirs, ours))
    if _moved(base, theirs):
        return sides._replace(base=_in_order(base, theirs), ours=_in_order(ours, theirs))
    return None


def _units(lines: Sequence[str]) -> list[Unit] | None:
    """Top-level statements with the comments and blank lines above them, named; a run of imports is one unit."""
    tree = parse_python(source_of(lines))
    if tree is None:
        return None
    units: list[Unit] = []
    start = 0
    for name, end in _ends(tree.body):
        units.append((name, tuple(lines[start:end])))
        start = end
    units.append(("end", tuple(lines[start:])))
    counts = Counter(name for name, _ in units)
    return units if max(counts.values()) == 1 else None


def _ends(body: Sequence[ast.stmt]) -> Iterator[tuple[str, int]]:
    """Name and last line of each unit; everything up to the last import of the head is one, which stays first."""
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


def _moved(base: list[Unit], side: list[Unit]) -> bool:
    names = {name for name, _ in base} & {name for name, _ in side}
    return [name for name, _ in base if name in names] != [name for name, _ in side if name in names]


def _in_order(units: list[Unit], order: list[Unit]) -> tuple[str, ...]:
    """The units in the order of `order`; those that it does not have follow the unit they followed."""
    by_name = dict(units)
    followers: dict[str, list[str]] = {}
    known = {name for name, _ in order}
    last = ""
    for name, _ in units:
        if name in known:
            last = name
        else:
            followers.setdefault(last, []).append(name)
    names = followers.get("", [])[:]
    for name, _ in order:
        if name in by_name:
            names.append(name)
            names += followers.get(name, [])
    lines: list[str] = []
    places = dict(order)
    for name in names:
        unit = by_name[name]
        # Blank lines above a unit belong to its place in the file, not to the unit.
        blank = _blank_lines(places.get(name, unit))
        lines += [""] * blank + list(unit[_blank_lines(unit) :])
    return tuple(lines)


def _blank_lines(unit: tuple[str, ...]) -> int:
    return next((i for i, line in enumerate(unit) if line.strip()), len(unit))
