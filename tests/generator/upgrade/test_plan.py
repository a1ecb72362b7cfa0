"""Planning: the change of each file, from three trees in memory."""

from pathlib import Path

import pytest

from paccel.catalog.changelog import changes_between, newest
from paccel.catalog.metadata import Change
from paccel.files.tree import File, Tree
from paccel.project.snapshot import Obstacle, Snapshot, take_snapshot
from paccel.upgrade.change import FileChange
from paccel.upgrade.moves import template_moves
from paccel.upgrade.plan import UpgradeOptions, plan_files

LONG = File(b"".join(b"line_%d = 0\n" % i for i in range(12)))
EDITED = File(LONG.content.replace(b"line_3 = 0", b"line_3 = 3"))
CHANGED = File(LONG.content.replace(b"line_9 = 0", b"line_9 = 9"))
BOTH = File(EDITED.content.replace(b"line_9 = 0", b"line_9 = 9"))
OTHER = File(b"nothing\nlike\nit\nat all\n")


def plan(base: Tree, ours: Tree, theirs: Tree, **context: object) -> dict[str, FileChange]:
    known = {*base, *theirs}
    files = {path: file for path, file in ours.items() if path in known}
    strays = {path: file for path, file in ours.items() if path not in known}
    found = plan_files(base, Snapshot(files, {}, strays), theirs, UpgradeOptions(**context))  # type: ignore[arg-type]
    return {change.path: change for change in found.changes}


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "status", "after"),
    [
        (LONG, LONG, CHANGED, "updated", CHANGED),
        (LONG, EDITED, CHANGED, "merged", BOTH),
        (LONG, None, CHANGED, "kept", None),
        (LONG, LONG, None, "deleted", None),
        (LONG, EDITED, None, "conflict", EDITED),
        (None, None, CHANGED, "added", CHANGED),
        (None, CHANGED, CHANGED, "kept", CHANGED),
        (LONG, CHANGED, CHANGED, "kept", CHANGED),
        (LONG, EDITED, LONG, None, None),
        (LONG, None, LONG, None, None),
        (LONG, None, None, None, None),
        (LONG, LONG, File(LONG.content, True), "updated", File(LONG.content, True)),
        (LONG, File(LONG.content, True), CHANGED, "merged", File(CHANGED.content, True)),
    ],
)
def test_each_way_in_which_the_sides_differ_has_its_outcome(
    base: File | None, ours: File | None, theirs: File | None, status: str | None, after: File | None
) -> None:
    trees = [{} if file is None else {"a.py": file} for file in (base, ours, theirs)]
    change = plan(*trees).get("a.py")
    assert (change.status if change else None) == status
    if change is not None:
        assert change.after == after


def test_an_edited_file_moves_with_the_template() -> None:
    change = plan({"old.py": LONG}, {"old.py": EDITED}, {"new.py": CHANGED})["new.py"]
    assert (change.status, change.moved_from, change.after) == ("moved", "old.py", BOTH)


def test_a_move_into_a_place_that_the_user_has_taken_is_a_conflict() -> None:
    change = plan({"old.py": LONG}, {"old.py": EDITED, "new.py": OTHER}, {"new.py": LONG})["new.py"]
    assert (change.status, change.after, change.incoming) == ("conflict", OTHER, LONG)


def test_a_move_that_the_user_has_made_already_is_followed() -> None:
    change = plan({"old.py": LONG}, {"new.py": EDITED}, {"new.py": CHANGED})["new.py"]
    assert (change.status, change.after, change.moved_from) == ("merged", BOTH, None)


def test_the_users_name_wins_where_both_renamed() -> None:
    changes = plan({"old.py": LONG}, {"mine.py": EDITED}, {"new.py": CHANGED})
    assert set(changes) == {"mine.py"}
    assert changes["mine.py"].after == BOTH


def test_a_similar_file_is_not_a_renamed_one_while_the_original_is_there() -> None:
    changes = plan({"a.py": LONG}, {"a.py": LONG, "copy.py": EDITED}, {"a.py": CHANGED})
    assert set(changes) == {"a.py"}


def test_declared_moves_are_followed_over_several_versions() -> None:
    moves = template_moves({"a.py": LONG}, {"c.py": OTHER}, [("a.py", "b.py"), ("b.py", "c.py"), ("x.py", "x.py")])
    assert moves == {"a.py": "c.py"}


def test_files_of_few_lines_are_no_moves_unless_equal() -> None:
    tiny, other = File(b"import os\n"), File(b"import os\nx = 1\n")
    assert template_moves({"a.py": tiny}, {"b.py": other}, []) == {}
    assert template_moves({"a.py": tiny}, {"b.py": tiny}, []) == {"a.py": "b.py"}
    assert template_moves({"a.py": File(b"")}, {"b.py": File(b"")}, []) == {}


@pytest.mark.parametrize("kind", ["link", "folder", "special"])
def test_what_is_no_file_stays_and_the_templates_version_lies_beside(kind: str) -> None:
    obstacle = Obstacle(kind, "a.py", ("a.py/mine",) if kind == "folder" else ())  # type: ignore[arg-type]
    found = plan_files({"a.py": LONG}, Snapshot({}, {"a.py": obstacle}), {"a.py": CHANGED}, UpgradeOptions())
    (change,) = found.changes
    assert (change.status, change.after, change.incoming) == ("conflict", None, CHANGED)
    assert plan_files({"a.py": LONG}, Snapshot({}, {"a.py": obstacle}), {"a.py": LONG}, UpgradeOptions()).changes == ()


