"""Guards of an upgrade that nothing else trips over: each is here because removing it was seen to go unnoticed."""

import json
from pathlib import Path

import pytest

from paccel import apply, archive, baseline, merge, refine, reindent, unions, units
from paccel.adopt import adopt
from paccel.baseline import MANIFEST_PATH, Manifest, TemplateRef, read_manifest, state_bytes, write_state
from paccel.errors import PreconditionError, TemplateError
from paccel.gate import Piece, Sides, keeps_every_edit
from paccel.journal import UPGRADE_DIR, read_journal
from paccel.merge import merge_file
from paccel.moves import template_moves
from paccel.plan import Context, FileChange, plan_files
from paccel.snapshot import Obstacle, Snapshot, take_snapshot
from paccel.tree import File, Tree, write_tree

OLD, NEW = {"a.txt": File(b"old\n")}, {"a.txt": File(b"new\n")}
REF = TemplateRef("demo", "demo", "0" * 64)


def project(root: Path) -> Path:
    write_tree(root, OLD)
    write_state(root, Manifest.of(REF, {}, OLD), OLD)
    return root


def start(root: Path, meanwhile: bytes = b"old\n", ours: bytes = b"old\n") -> None:
    (root / "a.txt").write_bytes(ours)
    changes = plan_files(OLD, take_snapshot(root, OLD, OLD), NEW, Context()).changes
    (root / "a.txt").write_bytes(meanwhile if meanwhile != b"old\n" else ours)
    apply.start(root, changes, state_bytes(Manifest.of(REF, {}, NEW), NEW), ("yours", "old", "new"), ())


def test_a_file_edited_between_plan_and_upgrade_is_not_overwritten(tmp_path: Path) -> None:
    root = project(tmp_path)
    with pytest.raises(PreconditionError, match="changed while"):
        start(root, meanwhile=b"saved just now\n")
    assert (root / "a.txt").read_bytes() == b"saved just now\n"
    assert read_journal(root) is None


def test_a_journal_whose_state_is_not_the_state_is_refused(tmp_path: Path) -> None:
    root = project(tmp_path)
    start(root, ours=b"mine\n")
    journal = root / UPGRADE_DIR / "journal.json"
    journal.write_text(journal.read_text().replace(f'"path": "{MANIFEST_PATH}"', '"path": "a.txt"'))
    with pytest.raises(PreconditionError, match="damaged"):
        read_journal(root)


def test_a_journal_behind_a_link_is_refused(tmp_path: Path) -> None:
    root, other = project(tmp_path / "root"), project(tmp_path / "other")
    start(other, ours=b"mine\n")
    (root / UPGRADE_DIR).symlink_to(other / UPGRADE_DIR)
    with pytest.raises(PreconditionError, match="symbolic link"):
        read_journal(root)


def test_a_project_with_an_upgrade_under_way_is_not_adopted(tmp_path: Path) -> None:
    root = project(tmp_path)
    start(root, ours=b"mine\n")
    with pytest.raises(PreconditionError, match="under way"):
        adopt(root)


def test_a_huge_manifest_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = project(tmp_path)
    monkeypatch.setattr(baseline, "MAX_MANIFEST_BYTES", 10)
    with pytest.raises(PreconditionError, match="larger than"):
        read_manifest(root)


def test_an_archive_of_too_many_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = (project(tmp_path) / baseline.BASELINE_PATH).read_bytes()
    monkeypatch.setattr(archive, "MAX_FILES", 0)
    with pytest.raises(TemplateError, match="more than"):
        archive.read_zip(content, "it")


def test_a_file_that_is_skipped_and_restored_is_upgraded() -> None:
    found = plan_files(OLD, Snapshot(OLD), NEW, Context(skipped=("a.txt",), restore=("a.txt",)))
    assert [(change.path, change.status) for change in found.changes] == [("a.txt", "updated")]
    assert found.baseline == NEW


LONG = File(b"".join(b"line_%d = 0\n" % i for i in range(12)))
MINE = File(LONG.content.replace(b"line_3 = 0", b"line_3 = 3"))
CHANGED = File(LONG.content.replace(b"line_9 = 0", b"line_9 = 9"))
LINK = Obstacle("link", "a.py")


def only_change(base: Tree, ours: Snapshot, theirs: Tree, **context: object) -> FileChange:
    (change,) = plan_files(base, ours, theirs, Context(**context)).changes  # type: ignore[arg-type]
    return change


