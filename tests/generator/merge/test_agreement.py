"""What two sound edits promise each other: found where it is certain, and not where it is not."""

import pytest

from paccel.merge.agreement import disagreement
from paccel.merge.file import merge_file

MODULE = "from a import Kind\n\n\ndef f(x: int) -> dict[str, int]:\n    return {'x': x}\n\n\ndef g(c):\n    return c\n"
CHECKED = "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from a import Kind\n\n\ndef f(x: 'Kind') -> Kind:\n    return x\n"
FROZEN = "@dataclass(frozen=True)\nclass C:\n    n: int = 0\n\n\n"
TUPLE = MODULE.replace("dict[str, int]", "tuple[int, ...]")
MORE = "\n\nprint(f(2))\n"

BROKEN = {
    "an export of nothing": ("", "__all__ = ['h']\nh = 1\n", "k = 1\n", "__all__ = ['h']\nk = 1\n", "`h`"),
    "an import for checkers only": ("", CHECKED, "", CHECKED + "\n\nclass D(Kind):\n    pass\n", "`Kind`"),
    "a write to a frozen argument": ("", FROZEN, "", FROZEN + "def m(c: C):\n    c.n = 1\n", "`c.n`"),
    "a write to a frozen variable": ("", FROZEN, "", FROZEN + "def m():\n    c = C()\n    c.n += 1\n", "`c.n`"),
    "another result": (MODULE, TUPLE, MODULE + MORE, TUPLE + MORE, "`f`"),
    "one name for two things": (
        "def m():\n    a()\n    b()\n    c()\n",
        "def m():\n    best = 1\n    a()\n    b()\n    c()\n",
        "def m():\n    a()\n    b()\n    c()\n    best = 'x'\n",
        "def m():\n    best = 1\n    a()\n    b()\n    c()\n    best = 'x'\n",
        "`best`",
    ),
}


SOUND = {
    "an export that a submodule may be": ("", "__all__ = ['h']\n", "", "__all__ = ['h']\nx = 1\n"),
    "an export that a star may bring": ("", "", "", "from a import *\n\n__all__ = ['h']\n"),
    "a name for checkers in annotations": ("", "", "", CHECKED),
    "a name for checkers that an argument hides": ("", "", "", CHECKED + "\n\ndef m(Kind):\n    return Kind\n"),
    "a name that the other branch imports": (
        "",
        "",
        "",
        "if TYPE_CHECKING:\n    from a import K\nelse:\n    from b import K\n\nprint(K)\n",
    ),
    "a write to a class that is not frozen": ("", "", "", FROZEN + "def m(c: D):\n    c.n = 1\n"),
    "a class that says it is not frozen": ("", "", "", FROZEN.replace("True", "False") + "def m(c: C):\n    c.n = 1\n"),
    "the same result, spelled otherwise": (
        MODULE,
        MODULE.replace("dict[", "Dict["),
        MODULE + MORE,
        MODULE.replace("dict[", "Dict[") + MORE,
    ),
    "another result and no new call": (MODULE, TUPLE, MODULE + "\n", TUPLE + "\n"),
    "one variable that both add alike": (
        "def m():\n    a()\n",
        "def m():\n    n = 1\n    a()\n",
        "def m():\n    a()\n    n = 1\n",
        "def m():\n    n = 1\n    a()\n    n = 1\n",
    ),
    "a variable that was there": (
        "def m():\n    n = 0\n    a()\n",
        "def m():\n    n = 1\n    a()\n",
        "def m():\n    n = 0\n    a()\n    n = 2\n",
        "def m():\n    n = 1\n    a()\n    n = 2\n",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_only_the_result_breaks_is_found(name: str) -> None:
    base, ours, theirs, result, named = BROKEN[name]
    assert named in (disagreement(base, ours, theirs, result) or "")
    assert named in (disagreement(base, theirs, ours, result) or "")
    assert disagreement(base, result, theirs, result) is None


@pytest.mark.parametrize("name", SOUND)
def test_what_may_be_right_is_let_through(name: str) -> None:
    assert disagreement(*SOUND[name]) is None


JOBS = "jobs:\n  one:\n    steps: []\n  two:\n    needs: {}\n    steps: []\n"


def test_a_job_that_is_needed_and_gone_is_a_conflict() -> None:
    renamed = JOBS.format("uno").replace("one:", "uno:")
    more = JOBS.format("one") + "  three:\n    needs: [one, two]\n"
    assert merge_file(JOBS.format("one").encode(), renamed.encode(), more.encode(), "ci.yml").conflicts
    more = more.replace("one, two", "two")
    assert not merge_file(JOBS.format("one").encode(), renamed.encode(), more.encode(), "ci.yml").conflicts


def test_a_package_that_both_ask_for_at_different_places_is_a_conflict_unless_its_markers_differ() -> None:
    base = "a\nb\nc\nd\n"
    for mine, new, found in (
        ("Pill_ow==1", "pill.ow>=2", True),
        ("pillow; os == 'nt'", "pillow; os == 'posix'", False),
        ("pillow", "pill", False),
    ):
        ours, theirs = base.replace("b\n", f"{mine}\nb\n"), base + f"{new}\n"
        merged = merge_file(base.encode(), ours.encode(), theirs.encode(), "requirements.txt")
        assert bool(merged.conflicts) == found, mine
