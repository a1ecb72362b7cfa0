"""Guards of an upgrade that no other test needs; without these tests, removing one would go unnoticed."""

import io
import json
import os
import zipfile
from pathlib import Path

import pytest

from paccel.catalog.metadata import TemplateRef
from paccel.errors import PreconditionError, TemplateError
from paccel.files import archive, disk
from paccel.files.tree import STATE_DIR, File, Tree, write_tree
from paccel.health.adopt import adopt
from paccel.merge.file import merge_file
from paccel.merge.gate import keeps_every_edit, problem
from paccel.merge.pieces import Piece, Sides
from paccel.project import state as baseline
from paccel.project.snapshot import Obstacle, Snapshot, take_snapshot
from paccel.project.state import MANIFEST_PATH, Manifest, read_manifest, state_bytes, write_state
from paccel.upgrade import apply
from paccel.upgrade import journal as journal_module
from paccel.upgrade.change import FileChange, Summary
from paccel.upgrade.journal import STAGING_DIR, UNDO_DIR, UPGRADE_DIR, Journal, read_journal
from paccel.upgrade.moves import template_moves
from paccel.upgrade.plan import UpgradeOptions, plan_files

OLD, NEW = {"a.txt": File(b"old\n")}, {"a.txt": File(b"new\n")}
REF = TemplateRef("demo", "demo", "0" * 64)


def project(root: Path) -> Path:
    write_tree(root, OLD)
    write_state(root, Manifest.of(REF, {}, OLD), OLD)
    return root


def start(root: Path, meanwhile: bytes = b"old\n", ours: bytes = b"old\n") -> None:
    (root / "a.txt").write_bytes(ours)
    changes = plan_files(OLD, take_snapshot(root, OLD, OLD), NEW, UpgradeOptions()).changes
    (root / "a.txt").write_bytes(meanwhile if meanwhile != b"old\n" else ours)
    apply.start(root, changes, state_bytes(Manifest.of(REF, {}, NEW), NEW), ("yours", "old", "new"))


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
    with pytest.raises(PreconditionError, match="is not finished"):
        adopt(root)


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ('"schema": 1', '"schema": 2', "schema `2`"),
        ('"phase": "resolve"', '"phase": "later"', "damaged"),
        ('"made": []', '"made": ["../outside"]', "damaged"),
        ('"made": []', '"made": ["git~1/hooks"]', "damaged"),
        ('"emptied": {}', '"emptied": {"../outside": 511}', "damaged"),
    ],
)
def test_a_journal_that_says_what_none_can_is_refused(tmp_path: Path, old: str, new: str, word: str) -> None:
    root = project(tmp_path)
    start(root, ours=b"mine\n")
    journal = root / UPGRADE_DIR / "journal.json"
    assert journal.read_text().count(old) == 1
    journal.write_text(journal.read_text().replace(old, new))
    with pytest.raises(PreconditionError, match=word):
        read_journal(root)


def test_a_huge_journal_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = project(tmp_path)
    start(root, ours=b"mine\n")
    monkeypatch.setattr(journal_module, "MAX_JOURNAL_BYTES", 10)
    with pytest.raises(PreconditionError, match="larger than"):
        read_journal(root)


@pytest.mark.parametrize("part", [STATE_DIR, f"{UPGRADE_DIR}/journal.json"])
def test_no_part_of_the_way_to_a_journal_is_a_link(tmp_path: Path, part: str) -> None:
    root = project(tmp_path / "root")
    start(root, ours=b"mine\n")
    (root / part).rename(tmp_path / "elsewhere")
    (root / part).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PreconditionError, match="symbolic link"):
        read_journal(root)


def test_a_line_that_only_looks_like_one_of_our_markers_is_the_users(tmp_path: Path) -> None:
    root = project(tmp_path)
    start(root, ours=b"mine\n")
    with pytest.raises(PreconditionError, match="still contains conflict markers"):
        apply.resume(root)
    (root / "a.txt").write_bytes(b"Git writes\n<<<<<<< HEAD\nabove your side.\n")
    apply.resume(root)
    assert read_journal(root) is None


def test_what_a_staging_left_is_removed_by_itself_and_before_the_next(tmp_path: Path) -> None:
    root = project(tmp_path)
    for clear in (True, False):
        (root / STAGING_DIR / "new").mkdir(parents=True)
        (root / STAGING_DIR / "new" / "0").write_bytes(b"half")
        if clear:
            apply.clear_leftovers(root)
            assert not (root / STAGING_DIR).exists()
    start(root)
    assert (root / "a.txt").read_bytes() == b"new\n"