def test_a_link_is_no_missing_file_whose_like_is_looked_for() -> None:
    change = only_change({"a.py": LONG}, Snapshot({}, {"a.py": LINK}, {"like.py": MINE}), {"a.py": CHANGED})
    assert (change.path, change.status, change.incoming) == ("a.py", "conflict", CHANGED)


def test_a_link_where_the_template_moves_a_file_stays() -> None:
    change = only_change({"old.py": LONG}, Snapshot({"old.py": MINE}, {"a.py": LINK}), {"a.py": CHANGED})
    assert (change.path, change.status, change.moved_from, change.incoming) == ("a.py", "conflict", None, CHANGED)


def test_a_file_that_both_added_stays_as_executable_as_the_user_has_it() -> None:
    change = only_change({}, Snapshot({"a.py": MINE}), {"a.py": File(CHANGED.content, True)})
    assert change.status == "conflict"
    assert change.after is not None
    assert not change.after.executable
    same = only_change({}, Snapshot({"a.py": MINE}), {"a.py": File(MINE.content, True)})
    assert same.after == File(MINE.content, True)


def test_a_file_whose_base_is_lost_and_that_the_user_deleted_stays_deleted() -> None:
    change = only_change({}, Snapshot({}), {"a.py": CHANGED}, unknown=frozenset({"a.py"}))
    assert (change.status, change.after) == ("kept", None)


def test_a_folder_with_an_edited_file_gives_no_place_to_a_file() -> None:
    folder = Obstacle("folder", "a.py", ("a.py/x.py",))
    base = {"a.py/x.py": LONG}
    for ours, status in ((LONG, "added"), (MINE, "conflict")):
        found = plan_files(base, Snapshot({"a.py/x.py": ours}, {"a.py": folder}), {"a.py": File(b"new\n")}, Context())
        assert {change.path: change.status for change in found.changes}["a.py"] == status


def alike(share: int, of: int = 20) -> File:
    """A file that has `share` of its `of` lines from one text, and the others from nowhere."""
    return File(b"".join(b"line %d\n" % i if i < share else b"other %d %d\n" % (share, i) for i in range(of)))


def test_a_file_of_the_same_name_may_differ_more_and_still_be_the_moved_one() -> None:
    assert template_moves({"a.py": alike(20)}, {"lib/a.py": alike(9)}, []) == {"a.py": "lib/a.py"}
    assert template_moves({"a.py": alike(20)}, {"lib/b.py": alike(9)}, []) == {}
    assert template_moves({"a.py": alike(20)}, {"lib/a.py": alike(7)}, []) == {}


def test_the_most_alike_are_paired_first_and_no_place_is_taken_twice() -> None:
    base, theirs = {"a.py": alike(20), "b.py": alike(17)}, {"c.py": alike(16), "d.py": alike(12)}
    moves = template_moves(base, theirs, [])
    assert sorted(moves.values()) == ["c.py", "d.py"]
    assert template_moves({"a.py": alike(20)}, theirs, []) == {"a.py": "c.py"}
    assert template_moves({"z.py": alike(20), "y.py": alike(12)}, {"c.py": alike(20)}, []) == {"z.py": "c.py"}


def test_a_binary_is_no_moved_one_unless_it_is_equal() -> None:
    one, other = (File(b"\0" + alike(share).content) for share in (20, 19))
    assert template_moves({"a.bin": one}, {"b.bin": other}, []) == {}
    assert template_moves({"a.bin": one}, {"b.bin": one}, []) == {"a.bin": "b.bin"}


def test_a_text_that_became_binary_is_kept_and_the_templates_lies_beside() -> None:
    result = merge_file(b"a\n", b"\0mine", b"b\n", "notes.txt")
    assert (result.content, result.conflicts, result.incoming) == (b"\0mine", 1, b"b\n")


SIDES = Sides("text", ("a", "b", "c"), ("a", "mine", "b", "c"), ("a", "b"))


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        (("a", "mine", "b"), True),
        (("a", "b"), False),  # what the user added is lost
        (("a", "mine", "b", "c"), False),  # what the template removed is back
        (("a", "mine", "mine", "b"), False),
        (("mine", "b"), False),
    ],
)
def test_the_gate_counts_every_line(lines: tuple[str, ...], kept: bool) -> None:
    assert keeps_every_edit(SIDES, [Piece(lines)]) == kept


