"""What holds for every upgrade, whatever the trees and edits: nothing is lost, nothing happens twice, all can be undone.

`PACCEL_EXAMPLES=2000 pytest tests/generator/test_upgrade_properties.py` looks longer.
"""

import os
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from paccel.catalog.metadata import TemplateRef
from paccel.files.tree import File, Tree, read_tree, write_tree
from paccel.merge.file import merge_file
from paccel.merge.languages import parse_python
from paccel.project.snapshot import Snapshot, take_snapshot
from paccel.project.state import Manifest, read_state, state_bytes, write_state
from paccel.upgrade import apply
from paccel.upgrade.change import INCOMING_DIR, FileChange
from paccel.upgrade.plan import FilePlan, UpgradeOptions, plan_files

pytestmark = pytest.mark.slow

REF = TemplateRef("demo", "demo", "0" * 64)
EXAMPLES = int(os.environ.get("PACCEL_EXAMPLES", "60"))
QUICK = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))

SNIPPETS = [
    "import os\n",
    "import json\n",
    "from math import pi\n",
    "from math import tau\n",
    "x = 1\n",
    "x = 2\n",
    "total = x + 3\n",
    "class Config:\n    a: int = 1\n    b: int = 2\n",
    "class Config:\n    a: int = 1\n    c: int = 3\n    b: int = 2\n",
    "def f():\n    return 1\n",
    "def f():\n    y = 5\n    return y\n",
    "def g(z):\n    for i in range(z):\n        print(i)\n",
    "def g(z):\n    for i in range(z):\n        if i:\n            print(i)\n        print(z)\n",
    "if x:\n    print(x)\n",
    "# a comment\n",
    "\n",
]
PYTHON = st.lists(st.sampled_from(SNIPPETS), max_size=8).map("".join)
TEXT = st.lists(st.sampled_from(["a", "b", "c", "", "  a", "d e", "=======", "# f"]), max_size=10).map("\n".join)
EOLS = st.sampled_from(["\n", "\r\n"])
PATHS = ["train.py", "notes.txt", "lib/model.py", ".gitignore", "requirements.txt", "config.yaml"]


def lines_of(content: bytes) -> Counter[bytes]:
    """Lines with a word in them, without white space; no imports."""
    found = (b"".join(line.split()) for line in content.split(b"\n"))
    bare = (line for line in found if any(byte > 47 and byte != 61 for byte in line))
    return Counter(line for line in bare if not line.startswith((b"import", b"from")))


@QUICK
@given(PYTHON, PYTHON, PYTHON)
@example(  # a class that seems to follow the loop out of its `if` would lose its body's indentation
    "def g(z):\n    for i in range(z):\n        if i:\n            print(i)\n        print(z)\n",
    "x = 1\ndef g(z):\n    for i in range(z):\n        if i:\n            print(i)\n        print(z)\n"
    "class Config:\n    a: int = 1\n    b: int = 2\n",
    "def g(z):\n    for i in range(z):\n        print(i)\nx = 1\n",
)
def test_every_added_line_of_python_is_in_the_result_or_in_a_conflict(base: str, ours: str, theirs: str) -> None:
    result = merge_file(base.encode(), ours.encode(), theirs.encode(), "train.py")
    there = lines_of(result.content)
    for side in (ours, theirs):
        assert not (lines_of(side.encode()) - lines_of(base.encode())).keys() - there.keys()
    if not result.conflicts and parse_python(ours) and parse_python(theirs):
        assert parse_python(result.content.decode()) is not None


@QUICK
@given(TEXT, TEXT, TEXT, EOLS, st.sampled_from(PATHS))
def test_every_added_line_of_text_is_in_the_result_or_in_a_conflict(
    base: str, ours: str, theirs: str, eol: str, path: str
) -> None:
    mine = ours.replace("\n", eol)
    result = merge_file(base.encode(), mine.encode(), theirs.encode(), path)
    for side in (ours, theirs):
        assert not (lines_of(side.encode()) - lines_of(base.encode())).keys() - lines_of(result.content).keys()


@QUICK
@given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=60), st.sampled_from(PATHS))
def test_any_bytes_merge_without_an_error_and_unchanged_sides_win(
    base: bytes, ours: bytes, theirs: bytes, path: str
) -> None:
    merge_file(base, ours, theirs, path)
    merge_file(None, ours, theirs, path)
    assert merge_file(base, base, theirs, path).content == theirs
    assert merge_file(base, ours, base, path).content == ours
    assert merge_file(base, ours, ours, path).content == ours


FILES = st.builds(File, st.one_of(PYTHON, TEXT).map(str.encode) | st.just(b"\0binary"), st.booleans())
TREES = st.dictionaries(st.sampled_from(PATHS), FILES, max_size=len(PATHS))


