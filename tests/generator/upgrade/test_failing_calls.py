"""A system call that fails: nothing is lost, the user is told, and an unfinished upgrade can be finished or undone."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.applied import QUIET, THEIRS, Files, contents, project, undone, upgraded
from support.failing import FailingCall
from support.sampled import sampled
from support.upgraded import PROJECT, Case

import paccel.upgrade.upgrade as engine
from paccel.errors import PaccelError, PreconditionError
from paccel.files import disk
from paccel.project.state import read_state
from paccel.upgrade import apply
from paccel.upgrade.journal import STAGING_DIR, UPGRADE_DIR, read_journal

pytestmark = pytest.mark.skipif(os.name == "nt", reason="not these calls there")

ERRORS = (errno.ENOSPC, errno.EACCES, errno.EIO, errno.EROFS)

Action = Callable[[Path], object]

FINISH: tuple[Action, ...] = (engine.continue_upgrade, engine.abort_upgrade)


def fresh(root: Path) -> None:
    project(root)


def complete(root: Path) -> None:
    project(root)
    upgraded(root, QUIET)


def conflicting(root: Path) -> None:
    project(root)
    upgraded(root, THEIRS)
    (root / "picture.bin").write_bytes(b"\0decided")


def interrupted(root: Path) -> None:
    """Killed after three files."""
    project(root)
    real, left = disk.replace_file, iter(range(3))

    def replace_file(source: Path, target: Path) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        real(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disk, "replace_file", replace_file)
        patch.setattr(apply, "_roll_back", lambda *_: None)
        with pytest.raises(KeyboardInterrupt):
            upgraded(root, QUIET)


ACTIONS: dict[str, tuple[Callable[[Path], None], Action]] = {
    "upgrade": (fresh, lambda root: upgraded(root, QUIET)),
    "undo": (complete, undone),
    "continue": (conflicting, engine.continue_upgrade),
    "continue after an interruption": (interrupted, engine.continue_upgrade),
    "abort": (conflicting, engine.abort_upgrade),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ACTIONS)
def test_a_failing_call_loses_nothing_and_the_journal_is_never_stuck(tmp_path: Path, name: str) -> None:
    prepare, action = ACTIONS[name]
    start, ideal = tmp_path / "start", tmp_path / "ideal"
    prepare(start)
    shutil.copytree(start, ideal, symlinks=True)
    before = contents(start)
    with FailingCall(0) as counted:
        action(ideal)
    after = contents(ideal)
    assert counted.count > 50
    ends = [before, after, *(ended(start, finish, tmp_path / "copy") for finish in FINISH if read_journal(start))]
    points = [(number, error) for number in range(1, counted.count + 1) for error in ERRORS]
    for number, error in sampled(points, 30):
        root = tmp_path / "root"
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(start, root, symlinks=True)
        failed = False
        with FailingCall(number, error) as failing:
            try:
                action(root)
            except (PaccelError, OSError):
                failed = True
        what = f"{failing.hit}: {os.strerror(error)}"
        if read_journal(root) is None:
            assert contents(root) == (before if failed else after), what
            continue
        assert failed, what
        for finish in FINISH:
            assert ended(root, finish, tmp_path / "copy") in ends, what


def ended(root: Path, finish: Action, copy: Path) -> Files:
    """The content of a copy of a project after its unfinished upgrade was finished or undone."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(root, copy, symlinks=True)
    finish(copy)
    assert read_journal(copy) is None
    read_state(copy)
    for folder in (apply.ABORTED_DIR, STAGING_DIR):
        shutil.rmtree(copy / folder, ignore_errors=True)
    return contents(copy)


