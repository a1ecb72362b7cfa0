"""What is read of a project's folder, and what is not."""

import errno
import os
from pathlib import Path

import pytest

from paccel.errors import PreconditionError, TemplateError
from paccel.files.tree import File, check_path, read_tree
from paccel.project import snapshot
from paccel.project.snapshot import take_snapshot

GONE = {"gone.py": File(b"x = 1\n")}


def test_only_the_users_own_files_can_be_a_renamed_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "MAX_STRAY_BYTES", 100)
    for path in ("mine.py", "sub/mine.py", "known.py", ".hidden/a.py", "runs/a.py", "sub/venv/a.py", "mine.txt"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x = 1\n")
    (tmp_path / "large.py").write_text("x = 1\n" * 100)
    (tmp_path / "link.py").symlink_to("mine.py")
    assert [*take_snapshot(tmp_path, ["gone.py", "known.py"], GONE).strays] == ["mine.py", "sub/mine.py"]


def test_a_file_that_the_disk_finds_under_another_spelling_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.py").write_text("x = 1\n")
    assert [*take_snapshot(tmp_path, ["model.py"], {}).files] == ["model.py"]
    monkeypatch.setattr(os, "listdir", lambda folder: ["Model.py"])  # a disk for which those are one name
    assert [*take_snapshot(tmp_path, ["model.py"], {}).files] == []


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> File:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    (tmp_path / "a.py").write_text("x = 1\n")
    monkeypatch.setattr(snapshot, "read_file", refuse)
    with pytest.raises(PreconditionError, match=r"a\.py` cannot be read: Permission denied; make it readable"):
        take_snapshot(tmp_path, ["a.py"], {})


def test_links_are_no_files_of_a_tree(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / "link.py").symlink_to("a.py")
    assert [*read_tree(tmp_path)] == ["a.py"]


@pytest.mark.parametrize("path", ["", ".", "/a", "../a", "a/../b", "a//b", "./a", "a/", "a\\b", "a\0b", "C:a", "C:/a"])
def test_a_path_has_one_way_to_be_written_and_stays_inside(path: str) -> None:
    with pytest.raises(TemplateError, match="leads outside the project"):
        check_path(path)