def test_ctrl_c_behind_the_last_rename_leaves_what_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = project(tmp_path)
    real = disk.rename

    def rename(source: Path, target: Path) -> None:
        real(source, target)
        if target == root / UNDO_DIR:
            raise KeyboardInterrupt

    monkeypatch.setattr(disk, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        start(root)
    assert (root / "a.txt").read_bytes() == b"new\n"
    assert read_journal(root) is None


def test_what_could_be_undone_before_is_put_aside_whole_before_it_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = project(tmp_path)
    start(root)
    removed: list[Path] = []
    real = disk.remove_folder
    monkeypatch.setattr(disk, "remove_folder", lambda path: (removed.append(path), real(path)))
    apply.start(root, (), state_bytes(Manifest.of(REF, {}, NEW), NEW), ())
    assert removed
    assert root / UNDO_DIR not in removed
    assert read_journal(root, UNDO_DIR) is not None


def test_a_conflict_that_is_deleted_is_resolved(tmp_path: Path) -> None:
    root = project(tmp_path)
    start(root, ours=b"mine\n")
    (root / "a.txt").unlink()
    apply.resume(root)
    apply.undo(root)
    assert (root / "a.txt").read_bytes() == b"mine\n"


def test_git_is_told_to_pass_over_what_an_upgrade_keeps(tmp_path: Path) -> None:
    root = project(tmp_path)
    start(root)
    assert (root / UNDO_DIR / ".gitignore").read_bytes() == b"*\n"


def test_a_file_that_appears_between_plan_and_upgrade_is_not_overwritten(tmp_path: Path) -> None:
    root = project(tmp_path)
    changes = plan_files(
        OLD, take_snapshot(root, ["a.txt", "b.txt"], OLD), {**OLD, "b.txt": NEW["a.txt"]}, UpgradeOptions()
    ).changes
    (root / "b.txt").write_bytes(b"just made\n")
    with pytest.raises(PreconditionError, match="appeared while"):
        apply.start(root, changes, {}, ())
    assert (root / "b.txt").read_bytes() == b"just made\n"


def test_an_archive_that_lies_about_a_size_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("a", b"x" * 100)
    content = bytearray(buffer.getvalue())
    at = content.index(b"PK\x01\x02") + 24
    content[at : at + 4] = (200).to_bytes(4, "little")
    with pytest.raises(TemplateError, match="whose size differs"):
        archive.read_zip(bytes(content), "it")


def test_a_huge_manifest_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = project(tmp_path)
    monkeypatch.setattr(baseline, "MAX_MANIFEST_BYTES", 10)
    with pytest.raises(PreconditionError, match="larger than"):
        read_manifest(root)


@pytest.mark.parametrize("path", [MANIFEST_PATH, baseline.BASELINE_PATH])
def test_a_state_of_which_one_file_is_a_link_is_refused(tmp_path: Path, path: str) -> None:
    root = project(tmp_path / "root")
    (root / path).rename(tmp_path / "elsewhere")
    (root / path).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PreconditionError, match="symbolic link"):
        baseline.read_state(root)


def test_a_huge_baseline_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = project(tmp_path)
    monkeypatch.setattr(baseline, "MAX_BYTES", 10)
    with pytest.raises(PreconditionError, match="larger than"):
        baseline.read_state(root)


def test_a_hash_that_is_none_is_damage(tmp_path: Path) -> None:
    manifest = project(tmp_path) / MANIFEST_PATH
    manifest.write_text(manifest.read_text().replace(OLD["a.txt"].sha256, "0"))
    with pytest.raises(PreconditionError, match="has no SHA-256"):
        read_manifest(tmp_path)


def test_a_state_is_on_the_disk_before_it_takes_the_place_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled: set[int] = set()
    real_sync, real_replace = os.fsync, os.replace

    def sync(descriptor: int) -> None:
        settled.add(os.fstat(descriptor).st_ino)
        real_sync(descriptor)

    def replace(source: Path, target: Path) -> None:
        assert source.stat().st_ino in settled
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", replace)
    project(tmp_path)


def test_a_baseline_is_said_to_be_made_on_unix_wherever_it_is_made(tmp_path: Path) -> None:
    with zipfile.ZipFile(project(tmp_path) / baseline.BASELINE_PATH) as made:
        assert {entry.create_system for entry in made.infolist()} == {3}


def test_an_archive_of_too_many_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = (project(tmp_path) / baseline.BASELINE_PATH).read_bytes()
    monkeypatch.setattr(archive, "MAX_FILES", 0)
    with pytest.raises(TemplateError, match="more than"):
        archive.read_zip(content, "it")


def test_a_file_that_is_skipped_and_restored_is_upgraded() -> None:
    found = plan_files(OLD, Snapshot(OLD), NEW, UpgradeOptions(skipped=("a.txt",), restore=("a.txt",)))
    assert [(change.path, change.status) for change in found.changes] == [("a.txt", "updated")]
    assert found.baseline == NEW


LONG = File(b"".join(b"line_%d = 0\n" % i for i in range(12)))
MINE = File(LONG.content.replace(b"line_3 = 0", b"line_3 = 3"))
CHANGED = File(LONG.content.replace(b"line_9 = 0", b"line_9 = 9"))
LINK = Obstacle("link", "a.py")


