"""Which files of a project's folder are read for an upgrade."""

import errno
import os
import sys
from pathlib import Path

import pytest

from paccel.errors import PreconditionError, TemplateError
from paccel.files.tree import File, check_path, read_tree
from paccel.project import snapshot
from paccel.project.snapshot import own_files, take_snapshot

GONE = {"gone.py": File(b"x = 1\n")}


def test_only_the_users_own_files_can_be_a_renamed_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "MAX_STRAY_BYTES", 100)
    for path in ("mine.py", "sub/mine.py", "known.py", ".hidden/a.py", "runs/a.py", "sub/venv/a.py", "mine.txt"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x = 1\n")
    (tmp_path / "large.py").write_text("x = 1\n" * 100)
    (tmp_path / "link.py").symlink_to("mine.py")
    assert [*take_snapshot(tmp_path, ["gone.py", "known.py"], GONE).strays] == ["mine.py", "sub/mine.py"]


def test_a_hidden_folder_in_which_the_template_has_files_is_searched(tmp_path: Path) -> None:
    for path in (".github/workflows/mine.yml", ".cache/workflows/a.yml", ".git/a.yml"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("on: push\n")
    gone = {".github/workflows/ci.yml": File(b"on: push\n")}
    assert [*take_snapshot(tmp_path, gone, gone).strays] == [".github/workflows/mine.yml"]


def test_files_of_the_missing_name_are_read_before_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "MAX_STRAYS", 2)
    for path in ("data/a.py", "data/b.py", "data/c.py", "src/gone.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x = 1\n")
    assert [*take_snapshot(tmp_path, ["gone.py"], GONE).strays] == ["src/gone.py", "data/a.py"]


def test_own_files_are_those_that_are_not_the_templates(tmp_path: Path) -> None:
    for path in ("net/mine.py", "net/known.py", "net/sub/mine.txt", "net/__pycache__/a.pyc", "net/b.pyc", "net/.x/a"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x = 1\n")
    assert own_files(tmp_path, "net", {"net/known.py"}) == ["net/mine.py", "net/sub/mine.txt"]
    assert own_files(tmp_path, "none", set()) == []


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


def test_each_folder_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many files it has: otherwise the time of an upgrade grows quadratically."""
    paths = [f"{folder}/{number}.json" for folder in ("data", "data/deep", "more") for number in range(50)]
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("{}")
    looks: list[str] = []
    listdir, lstat = os.listdir, Path.lstat
    monkeypatch.setattr(os, "listdir", lambda folder: (looks.append(Path(folder).name), listdir(folder))[1])
    monkeypatch.setattr(Path, "lstat", lambda path: (looks.append(path.name), lstat(path))[1])
    assert [*take_snapshot(tmp_path, paths, {}).files] == sorted(paths)
    folders = [name for name in looks if "." not in name]
    assert sorted(folders) == ["data", "data", "deep", "deep", "more", "more"]  # once looked at, once listed


@pytest.mark.skipif(sys.platform != "linux", reason="file names there are text")
def test_a_file_whose_name_is_not_utf8_is_no_renamed_one(tmp_path: Path) -> None:
    for name in (b"caf\xe9.py", b"caf\xc3\xa9.py"):
        (tmp_path / os.fsdecode(name)).write_text("x = 1\n")
    assert [*take_snapshot(tmp_path, ["gone.py"], GONE).strays] == ["caf\u00e9.py"]
