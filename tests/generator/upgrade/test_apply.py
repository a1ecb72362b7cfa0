"""Applying an upgrade: killed, refused or failing at any write, it can be finished or undone."""

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.applied import QUIET, THEIRS, contents, project, undone, upgraded
from support.killed import finish_and_go_back, intercept, killed_at_each_write

from paccel.errors import PreconditionError
from paccel.files.tree import File
from paccel.project.state import read_state
from paccel.upgrade import apply
from paccel.upgrade.journal import STAGING_DIR, read_journal


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
@pytest.mark.slow
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
        if contents(root) != before:  # only cleaning up at the end may fail without going back
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
