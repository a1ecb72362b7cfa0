"""The order of writes and flushes: everything that a step relies on is on the disk before the step."""

import errno
import os
import shutil
from pathlib import Path

import pytest
from support.applied import BASE, QUIET, REF, THEIRS, project, undone, upgraded

from paccel.errors import PreconditionError
from paccel.files import disk
from paccel.files.tree import STATE_DIR, read_tree
from paccel.project.folder import create_project
from paccel.project.state import Manifest, read_state
from paccel.upgrade import apply
from paccel.upgrade.journal import STAGING_DIR

pytestmark = pytest.mark.skipif(os.name == "nt", reason="folders cannot be waited for there")


def test_nothing_is_renamed_that_is_not_on_the_disk_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = project(tmp_path / "project")
    settled: set[int] = set()
    real_sync, real_rename, real_replace = os.fsync, disk.rename, disk.replace_file
    missing: list[Path] = []
    renamed: list[str] = []

    def sync(descriptor: int) -> None:
        real_sync(descriptor)
        settled.add(os.fstat(descriptor).st_ino)

    def rename(source: Path, target: Path) -> None:
        missing.extend(path for path in [source, *source.rglob("*")] if path.stat().st_ino not in settled)
        renamed.append(target.name)
        real_rename(source, target)

    def replace(source: Path, target: Path) -> None:
        missing.extend([source] if source.stat().st_ino not in settled else [])
        renamed.append(target.name)
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(disk, "rename", rename)
    monkeypatch.setattr(disk, "replace_file", replace)
    upgraded(root, QUIET)
    assert missing == []
    assert {"upgrade", "undo", "train.py", "manifest.json", "baseline.zip"} <= {*renamed}
    assert (root / STATE_DIR).stat().st_ino in settled