def planned(base: Tree, ours: Tree, theirs: Tree) -> FilePlan:
    known = {*base, *theirs}
    inside = {path: file for path, file in ours.items() if path in known}
    strays = {path: file for path, file in ours.items() if path not in known} if set(base) - set(ours) else {}
    return plan_files(base, Snapshot(inside, {}, strays), theirs, UpgradeOptions())


def applied(ours: Tree, changes: tuple[FileChange, ...]) -> dict[str, File]:
    result = dict(ours)
    for change in changes:
        if change.moved_from is not None:
            del result[change.moved_from]
        if change.after is not None:
            result[change.path] = change.after
        elif change.status == "deleted":
            del result[change.path]
    return result


@QUICK
@given(TREES, TREES, TREES)
def test_nothing_that_the_user_wrote_is_lost(base: Tree, ours: Tree, theirs: Tree) -> None:
    plan = planned(base, ours, theirs)
    after = applied(ours, plan.changes)
    there = sum((lines_of(file.content) for file in after.values()), Counter[bytes]())
    for path, file in ours.items():
        # A file under a new name may be one of the template's, renamed: its lines are the template's then.
        origins = [path] if path in base else [old for old in base if old not in ours]
        before = sum((lines_of(base[old].content) for old in origins), Counter[bytes]())
        assert not (lines_of(file.content) - before).keys() - there.keys()


@QUICK
@given(TREES, TREES, TREES)
def test_what_the_user_deleted_stays_deleted(base: Tree, ours: Tree, theirs: Tree) -> None:
    after = applied(ours, planned(base, ours, theirs).changes)
    assert not {path for path in base if path not in ours and path in theirs} & set(after)


@QUICK
@given(TREES, TREES)
def test_an_unedited_project_becomes_the_new_render(base: Tree, theirs: Tree) -> None:
    plan = planned(base, base, theirs)
    assert applied(base, plan.changes) == dict(theirs)
    assert not [change for change in plan.changes if change.status == "conflict"]


@QUICK
@given(TREES, TREES, TREES)
def test_upgrading_twice_changes_nothing(base: Tree, ours: Tree, theirs: Tree) -> None:
    first = planned(base, ours, theirs)
    again = planned(first.baseline, applied(ours, first.changes), theirs)
    assert not [change for change in again.changes if change.writes or change.status == "conflict"]


@settings(max_examples=max(25, EXAMPLES // 4), deadline=None, suppress_health_check=list(HealthCheck))
@given(TREES, TREES, TREES)
def test_upgrade_and_then_undo_is_the_identity(base: Tree, ours: Tree, theirs: Tree) -> None:
    with TemporaryDirectory() as folder:
        root = Path(folder)
        write_tree(root, ours)
        write_state(root, Manifest.of(REF, {}, base), base)
        before = everything(root)
        plan = plan_files(base, take_snapshot(root, {*base, *theirs}, base), theirs, UpgradeOptions())
        apply.start(root, plan.changes, state_bytes(Manifest.of(REF, {}, theirs), theirs), ())
        if any(change.status == "conflict" for change in plan.changes):
            apply.abort(root)
        else:
            assert read_tree(root) == applied(ours, plan.changes)
            assert read_state(root)[1] == dict(theirs)
            apply.undo(root)
        assert everything(root) == before


def everything(root: Path) -> dict[str, tuple[bytes, int]]:
    paths = [path for path in root.rglob("*") if path.is_file() and INCOMING_DIR not in path.as_posix()]
    return {str(path.relative_to(root)): (path.read_bytes(), path.stat().st_mode) for path in paths}


@QUICK
@given(st.permutations(range(0, 60, 4)), st.integers(0, 5), st.integers(0, 5), st.integers(0, 5))
def test_two_upgrades_in_a_row_equal_one_over_both(places: list[int], first: int, second: int, mine: int) -> None:
    unique = [f"line {i}\n" for i in range(60)]

    def edit(lines: list[str], where: list[int], mark: str) -> list[str]:
        return [f"{mark} {line}" if i in where else line for i, line in enumerate(lines)]

    step_1, step_2, own = places[:first], places[first : first + second], places[first + second :][:mine]
    one = edit(unique, step_1, "first")
    versions = ["".join(lines).encode() for lines in (unique, one, edit(one, step_2, "second"))]
    ours = "".join(edit(unique, own, "mine")).encode()
    stepwise = merge_file(versions[0], ours, versions[1], "notes.txt").content
    stepwise = merge_file(versions[1], stepwise, versions[2], "notes.txt").content
    assert stepwise == merge_file(versions[0], ours, versions[2], "notes.txt").content