def test_skipped_and_postponed_files_keep_their_place_in_the_baseline() -> None:
    base, theirs = {"a.py": LONG, "b.py": LONG}, {"a.py": CHANGED, "b.py": CHANGED}
    skipping = plan_files(base, Snapshot(base), theirs, UpgradeOptions(skipped=("a.py",)))
    assert skipping.baseline == {"a.py": LONG, "b.py": CHANGED}
    assert [(change.path, change.status) for change in skipping.changes] == [("a.py", "kept"), ("b.py", "updated")]
    postponing = plan_files(base, Snapshot(base), theirs, UpgradeOptions(only=("b.py",)))
    assert postponing.baseline == {"a.py": LONG, "b.py": CHANGED}
    assert [change.path for change in postponing.changes] == ["b.py"]


def test_a_snapshot_tells_links_folders_and_files_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "real.py").write_text("x = 1\n")
    (tmp_path / "link.py").symlink_to("real.py")
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "folder.py" / "inside").write_text("")
    (tmp_path / "outside").symlink_to("/etc")
    wanted = ["real.py", "link.py", "folder.py", "outside/passwd", "real.py/below", "missing.py"]
    found = take_snapshot(tmp_path, wanted, {})
    assert set(found.files) == {"real.py"}
    assert {path: (it.kind, it.at) for path, it in found.obstacles.items()} == {
        "link.py": ("link", "link.py"),
        "folder.py": ("folder", "folder.py"),
        "outside/passwd": ("link", "outside"),
        "real.py/below": ("file", "real.py"),
    }


def test_changelog_lines_are_those_of_later_versions() -> None:
    changes = [
        Change("0.9", "long ago"),
        Change("0.10.0", "one", ("a.py",)),
        Change("1.0rc1", "two"),
        Change("1.0", "three"),
    ]
    assert changes_between(changes, "0.10.0") == {"": ("1.0rc1: two", "1.0: three")}
    assert changes_between(changes[:3], "0.9.0") == {"a.py": ("0.10.0: one",), "": ("1.0rc1: two",)}
    assert changes_between(changes, "0.10") == changes_between(changes, "0.10.0")
    assert changes_between(changes, "1.0") == {}
    assert (newest(changes), newest([])) == ("1.0", "")


def test_an_edited_file_that_the_template_deleted_stays_though_its_base_is_lost() -> None:
    found = plan_files({}, Snapshot({"a.py": EDITED}), {}, UpgradeOptions(unknown=frozenset({"a.py"}))).changes
    assert [(some.path, some.status, some.after) for some in found] == [("a.py", "conflict", EDITED)]


def test_a_file_whose_base_is_lost_and_that_equals_the_templates_is_no_conflict() -> None:
    assert not plan({}, {"a.py": EDITED}, {"a.py": EDITED}, unknown=frozenset({"a.py"}))


def test_a_skipped_file_is_named_only_where_the_template_changed_it() -> None:
    assert not plan({"a.py": LONG}, {"a.py": EDITED}, {"a.py": LONG}, skipped=("a.py",))


def test_a_file_that_the_user_renamed_and_the_template_deleted_is_the_users() -> None:
    change = plan({"a.py": LONG}, {"mine.py": LONG}, {})["mine.py"]
    assert (change.status, change.after) == ("kept", LONG)


def test_a_move_without_a_change_moves() -> None:
    change = plan({"old.py": LONG}, {"old.py": EDITED}, {"new.py": LONG})["new.py"]
    assert (change.status, change.moved_from, change.after) == ("moved", "old.py", EDITED)


def test_a_binary_that_both_changed_lies_beside() -> None:
    files = [{"a.bin": File(b"\0" + word)} for word in (b"old", b"mine", b"new")]
    change = plan(*files)["a.bin"]
    assert (change.after, change.incoming) == (files[1]["a.bin"], files[2]["a.bin"])


def test_a_file_where_the_template_has_a_folder_stays() -> None:
    ours = Snapshot({}, {"lib/a.py": Obstacle("file", "lib")})
    (change,) = plan_files({}, ours, {"lib/a.py": LONG}, UpgradeOptions()).changes
    assert (change.status, change.after, change.incoming) == ("conflict", None, LONG)


def test_a_chosen_folder_is_no_beginning_of_a_name() -> None:
    base, theirs = ({"lib/a.py": file, "library.py": file} for file in (LONG, CHANGED))
    assert set(plan(base, base, theirs, only=("lib",))) == {"lib/a.py"}


def test_a_file_of_another_kind_is_no_moved_one() -> None:
    assert template_moves({"a.py": LONG}, {"a.md": LONG}, []) == {}


def test_a_file_that_the_user_moved_as_the_template_did_is_looked_for_nowhere_else() -> None:
    ours = {"new.py": EDITED, "mine.py": LONG}
    changes = plan({"old.py": LONG, "other.py": EDITED}, ours, {"new.py": LONG, "other.py": BOTH})
    assert changes["mine.py"].status == "merged"
    assert "you renamed `other.py`" in changes["mine.py"].reason