def test_the_gate_counts_lines_in_conflicts_for_both_sides() -> None:
    sides = Sides("text", ("a", "b"), ("a", "mine"), ("a", "theirs", "more"))
    assert keeps_every_edit(sides, [Piece(("a",)), Piece(("mine",), ("b",), ("theirs", "more"))])
    assert not keeps_every_edit(sides, [Piece(("a",)), Piece(("mine",), ("b",), ("theirs", "more", "a"))][:1])


def test_the_gate_compares_imports_as_names() -> None:
    sides = Sides("python", ("import a",), ("import a", "import b"), ("import a", "import c"))
    assert keeps_every_edit(sides, [Piece(("import a, b, c",))])
    assert not keeps_every_edit(sides, [Piece(("import a, b",))])
    assert not keeps_every_edit(sides, [Piece(("import a, b, c, d",))])


def test_the_manifest_that_is_written_is_json(tmp_path: Path) -> None:
    assert json.loads((project(tmp_path) / MANIFEST_PATH).read_text())["template"]["name"] == "demo"


# --- what a merge may do beyond lines --------------------------------------------------------------------------------


def merged(base: str, ours: str, theirs: str, path: str = "train.py") -> str | None:
    result = merge_file(base.encode(), ours.encode(), theirs.encode(), path)
    return None if result.conflicts else result.content.decode()


STEP = "import a\n\na.start()\na.step()\na.stop()\n"
IN_WITH = "import a\n\na.start()\nwith a.timer():\n    a.step()\na.stop()\n"
IMPORTS = ("import a\n\nx = 1\n", "import a\nimport b\n\nx = 1\n", "import a\nimport c\n\nx = 1\n")


def test_a_file_that_is_very_long_is_merged_by_lines_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert merged(*IMPORTS) == "import a\nimport b\nimport c\n\nx = 1\n"
    monkeypatch.setattr(merge, "MAX_REFINED_LINES", 3)
    assert merged(*IMPORTS) is None


def test_a_merge_of_very_many_conflicts_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refine, "MAX_HUNKS", 0)
    assert merged(*IMPORTS) is None


def test_indentation_is_not_followed_in_a_file_that_does_not_parse() -> None:
    change = ("a.step()", "a.step(1)")
    assert merged(STEP, IN_WITH, STEP.replace(*change)) == IN_WITH.replace(*change)
    assert merged(STEP, IN_WITH + "x = (\n", STEP.replace(*change)) is None


