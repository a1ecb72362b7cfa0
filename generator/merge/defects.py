"""What two sound edits can break together in one Python module, as far as its syntax tree tells for certain."""

import ast
import builtins
import re
import symtable
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache

from .agreement import disagreement
from .languages import import_names, nodes, parse_python, walk

_KNOWN = frozenset(dir(builtins)) | {
    *("__file__", "__name__", "__doc__", "__spec__", "__path__", "__package__", "__loader__", "__builtins__"),
    *("__class__", "__qualname__", "__module__", "__annotations__", "__dict__"),
}
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def python_problem(base: str, ours: str, theirs: str, result: str) -> str | None:
    """What is wrong with `result` that is wrong in neither side, in words; None if nothing is.

    All four are sources of one module; `base` need not parse.
    """
    allowed = _definitions(base) | _definitions(ours) | _definitions(theirs)
    twice = sorted((_definitions(result) - allowed).items())
    if twice:
        (scope, name), _ = twice[0]
        return f"both changes together define `{scope}{name}` twice"
    # The sides are looked at only where the result gives reason to: this runs at every merge of a Python file.
    lost = _unbound(result) and sorted(_unbound(result) - _unbound(ours) - _unbound(theirs))
    if lost:
        return f"one change uses `{lost[0]}`, which the other removed or renamed"
    gone = sorted(_missing_members(base, ours, theirs, result) | _missing_members(base, theirs, ours, result))
    if gone:
        return f"one change uses `.{gone[0]}`, which the other removed or renamed"
    mixed = sorted(_mixed_calls(ours, theirs, result) | _mixed_calls(theirs, ours, result))
    if mixed:
        return f"one change calls `{mixed[0]}` instead of another function, to which the other change gives arguments"
    if _dead_ends(result) and _dead_ends(result) > max(_dead_ends(ours), _dead_ends(theirs)):
        return "one change would stand below a `return`, `raise`, `break` or `continue` of the other"
    misfits = _misfits(result) and sorted(name for name, _ in _misfits(result) - _misfits(ours) - _misfits(theirs))
    if misfits:
        return f"one change calls `{misfits[0]}` with arguments that it does not take after the other"
    if _unawaited(result):
        mine, new = _unawaited(ours), _unawaited(theirs)
        idle = sorted(
            name for name in mine.keys() ^ new.keys() if _unawaited(result)[name] > max(mine[name], new[name])
        )
        if idle:
            return f"one change calls `{idle[0]}` without `await`, and the other made it a coroutine"
    double = sorted(_origins(result).keys() - _origins(ours).keys() - _origins(theirs).keys())
    if double:
        return f"both changes import `{double[0]}`, from different places"
    if _double_keys(result) and _double_keys(result) > max(_double_keys(ours), _double_keys(theirs)):
        return "both changes together give a key of a dictionary twice"
    again = _done_twice(base, ours, theirs, result)
    if again:
        return f"both changes add `{again[0]}` to one function, at different places"
    return disagreement(base, ours, theirs, result)


@lru_cache(maxsize=32)
def _definitions(source: str) -> Counter[tuple[str, str]]:
    """How often each name is defined in a module: (scope, name), for the module and its classes."""
    tree = parse_python(source)
    return Counter(_defined("", tree.body)) if tree else Counter()


def _defined(scope: str, body: Sequence[ast.stmt]) -> Iterator[tuple[str, str]]:
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield scope, node.name
            if isinstance(node, ast.ClassDef):
                yield from _defined(f"{scope}{node.name}.", node.body)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield scope, node.target.id
        elif isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            yield scope, node.targets[0].id


@lru_cache(maxsize=32)
def _unbound(source: str) -> frozenset[str]:
    """Names that are read where no scope binds them: reading them must fail."""
    if re.search(r"import\s*\*", source) or parse_python(source) is None:
        return frozenset()
    scopes = [symtable.symtable(source, "<merge>", "exec")]
    bound: set[str] = set(_KNOWN)
    read: set[str] = set()
    while scopes:
        scope = scopes.pop()
        scopes += scope.get_children()
        module = scope.get_type() == "module"
        for symbol in scope.get_symbols():
            if module or symbol.is_global():
                if symbol.is_assigned() or symbol.is_imported():
                    bound.add(symbol.get_name())
                if symbol.is_referenced():
                    read.add(symbol.get_name())
    return frozenset(read - bound)


def _missing_members(base: str, remover: str, other: str, result: str) -> set[str]:
    """Members of the module's classes that one side removed with every use, and that the result uses again."""
    removed = {name for scope, name in _definitions(base) if scope} - {name for _, name in _definitions(remover)}
    added = {name for _, name in _definitions(other) - _definitions(base)}
    gone = removed - added
    return (gone - _attributes(remover)) & _attributes(result) if gone else set()


@lru_cache(maxsize=32)
def _attributes(source: str) -> frozenset[str]:
    return frozenset(node.attr for node in nodes(source) if isinstance(node, ast.Attribute))


def _mixed_calls(changer: str, other: str, result: str) -> set[str]:
    """Functions that only one side calls, called in the result with arguments that this side never gives them."""
    of_changer, of_other = _calls(changer), _calls(other)
    mixed: set[str] = set()
    for name, given in _calls(result).items() - of_changer.items() - of_other.items():
        if name in of_changer and name not in of_other:
            allowed = of_changer[name]
            mixed |= {name} if any(not any(call <= known for known in allowed) for call in given) else set()
    return mixed


