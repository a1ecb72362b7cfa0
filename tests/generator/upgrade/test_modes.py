"""Permission bits, kinds of files, and backups that are needed twice."""

import errno
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.applied import BASE, QUIET, THEIRS, contents, project, undone, upgraded
from support.upgraded import PROJECT, Case

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


# --- disks without modes, checkouts with other line endings ----------------------------------------------------------


def as_checked_out(root: Path, change: Callable[[bytes], bytes]) -> None:
    """Write every file of the project as a checkout or an editor would have it."""
    for path in root.rglob("*"):
        if path.is_file() and ".paccel" not in path.parts and ".git" not in path.parts:
            path.write_bytes(change(path.read_bytes()))


def crlf(content: bytes) -> bytes:
    return content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def with_bom(content: bytes) -> bytes:
    return b"\xef\xbb\xbf" + content.removeprefix(b"\xef\xbb\xbf")


@pytest.mark.parametrize("change", [crlf, with_bom, lambda content: with_bom(crlf(content))])
def test_another_spelling_of_every_file_is_no_edit(case: Case, change: Callable[[bytes], bytes]) -> None:
    as_checked_out(case.root, change)
    shown = case.run("diff", "--exit-code")
    assert (shown.code, shown.out) == (0, "")
    (case.source / PROJECT / "data.py").unlink()
    case.change("train.py", "third = 3", "third = 4")
    shown = case.run("upgrade")
    assert shown.code == 0
    assert "  deleted   data.py   deleted in the template; you had not edited it\n" in shown.out
    assert "  updated   train.py  you had not edited it\n" in shown.out
    assert (case.root / "train.py").read_bytes() == change(case.read("train.py").lstrip("\ufeff").encode())
    assert b"third = 4" in (case.root / "train.py").read_bytes()


def test_an_edit_of_a_checkout_with_other_line_ends_is_found_and_kept(case: Case) -> None:
    case.edit("data.py", "value_9 = 9", "value_9 = 10")
    as_checked_out(case.root, crlf)
    shown = case.run("diff").out
    assert [line for line in shown.splitlines() if line[:1] in "+-"][2:] == ["-value_9 = 9", "+value_9 = 10"]
    (case.source / PROJECT / "data.py").unlink()
    assert case.run("upgrade").code == 1
    assert b"value_9 = 10\r\n" in (case.root / "data.py").read_bytes()


def test_a_checkout_with_other_line_ends_whose_baseline_is_lost_is_upgraded(case: Case) -> None:
    as_checked_out(case.root, crlf)
    (case.root / ".paccel" / "baseline.zip").unlink()
    case.change("train.py", "third = 3", "third = 4")
    assert case.run("upgrade").code == 0
    assert b"third = 4\r\n" in (case.root / "train.py").read_bytes()


def test_a_moved_file_of_a_checkout_is_found(case: Case) -> None:
    as_checked_out(case.root, crlf)
    (case.source / PROJECT / "lib").mkdir()
    (case.source / PROJECT / "data.py").rename(case.source / PROJECT / "lib" / "data.py")
    assert case.run("upgrade").code == 0
    assert b"value_0 = 0\r\n" in (case.root / "lib" / "data.py").read_bytes()
    assert not (case.root / "data.py").exists()


def test_adopting_a_checkout_finds_no_edits(case: Case) -> None:
    as_checked_out(case.root, crlf)
    for path in ("train.py", "data.py"):
        (case.root / path).chmod(0o755)
    shutil.rmtree(case.root / ".paccel")
    adopted = case.run("adopt", "--template", case.source, "--json")
    assert (adopted.code, adopted.data["edited"]) == (0, [])


def test_a_disk_on_which_every_file_is_executable_shows_no_edits(case: Case) -> None:
    for path in ("train.py", "data.py"):
        (case.root / path).chmod(0o777)
    assert case.run("diff", "--exit-code").code == 0
    case.change("train.py", "third = 3", "third = 4")
    assert "  updated   train.py  you had not edited it\n" in case.run("upgrade").out
    assert mode(case.root / "train.py") == 0o777


def test_a_mode_that_the_user_gave_one_file_is_an_edit(case: Case) -> None:
    (case.root / "train.py").chmod(0o755)
    assert "new mode 100755" in case.run("diff").out
    case.change("train.py", "third = 3", "third = 4")
    assert "  merged    train.py" in case.run("upgrade").out
    assert mode(case.root / "train.py") == 0o755


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_modes_count_for_nothing_where_git_does_not_count_them(case: Case) -> None:
    subprocess.run(["git", "init", "-q"], cwd=case.root, check=True, timeout=60)
    (case.root / "train.py").chmod(0o755)
    for setting, code in (("true", 1), ("false", 0)):
        subprocess.run(["git", "config", "core.fileMode", setting], cwd=case.root, check=True, timeout=60)
        assert case.run("diff", "--exit-code").code == code


def test_a_file_is_deleted_whatever_its_mode(case: Case) -> None:
    (case.root / "data.py").chmod(0o755)
    (case.source / PROJECT / "data.py").unlink()
    assert case.run("upgrade").code == 0
    assert not (case.root / "data.py").exists()


@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOTSUP, 0])
def test_an_upgrade_on_a_disk_that_holds_no_modes_is_finished_and_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    root = project(tmp_path / "project")
    (root / "tool.sh").chmod(0o644)
    (root / "gone").chmod(0o755)

    def no_modes(path: object, mode: int, **_: object) -> None:
        if error:
            raise OSError(error, os.strerror(error), str(path))

    monkeypatch.setattr(os, "chmod", no_modes)
    before = {path: content for path, (content, _) in contents(root).items()}
    upgraded(root, THEIRS)
    (root / "picture.bin").write_bytes(b"\0decided")
    engine.continue_upgrade(root)
    assert (root / "tool.sh").read_bytes() == b"echo 2\n"
    undone(root)
    after = {path: content for path, (content, _) in contents(root).items()}
    assert after == before | {"picture.bin": after["picture.bin"]}
    assert after["picture.bin"] == before["picture.bin"]
