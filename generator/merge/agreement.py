"""What two sound edits of one Python module promise each other: exports, frozen classes, results, names of a function."""

import ast
import re
import symtable
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

from .languages import nodes, parse_python, walk

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_ANY = {"any", "object", "none"}  # kinds of result that say too little to be compared


def disagreement(base: str, ours: str, theirs: str, result: str) -> str | None:
    """What `result` breaks that neither side breaks, in words; None if nothing. All four are sources of one module."""
    for find, words in (
        (_unexported, "one change exports `{}`, which the other removed or renamed"),
        (_for_checkers, "one change uses `{}` when it runs, which the other imports for type checkers only"),
        (_frozen_writes, "one change assigns to `{}`, whose class the other froze"),
    ):
        broken = find(result)
        new = broken and sorted(broken - find(ours) - find(theirs))
        if new:
            return words.format(new[0])
    turned = sorted(_turned(base, ours, theirs, result) | _turned(base, theirs, ours, result))
    if turned:
        return f"one change calls `{turned[0]}`, which returns something else after the other"
    shared = _shared_names(base, ours, theirs, result)
    if shared:
        return f"both changes add a variable `{shared[0]}` to one function, for other things"
    return None


@lru_cache(maxsize=32)
def _unexported(source: str) -> frozenset[str]:
    """Names in `__all__` that the module does not bind."""
    tree = parse_python(source) if "__all__" in source else None
    if tree is None or re.search(r"import\s*\*|def __getattr__", source):
        return frozenset()
    exported = {
        item.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, (ast.List, ast.Tuple))
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets)
        for item in node.value.elts
        if isinstance(item, ast.Constant) and isinstance(item.value, str)
    }
    symbols = symtable.symtable(source, "<merge>", "exec").get_symbols()
    return frozenset(
        exported - {symbol.get_name() for symbol in symbols if symbol.is_assigned() or symbol.is_imported()}
    )


@lru_cache(maxsize=32)
def _for_checkers(source: str) -> frozenset[str]:
    """Names that only `if TYPE_CHECKING` imports, and that something other than an annotation reads."""
    tree = parse_python(source) if "TYPE_CHECKING" in source else None
    if tree is None:
        return frozenset()
    tests = [
        node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
    ]
    guarded = {id(child) for test in tests for statement in test.body for child in walk(statement)}
    notes = [getattr(node, field, None) for node in nodes(source) for field in ("annotation", "returns")]
    inside = {id(child) for note in notes if note is not None for child in walk(note)}
    checked: set[str] = set()
    bound: set[str] = set()
    read: set[str] = set()
    for node in nodes(source):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
            (checked if id(node) in guarded else bound).update(names)
        elif isinstance(node, ast.Name) and id(node) not in inside and id(node) not in guarded:
            (read if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
    return frozenset((checked & read) - bound)


@lru_cache(maxsize=32)
def _frozen_writes(source: str) -> frozenset[str]:
    """Assignments in functions, as `name.field`, to an argument or a variable of a class that the module freezes."""
    if "frozen" not in source:
        return frozenset()
    frozen = {node.name for node in nodes(source) if isinstance(node, ast.ClassDef) and _is_frozen(node)}
    found: set[str] = set()
    for function in nodes(source):
        if not isinstance(function, _FUNCTIONS):
            continue
        held: set[str] = set()
        for node in walk(function):
            if isinstance(node, ast.arg) and node.annotation and ast.unparse(node.annotation).strip("'") in frozen:
                held.add(node.arg)
            elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
                made = ast.unparse(node.value.func) in frozen
                held |= {target.id for target in node.targets if made and isinstance(target, ast.Name)}
        for node in walk(function):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name):
                found |= {f"{node.value.id}.{node.attr}"} if node.value.id in held else set()
    return frozenset(found)


def _is_frozen(node: ast.ClassDef) -> bool:
    keywords = [
        *node.keywords,
        *(key for call in node.decorator_list if isinstance(call, ast.Call) for key in call.keywords),
    ]
    return any(
        key.arg == "frozen" and isinstance(key.value, ast.Constant) and key.value.value is True for key in keywords
    )


def _turned(base: str, changer: str, caller: str, result: str) -> set[str]:
    """Functions whose result is of another kind after one side, and that the other side calls once more."""
    was, now = _returns(base), _returns(changer)
    changed = {name for name in was.keys() & now.keys() if was[name] != now[name] and was[name] not in _ANY}
    changed = {name for name in changed if now[name] not in _ANY and _returns(caller).get(name) == was[name]}
    if not changed:
        return set()
    before, left, called, after = map(_call_counts, (base, changer, caller, result))
    return {name for name in changed if called[name] > before[name] and after[name] > left[name]}


@lru_cache(maxsize=32)
def _returns(source: str) -> dict[str, str]:
    """Function of the module -> the kind that its annotation says it returns, without what is in brackets."""
    tree = parse_python(source)
    kinds: dict[str, str] = {}
    for node in tree.body if tree else ():
        if isinstance(node, _FUNCTIONS) and node.returns is not None:
            outer = node.returns.value if isinstance(node.returns, ast.Subscript) else node.returns
            kinds[node.name] = ast.unparse(outer).strip("'").rpartition(".")[2].lower()
    return kinds


@lru_cache(maxsize=32)
def _call_counts(source: str) -> Counter[str]:
    calls = (node.func for node in nodes(source) if isinstance(node, ast.Call))
    return Counter(function.id for function in calls if isinstance(function, ast.Name))


def _shared_names(base: str, ours: str, theirs: str, result: str) -> list[str]:
    """Variables that both sides bring to one function with nothing in common, and that the result sets for both."""
    was, mine, new, now = map(_variables, (base, ours, theirs, result))
    found = []
    for key in (mine.keys() & new.keys()) - was.keys():
        by_ours, by_theirs, in_all = (_as_written(side.get(key, ())) for side in (mine, new, now))
        if not by_ours.keys() & by_theirs.keys() and in_all == by_ours + by_theirs:
            found.append(key[1])
    return sorted(found)


@lru_cache(maxsize=32)
def _variables(source: str) -> dict[tuple[str, str], list[ast.expr]]:
    """(function, name) -> the values that plain assignments give to that name; none where it gets them otherwise."""
    values: dict[tuple[str, str], list[ast.expr]] = {}
    for function in nodes(source):
        if isinstance(function, _FUNCTIONS):
            for node in walk(function):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    values.setdefault((function.name, node.id), [])
                elif isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
                    values.setdefault((function.name, node.targets[0].id), []).append(node.value)
    return values


def _as_written(values: Iterable[ast.expr]) -> Counter[str]:
    return Counter(map(ast.unparse, values)) or Counter({"": 1})
