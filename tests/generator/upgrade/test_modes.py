"""What is not a file's content: permission bits, what kind of file it is, and backups that are needed twice."""

import os
import shutil
from pathlib import Path

import pytest
from support.applied import BASE, QUIET, THEIRS, contents, project, undone, upgraded

import paccel.upgrade.upgrade as engine
from paccel.errors import PreconditionError
from paccel.files import disk
from paccel.files.tree import File
from paccel.upgrade import apply
from paccel.upgrade.journal import STAGING_DIR

pytestmark = pytest.mark.skipif(os.name == "nt", reason="there are no such bits and no such files there")


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_a_file_that_the_template_moves_keeps_the_users_permissions(tmp_path: Path) -> None:
    root = project(tmp_path)
    (root / "moved.py").chmod(0o600)
    upgraded(root, QUIET)
    assert mode(root / "new_place" / "moved.py") == 0o600


def test_a_tool_that_the_template_changes_is_for_whom_the_user_lets_run_it(tmp_path: Path) -> None:
    base = BASE | {"tool.sh": File(b"echo 1\n", True)}
    root = project(tmp_path, base, base)
    (root / "tool.sh").chmod(0o744)
    upgraded(root, base | {"tool.sh": File(b"echo 2\n", True)})
    assert ((root / "tool.sh").read_bytes(), mode(root / "tool.sh")) == (b"echo 2\n", 0o744)


def test_what_is_no_file_any_more_is_not_read(tmp_path: Path) -> None:
    root = project(tmp_path)
    upgraded(root, THEIRS)
    (root / "picture.bin").unlink()
    os.mkfifo(root / "picture.bin")  # reading it would wait for ever
    with pytest.raises(PreconditionError, match=r"`picture\.bin` is no longer a regular file"):
        apply.resume(root)


def test_a_file_that_was_put_back_and_edited_before_all_were_is_put_back_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = project(tmp_path)
    before = contents(root)
    upgraded(root, QUIET)
    rename = disk.rename

    def interrupted(source: Path, target: Path) -> None:
        if target == root / STAGING_DIR:
            raise KeyboardInterrupt
        rename(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(disk, "rename", interrupted)
        with pytest.raises(KeyboardInterrupt):
            undone(root)
    (root / "train.py").write_bytes(b"edited\n")
    engine.continue_upgrade(root)
    assert (root / apply.ABORTED_DIR / "train.py").read_bytes() == b"edited\n"
    shutil.rmtree(root / apply.ABORTED_DIR)
    assert contents(root) == before