@lru_cache(maxsize=32)
def _calls(source: str) -> dict[str, frozenset[frozenset[str]]]:
    """Function, as written -> the sets of arguments that it is called with: names, or places."""
    calls: dict[str, set[frozenset[str]]] = {}
    for node in nodes(source):
        if isinstance(node, ast.Call):
            calls.setdefault(_written(node.func), set()).add(_given(node))
    return {name: frozenset(given) for name, given in calls.items()}


def _given(call: ast.Call) -> frozenset[str]:
    """The arguments of a call: names, or places."""
    return frozenset(
        [keyword.arg or "**" for keyword in call.keywords] + [str(place) for place in range(len(call.args))]
    )


def _written(node: ast.expr) -> str:
    """An expression as it is written; `ast.unparse` is slow where a name is all there is."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, (ast.Name, ast.Attribute)):
        return f"{_written(node.value)}.{node.attr}"
    return ast.unparse(node)


@lru_cache(maxsize=32)
def _misfits(source: str) -> frozenset[tuple[str, frozenset[str]]]:
    """Calls that the function of the module which they name does not take: (function, arguments given)."""
    tree = parse_python(source)
    functions = {node.name: node for node in tree.body if isinstance(node, _FUNCTIONS)} if tree else {}
    misfits: set[tuple[str, frozenset[str]]] = set()
    for node in nodes(source):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            function = functions.get(node.func.id)
            # A decorator may change what is taken, and stars hide what is given.
            hidden = any(isinstance(given, ast.Starred) for given in node.args) or any(
                keyword.arg is None for keyword in node.keywords
            )
            if function is not None and not function.decorator_list and not hidden and not _fits(function.args, node):
                misfits.add((node.func.id, _given(node)))
    return frozenset(misfits)


@lru_cache(maxsize=32)
def _unawaited(source: str) -> Counter[str]:
    """Coroutine of the module -> 1 and how often it is called without `await`, which may be right: `run(main())`."""
    tree = parse_python(source)
    coroutines = (node.name for node in (tree.body if tree else ()) if isinstance(node, ast.AsyncFunctionDef))
    found = Counter(coroutines)
    for node in nodes(source) if found else ():
        for child in () if isinstance(node, ast.Await) else ast.iter_child_nodes(node):
            if isinstance(child, ast.Call) and isinstance(child.func, ast.Name) and child.func.id in found:
                found[child.func.id] += 1
    return found


def _fits(takes: ast.arguments, call: ast.Call) -> bool:
    places = [arg.arg for arg in (*takes.posonlyargs, *takes.args)]
    named = {arg.arg for arg in (*takes.args, *takes.kwonlyargs)}
    given = {*places[: len(call.args)], *(keyword.arg for keyword in call.keywords)}
    defaults = [arg.arg for arg, value in zip(takes.kwonlyargs, takes.kw_defaults, strict=True) if value is not None]
    needed = {*places[: len(places) - len(takes.defaults)], *(arg.arg for arg in takes.kwonlyargs)} - {*defaults}
    fewer = len(call.args) <= len(places) or takes.vararg is not None
    return fewer and needed <= given and (takes.kwarg is not None or all(key.arg in named for key in call.keywords))


@lru_cache(maxsize=32)
def _origins(source: str) -> dict[str, frozenset[tuple[str, str]]]:
    """Name -> what the module's own imports bind to it, where that is more than one thing."""
    tree = parse_python(source)
    origins: dict[str, set[tuple[str, str]]] = {}
    for node in tree.body if tree else ():
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for module, name, alias in import_names(node):
                bound = alias or name or module.partition(".")[0]
                origins.setdefault(bound, set()).add((module, name) if alias or name else (bound, ""))
    return {name: frozenset(found) for name, found in origins.items() if len(found) > 1}


@lru_cache(maxsize=32)
def _double_keys(source: str) -> int:
    """How many keys stand twice in one dictionary."""
    count = 0
    for node in nodes(source):
        if isinstance(node, ast.Dict):
            keys = [repr(key.value) for key in node.keys if isinstance(key, ast.Constant)]
            count += len(keys) - len(set(keys))
    return count


@lru_cache(maxsize=32)
def _statements(source: str) -> Counter[tuple[str, str]]:
    """How often each call that is a statement stands in each function: (function, call as written)."""
    lines = source.split("\n")
    found: Counter[tuple[str, str]] = Counter()
    for function in nodes(source):
        if isinstance(function, _FUNCTIONS):
            for node in walk(function):
                if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and node.end_lineno:
                    written = "".join("".join(lines[node.lineno - 1 : node.end_lineno]).split())
                    found[function.name, written] += 1
    return found


def _done_twice(base: str, ours: str, theirs: str, result: str) -> list[str]:
    """Calls that each side put into the same function at another place: each meant it to happen once more, not twice."""
    often = [key for key, count in _statements(result).items() if count > 1 and not key[1].startswith("print(")]
    if not often or parse_python(base) is None:
        return []
    was, mine, new, now = map(_statements, (base, ours, theirs, result))
    return sorted(
        key[1] for key in often if was[key] < min(mine[key], new[key]) and now[key] > max(mine[key], new[key])
    )


@lru_cache(maxsize=32)
def _dead_ends(source: str) -> int:
    """How many statements stand below one that leaves their block."""
    ends = (ast.Return, ast.Raise, ast.Break, ast.Continue)
    count = 0
    for node in nodes(source):
        if isinstance(node, (ast.stmt, ast.ExceptHandler, ast.match_case, ast.Module)):
            for body in (getattr(node, name, ()) for name in ("body", "orelse", "finalbody")):
                count += next((len(body) - place for place, at in enumerate(body, 1) if isinstance(at, ends)), 0)
    return count