def test_a_variant_that_lost_a_line_is_not_let_through(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = reindent.reindented

    def lossy(sides: Sides) -> Sides | None:
        found = followed(sides)
        return found and found._replace(ours=tuple(line for line in found.ours if "mine" not in line))

    ours, theirs = IN_WITH.replace("a.start()\n", "a.start()\na.mine()\n"), STEP.replace("a.step()", "a.step(1)")
    assert merged(STEP, ours, theirs) == ours.replace("a.step()", "a.step(1)")
    monkeypatch.setattr(reindent, "reindented", lossy)
    result = merge_file(STEP.encode(), ours.encode(), theirs.encode(), "train.py")
    assert b"a.mine()" in result.content
    assert result.conflicts


def test_a_rule_that_loses_a_line_is_not_followed_and_what_is_sound_beside_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sides = Sides("python", ("a = 1", "b = 1", "c = 1"), ("a = 2", "b = 1", "c = 2"), ("a = 1", "b = 3", "c = 3"))
    conflict = Piece(("b = 1", "c = 2"), ("b = 1", "c = 1"), ("b = 3", "c = 3"))
    wanted = [Piece(("a = 2",)), conflict]
    assert refine.refine(sides) == wanted
    monkeypatch.setattr(refine, "_by_rules", lambda hunk: iter([[]]))
    assert refine.refine(sides) == wanted


def test_a_conflict_shows_the_templates_lines_as_they_are() -> None:
    result = merge_file(b"if (a):\n    b()\n", b"if a_2:\n    b()\n", b"if (a_3):\n    b()\n", "train.py")
    assert result.conflicts == 1
    assert b"\nif (a_3):\n" in result.content


def test_a_line_at_the_edge_of_a_block_that_was_moved_is_a_conflict() -> None:
    base = "a = 1\nb = 2\nc = 3\n"
    assert merged(base, "a = 1\nif a:\n    b = 2\nc = 3\n", base.replace("b = 2\n", "b = 2\nb2 = b\n")) is None


def test_two_rewritten_functions_are_a_conflict_whatever_they_are_called() -> None:
    old = "def old():\n    return 0\n"
    assert merged(old, "def mine():\n    return 1\n", "def new():\n    return 2\n") is None


def test_two_functions_of_one_name_with_their_lines_in_another_order_are_a_conflict() -> None:
    one, other = "def f():\n    a()\n    b()\n", "def f():\n    b()\n    a()\n"
    assert merged("x = 1\n", "x = 1\n\n\n" + one, "x = 1\n\n\n" + other) is None


def test_a_block_that_holds_a_long_string_is_not_reindented() -> None:
    text = 'a()\nb = """\none\n"""\nc()\nd()\n'
    ours = 'a()\nif b:\n    b = """\none\n"""\n    c()\nd()\n'
    assert merged(text, ours, text.replace("c()", "c(1)")) is None


def test_a_line_that_would_stand_as_well_in_a_block_as_below_it_is_a_conflict() -> None:
    base = "a()\nb()\nc()\nd()\n"
    ours = "a()\nif x:\n    b()\n    c()\nd()\n"
    assert merged(base, ours, base.replace("c()\n", "c(1)\n")) == ours.replace("c()", "c(1)")
    assert merged(base, ours, base.replace("c()\n", "c()\nnew()\n")) is None


F, G, H = ("def f():\n    return 1\n", "def g():\n    return 2\n", "def h():\n    return 3\n")
ADDED = "def new():\n    return 4\n"


def module(*parts: str) -> str:
    return "\n\n".join(parts)


def test_a_new_function_follows_the_one_that_it_followed_wherever_the_user_put_that() -> None:
    ours = module(H, F, G.replace("2", "5"))
    assert merged(module(F, G, H), ours, module(F, ADDED, G, H)) == module(H, F, ADDED, G.replace("2", "5"))


def test_statements_that_stand_twice_are_not_put_in_order() -> None:
    base, theirs = module(F, G, H, "f()\n", "f()\n"), module(F, G, H, "f()\n", "f()\n", "f()\n")
    sides = [tuple(text.split("\n")) for text in (base, module(H, F, G, "f()\n", "f()\n"), theirs)]
    assert units.reordered(Sides("python", *sides)) is None


def test_two_imports_of_one_name_are_a_conflict_in_a_file_that_does_not_parse_too() -> None:
    base = "import os\n\nx = (\n"
    assert (
        merged(base, base.replace("os\n", "os\nimport a as n\n"), base.replace("os\n", "os\nimport b as n\n")) is None
    )


def test_an_import_that_the_template_wrote_anew_is_taken_beside_names_of_both() -> None:
    base = "from a import x\nimport b\n\nx(b)\n"
    ours, theirs = (base.replace("import x\n", f"import x, {name}\n") for name in "yz")
    result = merged(base, ours, theirs.replace("import b\n", "import b  # pinned\n"))
    assert result == base.replace("import x\nimport b\n", "import x, y, z\nimport b  # pinned\n")


def test_one_requirement_in_two_spellings_is_one() -> None:
    base = "torch>=2\n"
    assert merged(base, base + "PyYAML_Tools>=6\n", base + "pyyaml-tools>=7\n", "requirements.txt") is None


def test_a_requirement_that_stands_twice_is_no_set() -> None:
    twice = ["a>=1", "a<2"]
    assert unions.union_items(twice, [*twice, "b"], [*twice, "c"], quoted=False, ordered=False) is None


def test_an_import_in_a_text_is_no_second_import() -> None:
    base = 'import a\nimport m\nimport z\n\nTEXT = """\nimport b\n"""\n'
    ours, theirs = (base.replace(f"import {at}\n", f"import {at}\nimport b\n") for at in "am")
    assert merged(base, ours, theirs) == ours


def test_insertions_are_told_apart_by_their_names_and_by_the_lines_above_both() -> None:
    a, b = ("def a():", "    pass"), ("def b():", "    pass")

    def both(ours: tuple[str, ...], theirs: tuple[str, ...], before: tuple[str, ...] = ()) -> list[str] | None:
        return refine._insert_both(refine.Hunk("python", (), ours, theirs, before, True, 88))

    assert both(a, b) == [*a, "", "", *b]
    assert both(a, (*b, *b)) is None
    assert both((*a, "@d"), (*b, "@d"), ("@d",)) == [*a, "", "", "@d", *b, "@d"]
    assert both((*a, "@d"), (*b, "x = ("), ("@d",)) is None
