"""Undo, abort and continue: what they restore, keep a copy of, and refuse."""

import shutil
from pathlib import Path

import pytest
from support.applied import QUIET, REF, THEIRS, changes, contents, project, undone, upgraded

import paccel.upgrade.upgrade as engine
from paccel.errors import PreconditionError
from paccel.files import disk
from paccel.project.state import Manifest, state_bytes
from paccel.upgrade import apply
from paccel.upgrade.journal import STAGING_DIR, UNDO_DIR, UPGRADE_DIR, read_journal, write_journal


def test_undo_restores_every_byte_and_mode(tmp_path: Path) -> None:
    root = project(tmp_path)
    before = contents(root)
    upgraded(root, QUIET)
    assert (root / "tool.sh").stat().st_mode & 0o777 == 0o750  # the user's bits, and executable for all who may read
    assert not (root / "gone").exists()
    undone(root)
    assert contents(root) == before


def test_undo_refuses_when_a_file_was_edited_since(tmp_path: Path) -> None:
    root = project(tmp_path)
    upgraded(root, QUIET)
    (root / "train.py").write_bytes(b"edited\n")
    after = contents(root)
    with pytest.raises(PreconditionError, match=r"`train\.py`"):
        undone(root)
    assert contents(root) == after


def test_undo_without_an_upgrade_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PreconditionError, match="no upgrade to undo"):
        undone(project(tmp_path))


def test_abort_keeps_a_copy_of_what_was_edited_since(tmp_path: Path) -> None:
    root = project(tmp_path)
    before = contents(root)
    upgraded(root, THEIRS)
    (root / "train.py").write_bytes(b"edited while deciding\n")
    assert apply.abort(root) == ["train.py"]
    kept = root / apply.ABORTED_DIR / "train.py"
    assert kept.read_bytes() == b"edited while deciding\n"
    shutil.rmtree(root / apply.ABORTED_DIR)
    assert contents(root) == before


def test_what_an_abort_keeps_stands_beside_what_an_earlier_one_kept(tmp_path: Path) -> None:
    root = project(tmp_path)
    for text, name in ((b"first\n", "train.py"), (b"second\n", "train.py.2"), (b"first\n", "train.py")):
        upgraded(root, THEIRS)
        (root / "train.py").write_bytes(text)
        (root / "tool.sh").unlink()
        assert apply.abort(root) == [name]
    kept = {path.name: path.read_bytes() for path in (root / apply.ABORTED_DIR).iterdir()}
    assert kept == {"train.py": b"first\n", "train.py.2": b"second\n"}


def test_a_file_edited_while_an_upgrade_was_interrupted_is_not_overwritten(tmp_path: Path) -> None:
    root = project(tmp_path)
    upgraded(root, QUIET)
    shutil.move(root / UNDO_DIR, root / UPGRADE_DIR)
    journal = read_journal(root)
    assert journal is not None
    write_journal(root, journal.in_phase("apply"))
    number = [op.path for op in journal.operations].index("train.py")
    shutil.copy(root / "train.py", root / UPGRADE_DIR / "new" / str(number))  # not replaced yet
    (root / "train.py").write_bytes(b"edited\n")
    with pytest.raises(PreconditionError, match=r"`train\.py` was edited"):
        apply.resume(root)
    assert (root / "train.py").read_bytes() == b"edited\n"


def test_a_file_edited_while_an_undo_was_interrupted_is_kept_aside(tmp_path: Path) -> None:
    root = project(tmp_path)
    before = contents(root)
    upgraded(root, QUIET)
    shutil.move(root / UNDO_DIR, root / UPGRADE_DIR)
    journal = read_journal(root)
    assert journal is not None
    write_journal(root, journal.in_phase("undo"))
    (root / "train.py").write_bytes(b"edited\n")
    assert engine.continue_upgrade(root).notes == ("your edits made since are kept in `.paccel/aborted/train.py`",)
    assert (root / apply.ABORTED_DIR / "train.py").read_bytes() == b"edited\n"
    shutil.rmtree(root / apply.ABORTED_DIR)
    assert contents(root) == before


def test_two_upgrades_at_once_are_refused(tmp_path: Path) -> None:
    root = project(tmp_path)
    with disk.locked(root), pytest.raises(PreconditionError, match="Another paccel"), disk.locked(root):
        pass


def test_leftovers_of_an_interrupted_staging_are_removed(tmp_path: Path) -> None:
    root = project(tmp_path)
    (root / STAGING_DIR / "new").mkdir(parents=True)
    (root / STAGING_DIR / "new" / "0").write_bytes(b"half")
    upgraded(root, QUIET)
    assert not (root / STAGING_DIR).exists()


@pytest.mark.parametrize("path", ["../outside.py", "/etc/passwd", ".git/hooks/pre-commit", ".paccel/upgrade/x"])
def test_a_hostile_journal_is_refused(tmp_path: Path, path: str) -> None:
    root = project(tmp_path / "project")
    upgraded(root, THEIRS)
    journal = root / UPGRADE_DIR / "journal.json"
    journal.write_text(journal.read_text().replace('"path": "train.py"', f'"path": "{path}"'))
    before = contents(root)
    for action in (apply.resume, apply.abort):
        with pytest.raises(PreconditionError, match="damaged"):
            action(root)
    assert contents(root) == before


def test_a_folder_that_became_a_link_is_not_written_through(tmp_path: Path) -> None:
    root = project(tmp_path / "project")
    planned = changes(root, QUIET)
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / "added").symlink_to(outside)
    with pytest.raises(PreconditionError, match="symbolic link"):
        apply.start(root, planned, state_bytes(Manifest.of(REF, {}, QUIET), QUIET), ())
    assert not any(outside.iterdir())