class Watched:
    """Every rename and every flush, as (operation, name of the target or folder)."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.events: list[tuple[str, str]] = []
        for what in ("settle", "replace_file", "rename", "remove_file"):
            monkeypatch.setattr(disk, what, self._noted(what, getattr(disk, what)))

    def _noted(self, what, real):  # type: ignore[no-untyped-def]
        def noted(*paths: Path) -> None:
            self.events.append((what, paths[-1].relative_to(self.root).as_posix()))
            real(*paths)

        return noted

    def between(self, first: tuple[str, str], last: tuple[str, str]) -> set[str]:
        """The names that were flushed after `first` and before `last`."""
        start = self.events.index(first)
        return {name for what, name in self.events[start : self.events.index(last, start)] if what == "settle"}


STATE = f"{STATE_DIR}"
JOURNAL = ("replace_file", f"{STATE}/upgrade/journal.json")
BEGUN = ("rename", f"{STATE}/upgrade")
BASELINE, MANIFEST = ("replace_file", f"{STATE}/baseline.zip"), ("replace_file", f"{STATE}/manifest.json")


def test_each_step_forward_is_on_the_disk_before_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = project(tmp_path)
    watched = Watched(root, monkeypatch)
    upgraded(root, QUIET)
    assert STATE in watched.between(BEGUN, ("remove_file", "gone/only.py"))
    # Until the journal goes, it covers whatever part of all this a power cut lets through: one wait is enough.
    folders = {".", "new_place", "added", "added/deep", "alone/in_its", STATE}
    assert folders <= watched.between(MANIFEST, ("rename", f"{STATE}/undo"))


def test_files_with_conflicts_are_on_the_disk_before_the_journal_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = project(tmp_path)
    watched = Watched(root, monkeypatch)
    upgraded(root, THEIRS)
    assert "." in watched.between(("replace_file", "train.py"), JOURNAL)


def test_a_decision_is_on_the_disk_before_the_state_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = project(tmp_path)
    upgraded(root, THEIRS)
    watched = Watched(root, monkeypatch)
    apply.resume(root)
    assert f"{STATE}/upgrade" in watched.between(JOURNAL, BASELINE)


def test_each_step_back_is_on_the_disk_before_the_journal_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = project(tmp_path)
    upgraded(root, QUIET)
    watched = Watched(root, monkeypatch)
    undone(root)
    assert f"{STATE}/upgrade" in watched.between(JOURNAL, ("remove_file", "new_place/moved.py"))
    last = ("rename", STAGING_DIR)
    assert {".", "gone", STATE} <= watched.between(("replace_file", "train.py"), last)
    assert STATE in {name for what, name in watched.events[watched.events.index(last) :] if what == "settle"}


@pytest.mark.parametrize("existing", [False, True], ids=["new folder", "empty folder"])
def test_a_new_project_is_on_the_disk_before_it_is_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existing: bool
) -> None:
    settled: set[int] = set()
    missing: list[Path] = []
    real_sync, real_rename = os.fsync, disk.rename

    def sync(descriptor: int) -> None:
        real_sync(descriptor)
        settled.add(os.fstat(descriptor).st_ino)

    def rename(source: Path, target: Path) -> None:
        missing.extend(path for path in [source, *source.rglob("*")] if path.stat().st_ino not in settled)
        real_rename(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(disk, "rename", rename)
    root = tmp_path / "net"
    if existing:
        root.mkdir()
    create_project(root, Manifest.of(REF, {}, BASE), BASE)
    assert missing == []
    assert (root if existing else tmp_path).stat().st_ino in settled
    assert read_tree(root) == BASE


def test_a_failed_write_of_a_whole_file_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk.write_whole(tmp_path / "a", b"old")
    (tmp_path / ".a.new").write_bytes(b"left by a killed command")

    def fail(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(disk, "replace_file", fail)
        with pytest.raises(OSError, match="No space"):
            disk.write_whole(tmp_path / "a", b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"old"}
    disk.write_whole(tmp_path / "a", b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"new"}


@pytest.mark.parametrize("failing", ["journal.json", STATE_DIR])
def test_a_disk_that_cannot_promise_is_a_disk_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    root = project(tmp_path)
    settle = disk.settle

    def fail(path: Path) -> None:
        if path.name == failing:
            raise OSError(errno.EIO, "Input/output error", str(path))
        settle(path)

    monkeypatch.setattr(disk, "settle", fail)
    with pytest.raises(PreconditionError, match="Input/output error; "):
        upgraded(root, QUIET)


def test_a_file_on_another_disk_is_copied_and_then_put_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"new")
    source.chmod(0o750)
    target.write_bytes(b"old")
    real, number = os.replace, errno.EXDEV

    def replace(one: Path, other: Path) -> None:
        if one == source:
            raise OSError(number, "no")
        real(one, other)

    monkeypatch.setattr(os, "replace", replace)
    disk.replace_file(source, target)
    assert (target.read_bytes(), target.stat().st_mode & 0o777) == (b"new", 0o750)
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    source.write_bytes(b"newer")
    number = errno.EACCES
    with pytest.raises(OSError, match="no"):
        disk.replace_file(source, target)
    assert target.read_bytes() == b"new"


def test_leftovers_that_are_a_link_are_removed_and_not_what_they_lead_to(tmp_path: Path) -> None:
    root = project(tmp_path / "project")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").write_bytes(b"1")
    (root / STAGING_DIR).symlink_to(tmp_path / "outside")
    upgraded(root, QUIET)
    assert (tmp_path / "outside" / "precious").exists()
    assert not os.path.lexists(root / STAGING_DIR)


def test_a_power_cut_that_kept_the_state_and_lost_the_files_is_made_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, cut, done = project(tmp_path / "project"), tmp_path / "cut", tmp_path / "done"
    rename = disk.rename

    def copied(source: Path, target: Path) -> None:
        if target.name == "undo":
            shutil.copytree(root, done)
        rename(source, target)
        if target.name == "upgrade":
            shutil.copytree(root, cut)

    with monkeypatch.context() as patched:
        patched.setattr(disk, "rename", copied)
        upgraded(root, QUIET)
    for name in ("baseline.zip", "manifest.json"):  # renamed last, and on the disk first
        shutil.copy2(done / STATE_DIR / name, cut / STATE_DIR / name)
    apply.resume(cut)
    assert read_tree(cut) == read_tree(root)
    assert read_state(cut) == read_state(root)
