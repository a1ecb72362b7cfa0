"""Guards of an upgrade that nothing else trips over: each is here because removing it was seen to go unnoticed."""

import json
from pathlib import Path

import pytest

from paccel import apply, archive, baseline
from paccel.adopt import adopt
from paccel.baseline import MANIFEST_PATH, Manifest, TemplateRef, read_manifest, state_bytes, write_state
from paccel.errors import PreconditionError, TemplateError
from paccel.gate import Piece, Sides, keeps_every_edit
from paccel.journal import UPGRADE_DIR, read_journal
from paccel.merge import merge_file
from paccel.plan import Context, plan_files
from paccel.snapshot import Snapshot, take_snapshot
from paccel.tree import File, write_tree

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