def test_a_folder_that_cannot_be_removed_is_said_and_nothing_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = project(tmp_path)
    before = contents(root)

    real = os.rmdir

    def refuse(path: str | Path, **options: Any) -> None:
        if str(path).endswith("gone/deep"):
            raise OSError(errno.EBUSY, "Device or resource busy", str(path))
        real(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rmdir", refuse)
        with pytest.raises(PreconditionError, match=r"gone/deep` cannot be .*: Device or resource busy; nothing was"):
            upgraded(root, QUIET)
    assert (contents(root), read_journal(root)) == (before, None)
    upgraded(root, QUIET)
    assert not (root / "gone").exists()


def test_a_rename_that_fails_while_finishing_does_not_blame_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(tmp_path / "root")
    root = tmp_path / "root"
    real = os.replace

    def refuse(source: object, target: object) -> None:
        if str(target).endswith("train.py"):
            raise OSError(errno.EIO, "Input/output error", str(target))
        real(source, target)  # type: ignore[call-overload]

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        for _ in range(2):
            with pytest.raises(PreconditionError, match=r"train\.py` cannot be written: Input/output error"):
                engine.continue_upgrade(root)
    assert engine.continue_upgrade(root).state == "done"
    assert read_state(root)[1] == QUIET


def test_an_edit_of_a_file_that_is_in_its_place_already_does_not_stop_the_rest(tmp_path: Path) -> None:
    root = tmp_path / "root"
    interrupted(root)
    journal = read_journal(root)
    assert journal is not None
    done = next(op.path for op in journal.operations if op.new and (root / op.path).is_file() and op.old != op.new)
    (root / done).write_bytes(b"edited since\n")
    assert engine.continue_upgrade(root).state == "done"
    assert (root / done).read_bytes() == b"edited since\n"
    assert read_state(root)[1] == QUIET


def test_a_staged_file_that_is_gone_is_missed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    interrupted(root)
    before = contents(root)
    for staged in (root / ".paccel" / "upgrade" / "new").iterdir():
        staged.unlink()
    with pytest.raises(PreconditionError, match=r"is missing: go back with `paccel upgrade --abort`"):
        engine.continue_upgrade(root)
    assert contents(root) == before
    engine.abort_upgrade(root)
    assert read_journal(root) is None


def test_a_journal_too_large_to_be_read_again_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = project(tmp_path)
    before = contents(root)
    monkeypatch.setattr("paccel.upgrade.stage.MAX_JOURNAL_BYTES", 100)
    with pytest.raises(PreconditionError, match="Too many files change"):
        upgraded(root, QUIET)
    assert contents(root) == before


def test_a_disk_that_cannot_be_locked_is_not_taken_for_a_busy_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(PreconditionError, match="cannot be locked: No locks available"), disk.locked(project(tmp_path)):
        pass


def test_a_baseline_that_cannot_be_read_now_is_not_taken_for_a_lost_one(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.edit("train.py", "first = 1", "first = 5")
    case.change("train.py", "third = 3", "third = 4")
    before = case.tree()
    real = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.name == "baseline.zip":
            raise OSError(errno.EIO, "Input/output error", str(path))
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refuse)
        refused = case.run("upgrade")
    assert (refused.code, "cannot be read: Input/output error" in refused.err) == (3, True)
    assert case.tree() == before
    assert case.run("upgrade").code == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [["upgrade"], ["set", "average=true"], ["upgrade", "--check"], ["diff"]], ids=" ".join
)
def test_a_command_whose_call_fails_says_so_and_changes_nothing(case: Case, command: list[str]) -> None:
    case.edit("train.py", "first = 1", "first = 5")
    (case.source / PROJECT / "lib").mkdir()
    (case.source / PROJECT / "data.py").rename(case.source / PROJECT / "lib" / "data.py")
    before = case.tree()
    start = shutil.copytree(case.root, case.work / "start")
    with FailingCall(0) as counted:
        wanted = case.run(*command)
    after = case.tree()
    points = [(number, error) for number in range(1, counted.count + 1) for error in ERRORS]
    for number, error in sampled(points, 30):
        for folder in (path for path in case.root.iterdir() if path.is_dir()):
            shutil.rmtree(folder)
        shutil.copytree(start, case.root, dirs_exist_ok=True)
        with FailingCall(number, error) as failing:
            done = case.run(*command)
        what = f"{failing.hit}: {os.strerror(error)}"
        if done.code == wanted.code:
            assert {path: file for path, file in case.tree().items() if UPGRADE_DIR not in path} == after, what
            assert done.out == wanted.out, what
        else:
            assert (done.code, done.out, len(done.err) > 10) == (3, "", True), what
            if read_journal(case.root) is None:
                assert {path: file for path, file in case.tree().items() if UPGRADE_DIR not in path} == before, what
