"""Applying an upgrade: killed, refused or failing at every single write, it can be finished or taken back."""

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.applied import QUIET, THEIRS, Files, contents, project, undone, upgraded

from paccel.errors import PreconditionError
from paccel.files import disk
from paccel.files.tree import File
from paccel.project.state import read_state
from paccel.upgrade import apply
from paccel.upgrade.journal import STAGING_DIR, read_journal

WRITES = (
    "write_file",
    "replace_file",
    "rename",
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
