"""Defects that two valid edits cause together: found if they are certain, and only then."""

import pytest

from paccel.merge.defects import defects, new_defect
from paccel.merge.file import merge_file


def problem(ours: str, theirs: str, result: str) -> str:
    return new_defect("python", ours, theirs, result) or ""


VALID = {
    "bindings of every kind": (
        "import os.path\nfrom a import b as c\n\n\ndef f(p, *q, r=1, **s):\n    global g\n    g = p\n    with q as w, r as (x, y):\n"
        "        pass\n    for i, [j] in s:\n        print(i, j, w, x, y, g)\n    if (k := p):\n        return k\n"
        "    try:\n        pass\n    except ValueError as e:\n        print(e)\n    return [z for z in q if z], lambda u: u\n\n\n"
        "print(os, c, f, g, __name__, __file__)\n"
    ),
    "names of a match": (
        "def f(v):\n    match v:\n        case {'a': a, **rest}:\n            return a, rest\n        case [first, *more]:\n"
        "            return first, more\n        case str() as text:\n            return text\n"
    ),
    "a closure and a nonlocal name": (
        "def f():\n    n = 0\n\n    def g():\n        nonlocal n\n        n += 1\n        return n\n\n    return g\n"
    ),
    "names of a class": "class A:\n    x = 1\n    y = x\n\n    def z(self):\n        return __class__, self\n",
    "a module that imports everything": "from a import *\n\nprint(whatever)\n",
    "calls of every kind": "import os\n\n\ndef f(a, b=1):\n    return a\n\n\nf(1)\nos.name\n",
    "a text that does not parse": "def f(:\n",
    "ends of different blocks": "def f(x):\n    if x:\n        return 1\n    return 2\n",
}
BROKEN = {
    "a name that only another function has": ("def f():\n    x = 1\n    return x\n\n\ndef g():\n    return x\n", "`x`"),
    "a statement below a return": ("def f():\n    return 1\n    print(2)\n", "below a `return`"),
    "a statement below a break": ("for x in []:\n    break\n    print(2)\n", "below a `break`"),
    "a function that stands twice": ("def f():\n    pass\ndef f():\n    pass\n", "define `f` twice"),
    "a field that stands twice": ("class A:\n    x: int = 1\n    x: int = 2\n", "define `A.x` twice"),
}


@pytest.mark.parametrize("name", VALID)
def test_a_valid_module_has_no_defect(name: str) -> None:
    # The arguments of calls are listed for every module; only the difference counts.
    assert [found for found in defects("python", VALID[name]) if not found.what.startswith("pass ")] == []


@pytest.mark.parametrize("name", BROKEN)
def test_what_neither_side_had_is_a_defect_and_what_one_had_is_not(name: str) -> None:
    source, named = BROKEN[name]
    assert named in problem("", "", source)
    assert problem(source, "", source) == ""
    assert problem("", source, source) == ""


LOOP = "def f(m):\n    for i in m:\n        m.a()\n{}        m.b()\n{}        m.c()\n"


def test_a_call_that_both_add_to_one_function_is_a_defect_unless_it_only_prints() -> None:
    for call, found in (("        m.step()\n", True), ("        print(m)\n", False)):
        ours, theirs, result = (LOOP.format(*places) for places in ((call, ""), ("", call), (call, call)))
        assert ("more often" in problem(ours, theirs, result)) == found


def test_a_call_that_stood_twice_already_is_no_defect() -> None:
    twice = LOOP.format("        m.step()\n", "        m.step()\n")
    assert problem(twice + "x = 1\n", twice + "\n\ny = 1\n", twice + "x = 1\n\n\ny = 1\n") == ""


PLAIN, COROUTINE = "def f():\n    return 1\n\n\n", "async def f():\n    return 1\n\n\n"
AWAITED = "async def g():\n    await f()\n"


@pytest.mark.parametrize(
    ("ours", "theirs", "result", "found"),
    [
        (COROUTINE + AWAITED, PLAIN + "x = f()\n", COROUTINE + AWAITED + "x = f()\n", True),
        (PLAIN + "x = f()\n", COROUTINE + AWAITED, COROUTINE + AWAITED + "x = f()\n", True),
        (COROUTINE + "y = f()\n", PLAIN + "z = 1\n", COROUTINE + "y = f()\nz = 1\n", False),
        (COROUTINE + "x = f()\n", COROUTINE + "y = f()\n", COROUTINE + "x = f()\ny = f()\n", False),
        (PLAIN + "x = f()\n", PLAIN + "y = f()\n", PLAIN + "x = f()\ny = f()\n", False),
    ],
)
def test_a_call_of_what_the_other_side_made_a_coroutine_is_a_defect(
    ours: str, theirs: str, result: str, found: bool
) -> None:
    assert ("without `await`" in problem(ours, theirs, result)) == found


def test_calls_that_both_sides_make_may_differ() -> None:
    base = "import m\n\nm.f()\nx = 1\nm.f(0)\n"
    ours, theirs = base.replace("m.f()", "m.f(a=1)"), base.replace("m.f(0)", "m.f(0, b=2)")
    assert problem(ours, theirs, ours.replace("m.f(0)", "m.f(0, b=2)")) == ""


def test_an_argument_that_comes_to_another_function_is_a_defect() -> None:
    assert "pass `b` to `g`" in problem("f(a=1, b=2)\n", "g(a=1)\n", "g(a=1, b=2)\n")
    assert "pass 2 positional arguments to `m.g`" in problem("m.f(a, b)\n", "m.g(a)\n", "m.g(a, b)\n")
    assert problem("f(1).g(x)\n", "f(2).g(x, a=1)\n", "f(1).g(x, a=1)\n") == ""


def test_what_a_language_without_a_search_holds_is_no_defect() -> None:
    assert new_defect("text", "", "", "def f(a):\n    return b\n") is None


def test_a_package_that_both_require_at_different_places_is_a_conflict_unless_its_markers_differ() -> None:
    base = "a\nb\nc\nd\n"
    for mine, new, found in (
        ("Pill_ow==1", "pill.ow>=2", True),
        ("pillow==1 --hash=sha256:0", "pillow", True),
        ("pillow; os_name == 'nt'", "pillow; os_name == 'posix'", False),
        ("pillow", "pill", False),
        ("# pillow", "# pillow", False),
    ):
        ours, theirs = base.replace("b\n", f"{mine}\nb\n"), base + f"{new}\n"
        merged = merge_file(base.encode(), ours.encode(), theirs.encode(), "requirements.txt")
        assert bool(merged.conflicts) == found, mine
        assert not found or "require `pill" in merged.notes[0]