def only_change(base: Tree, ours: Snapshot, theirs: Tree, **context: object) -> FileChange:
    (change,) = plan_files(base, ours, theirs, UpgradeOptions(**context)).changes  # type: ignore[arg-type]
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
        found = plan_files(
            base, Snapshot({"a.py/x.py": ours}, {"a.py": folder}), {"a.py": File(b"new\n")}, UpgradeOptions()
        )
        assert {change.path: change.status for change in found.changes}["a.py"] == status


def alike(share: int, of: int = 20) -> File:
    """A file of `of` lines, of which `share` are from one text and the others unique."""
    return File(b"".join(b"line %d\n" % i if i < share else b"other %d %d\n" % (share, i) for i in range(of)))


def test_a_file_of_the_same_name_may_differ_more_and_still_be_the_moved_one() -> None:
    assert template_moves({"a.py": alike(20)}, {"lib/a.py": alike(9)}, []) == {"a.py": "lib/a.py"}
    assert template_moves({"a.py": alike(20)}, {"lib/b.py": alike(9)}, []) == {}
    assert template_moves({"a.py": alike(20)}, {"lib/a.py": alike(7)}, []) == {}


def test_the_most_alike_are_paired_first_and_no_place_is_taken_twice() -> None:
    base, theirs = {"a.py": alike(20), "b.py": alike(13)}, {"c.py": alike(17), "d.py": alike(12)}
    assert template_moves(base, theirs, []) == {"a.py": "c.py", "b.py": "d.py"}
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


def test_the_gate_looks_at_a_conflict_as_either_side_would_resolve_it() -> None:
    sides = Sides("python", ("x = 1",), ("x = 2",), ("x = 3",))
    torn = [Piece(("x = 2",), ("x = 1",), ("x = (",))]
    assert problem(sides, torn) == "the merged result would not be valid Python"
    assert problem(sides, torn, ours_only=True) is None


def test_the_gate_sees_a_removed_line_that_is_back_on_the_templates_side_of_a_conflict_only() -> None:
    sides = Sides("text", ("c", "c"), ("a", "c", "b"), ("a",))
    assert not keeps_every_edit(sides, [Piece(("a",), (), ("b",))])


def test_the_template_may_end_a_last_line_that_had_no_end() -> None:
    assert merge_file(b"a\nb\nc", b"A\nb\nc", b"a\nb\nc\n", "notes.txt").content == b"A\nb\nc\n"
    assert merge_file(b"a\nb\nc\n", b"A\nb\nc", b"a\nb\nC\n", "notes.txt").content == b"A\nb\nC"


def test_the_gate_compares_imports_as_names() -> None:
    sides = Sides("python", ("import a",), ("import a", "import b"), ("import a", "import c"))
    assert keeps_every_edit(sides, [Piece(("import a, b, c",))])
    assert not keeps_every_edit(sides, [Piece(("import a, b",))])
    assert not keeps_every_edit(sides, [Piece(("import a, b, c, d",))])


def test_what_a_journal_tells_the_user_survives_it() -> None:
    told = [
        Summary("a.py", "merged", "has both", why=("0.2.0: faster",)),
        Summary("b.py", "moved", "the template moved it", moved_from="old.py"),
        Summary("c.bin", "conflict", "binary", conflicts=2, incoming=".paccel/incoming/c.bin"),
    ]
    journal = Journal("resolve", (), (), summary=tuple(told))
    assert Journal.from_json(journal.to_json()) == journal
    assert told[0].to_json() == {"path": "a.py", "status": "merged", "reason": "has both", "why": ["0.2.0: faster"]}


def test_a_journal_with_an_unknown_status_is_damaged() -> None:
    content = Journal("resolve", (), (), summary=(Summary("a.py", "merged", ""),)).to_json()
    with pytest.raises(PreconditionError, match="damaged"):
        Journal.from_json(content.replace(b"merged", b"melted"))


def test_the_manifest_that_is_written_is_json(tmp_path: Path) -> None:
    assert json.loads((project(tmp_path) / MANIFEST_PATH).read_text())["template"]["name"] == "demo"


@pytest.mark.parametrize("side", ["old", "new"])
def test_a_journal_that_denies_a_staged_file_is_refused(tmp_path: Path, side: str) -> None:
    """Going back would delete a file with no old version; finishing, one with no new version."""
    root = project(tmp_path)
    start(root, ours=b"mine\n")
    journal = root / UPGRADE_DIR / "journal.json"
    data = json.loads(journal.read_text())
    (root / UPGRADE_DIR / "new" / "0").write_bytes(b"staged\n")
    data["operations"][0][side] = None
    journal.write_text(json.dumps(data))
    with pytest.raises(PreconditionError, match=r"damaged: it does not match what is staged for `a\.txt`"):
        apply.abort(root)
    assert b"mine\n" in (root / "a.txt").read_bytes()


@pytest.mark.skipif(os.name == "nt", reason="no FIFOs there")
def test_a_journal_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    root = project(tmp_path)
    start(root, ours=b"mine\n")
    (root / UPGRADE_DIR / "journal.json").unlink()
    os.mkfifo(root / UPGRADE_DIR / "journal.json")
    with pytest.raises(PreconditionError, match="is not a regular file"):
        read_journal(root)
