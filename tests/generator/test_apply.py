"""Applying an upgrade: killed, refused or failing at every single write, it can be finished or taken back."""

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import paccel.upgrade as engine
from paccel import apply, disk
from paccel.baseline import Manifest, TemplateRef, read_state, state_bytes, write_state
from paccel.errors import PreconditionError
from paccel.journal import STAGING_DIR, UNDO_DIR, UPGRADE_DIR, read_journal, write_journal
from paccel.plan import Context, FileChange, plan_files
from paccel.snapshot import take_snapshot
from paccel.tree import File, Tree, write_tree

REF = TemplateRef("demo", "demo", "0" * 64)
CODE = b"".join(b"line_%d = 0\n" % i for i in range(12))

BASE = {
    "train.py": File(CODE),
    "moved.py": File(CODE.replace(b"line", b"moved")),
    "gone/only.py": File(b"x = 1\ny = 2\n"),
    "gone/deep/also.py": File(b"x = 3\ny = 4\n"),
    "file_then_folder": File(b"a file\n"),
    "folder_then_file/inside.txt": File(b"in a folder\n"),
    "tool.sh": File(b"echo 1\n"),
    "picture.bin": File(b"\0old"),
    "same.py": File(b"same = 1\n"),
    "alone/in_its/folder.py": File(CODE.replace(b"line", b"alone")),
}
OURS = {
    "train.py": File(CODE.replace(b"line_1 = 0", b"line_1 = 1")),
    "picture.bin": File(b"\0mine"),
}
THEIRS = {
    "train.py": File(CODE.replace(b"line_9 = 0", b"line_9 = 9")),
    "new_place/moved.py": BASE["moved.py"],
    "tool.sh": File(b"echo 2\n", True),
    "picture.bin": File(b"\0theirs"),
    "same.py": BASE["same.py"],
    "added/deep/file.py": File(b"added = 1\n"),
    "file_then_folder/inside.cfg": File(b"now in a folder\n"),
    "folder_then_file": File(b"now a file\n"),
    "alone/in_its/place.py": BASE["alone/in_its/folder.py"],
}
QUIET = {path: file for path, file in THEIRS.items() if path != "picture.bin"} | {"picture.bin": BASE["picture.bin"]}

Files = dict[str, tuple[bytes, int]]


def project(root: Path, ours: Tree = OURS, base: Tree = BASE) -> Path:
    write_tree(root, {**base, **ours})
    write_state(root, Manifest.of(REF, {}, base), base)
    (root / "tool.sh").chmod(0o640)
    if "gone/only.py" in base:
        (root / "gone").chmod(0o700)
    return root


def changes(root: Path, theirs: Tree) -> tuple[FileChange, ...]:
    _, base = read_state(root)
    return plan_files(base, take_snapshot(root, {*base, *theirs}, base), theirs, Context()).changes


def upgraded(root: Path, theirs: Tree) -> None:
    with apply.locked(root):
        apply.clear_leftovers(root)
        state = state_bytes(Manifest.of(REF, {}, theirs), theirs)
        apply.start(root, changes(root, theirs), state, ("yours", "old template", "new template"), ())


def undone(root: Path) -> None:
    with apply.locked(root):
        apply.undo(root)


def contents(root: Path) -> Files:
    """Every file and folder but the journal's own, with modes."""
    found: Files = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if not name.startswith((UPGRADE_DIR, UNDO_DIR)):
            found[name] = (b"" if path.is_dir() else path.read_bytes(), path.stat().st_mode & 0o7777)
    return found


WRITES = (
    "write_file",
    "replace_file",
    "rename_folder",
    "remove_file",
    "make_folder",
    "remove_empty_folder",
    "remove_folder",
)


def intercept(monkeypatch: pytest.MonkeyPatch, at: Callable[[str, Callable[[], None]], None]) -> None:
    """Call `at(name, half)` before each write; `half` does a part of it, as a crash in its middle would."""
    for name in WRITES:
        real = getattr(disk, name)

        def wrapped(*arguments: Any, name: str = name, real: Any = real, **options: Any) -> Any:
            def half() -> None:
                if name == "write_file":
                    arguments[0].write_bytes(arguments[1][: len(arguments[1]) // 2])
                elif name == "remove_folder" and arguments[0].is_dir():
                    for file in [path for path in arguments[0].rglob("*") if path.is_file()][:1]:
                        file.unlink()

            at(name, half)
            return real(*arguments, **options)

        monkeypatch.setattr(disk, name, wrapped)


def killed_at_each_write(root: Path, action: Callable[[Path], object], folder: Path) -> Iterator[Path]:
    """Copies of `root`, in each of which `action` was killed at another write: before it, or half-way."""
    for in_the_middle in (False, True):
        for number in range(1000):
            copy = folder / f"{number}-{in_the_middle}"
            shutil.copytree(root, copy, symlinks=True)
            child = os.fork()
            if child == 0:
                with pytest.MonkeyPatch.context() as patch:
                    seen = iter(range(number))

                    def at(
                        name: str, half: Callable[[], None], seen: Iterator[int] = seen, split: bool = in_the_middle
                    ) -> None:
                        if split and name not in {"write_file", "remove_folder"}:
                            return
                        if next(seen, None) is None:
                            if split:
                                half()
                            os._exit(9)

                    try:
                        intercept(patch, at)
                        action(copy)
                    except BaseException:
                        os._exit(1)
                os._exit(0)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            assert code in {0, 9}, f"write {number}"
            if code == 0:
                break
            yield copy
            shutil.rmtree(copy)
        else:
            raise AssertionError("it never ends")


def finish_and_go_back(copy: Path, before: Files, after: Files, folder: Path) -> None:
    """Whatever state `copy` is in, it can be brought to `after`, or back to `before`."""
    journal = read_journal(copy)
    if journal is None:
        apply.clear_leftovers(copy)
        assert contents(copy) in (before, after)
        return
    other = folder / "other"
    shutil.copytree(copy, other, symlinks=True)
    apply.abort(other)
    assert contents(other) == before
    shutil.rmtree(other)
    done = apply.resume(copy)
    assert contents(copy) == (before if done.phase == "undo" else after)
    assert read_journal(copy) is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked child")
def test_an_upgrade_killed_at_any_write_can_be_finished_and_taken_back(tmp_path: Path) -> None:
    root = project(tmp_path / "project")
    before = contents(root)
    ideal = shutil.copytree(root, tmp_path / "ideal")
    upgraded(ideal, QUIET)
    after = contents(ideal)
    count = 0
    for copy in killed_at_each_write(root, lambda copy: upgraded(copy, QUIET), tmp_path):
        finish_and_go_back(copy, before, after, tmp_path)
        count += 1
    assert count > 50


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked child")
def test_an_undo_killed_at_any_write_can_be_finished(tmp_path: Path) -> None:
    root = project(tmp_path / "project")
    before = contents(root)
    upgraded(root, QUIET)
    after = contents(root)
    for copy in killed_at_each_write(root, undone, tmp_path):
        if read_journal(copy) is not None:
            apply.resume(copy)
            assert contents(copy) == before
        apply.clear_leftovers(copy)
        assert contents(copy) in (before, after)
        if contents(copy) == after:
            undone(copy)
            assert contents(copy) == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked child")
def test_going_back_from_conflicts_can_be_killed_and_is_finished_or_never_began(tmp_path: Path) -> None:
    root = project(tmp_path / "project")
    before = contents(root)
    upgraded(root, THEIRS)
    ideal = shutil.copytree(root, tmp_path / "ideal")
    apply.resume(ideal)
    after = contents(ideal)
    for copy in killed_at_each_write(root, apply.abort, tmp_path):
        if read_journal(copy) is not None:
            apply.resume(copy)
        apply.clear_leftovers(copy)
        assert contents(copy) in (before, after)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked child")
def test_finishing_after_conflicts_can_be_killed_too(tmp_path: Path) -> None:
    root = project(tmp_path / "project")
    before = contents(root)
    upgraded(root, THEIRS)
    (root / "picture.bin").write_bytes(b"\0decided")
    ideal = shutil.copytree(root, tmp_path / "ideal")
    apply.resume(ideal)
    after = contents(ideal)
    for copy in killed_at_each_write(root, apply.resume, tmp_path):
        if read_journal(copy) is not None:
            apply.resume(copy)
        apply.clear_leftovers(copy)
        assert contents(copy) == after
        undone(copy)
        assert contents(copy) == before


def test_an_abort_after_any_write_leaves_the_upgrade_before_it_to_be_undone(tmp_path: Path) -> None:
    root = project(tmp_path / "project")
    before = contents(root)
    upgraded(root, QUIET)
    between = contents(root)
    later = QUIET | {"same.py": File(b"same = 2\n")}
    for copy in killed_at_each_write(root, lambda copy: upgraded(copy, later), tmp_path):
        if read_journal(copy) is not None:
            apply.abort(copy)
        apply.clear_leftovers(copy)
        if contents(copy) != between:  # it was complete
            undone(copy)
            assert contents(copy) == between
        else:
            undone(copy)
            assert contents(copy) == before


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_write_that_fails_once_leaves_everything_as_it_was(tmp_path: Path, number: int) -> None:
    for place in range(1000):
        root = project(tmp_path / str(place))
        before = contents(root)
        left = iter(range(place))
        failed = False

        def at(name: str, half: Callable[[], None], left: Iterator[int] = left) -> None:
            nonlocal failed
            if next(left, None) is None and not failed:
                failed = True
                raise OSError(number, os.strerror(number), "a file")

        with pytest.MonkeyPatch.context() as patch:
            intercept(patch, at)
            with contextlib.suppress(PreconditionError):
                upgraded(root, QUIET)
        if not failed:
            break
        if contents(root) != before:  # only what is cleaned up after the end may fail without going back
            assert read_state(root)[1] == QUIET
        assert read_journal(root) is None
        assert not (root / STAGING_DIR).exists()
        shutil.rmtree(root)
    assert place > 20


def test_a_disk_that_stays_full_leaves_what_can_be_finished_or_taken_back(tmp_path: Path) -> None:
    ideal = project(tmp_path / "ideal")
    before = contents(ideal)
    upgraded(ideal, QUIET)
    after = contents(ideal)
    for place in range(1000):
        root = project(tmp_path / str(place))
        left = iter(range(place))

        def at(name: str, half: Callable[[], None], left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                half()
                raise OSError(errno.ENOSPC, "no space left on device", "a file")

        with pytest.MonkeyPatch.context() as patch:
            intercept(patch, at)
            try:
                upgraded(root, QUIET)
                done = True
            except PreconditionError:
                done = False
        finish_and_go_back(root, before, after, tmp_path)
        shutil.rmtree(root)
        if done and next(left, None) is not None:
            break


def test_undo_restores_every_byte_and_mode(tmp_path: Path) -> None:
    root = project(tmp_path)
    before = contents(root)
    upgraded(root, QUIET)
    assert (root / "tool.sh").stat().st_mode & 0o777 == 0o750  # the user's bits, made executable for who may read
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
    assert engine.continue_upgrade(root).notes == ("edited since, kept as `.paccel/aborted/train.py`",)
    assert (root / apply.ABORTED_DIR / "train.py").read_bytes() == b"edited\n"
    shutil.rmtree(root / apply.ABORTED_DIR)
    assert contents(root) == before


def test_two_upgrades_at_once_are_refused(tmp_path: Path) -> None:
    root = project(tmp_path)
    with apply.locked(root), pytest.raises(PreconditionError, match="Another paccel"), apply.locked(root):
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
        apply.start(root, planned, state_bytes(Manifest.of(REF, {}, QUIET), QUIET), (), ())
    assert not any(outside.iterdir())
