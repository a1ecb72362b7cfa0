"""`paccel new` in a folder with files: only files at the paths of template files are in the way."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from paccel.catalog.metadata import TemplateRef
from paccel.errors import UsageError
from paccel.files import disk
from paccel.files.tree import File, read_tree
from paccel.project import folder
from paccel.project.folder import check_room, create_project
from paccel.project.state import Manifest, read_state

Run = Callable[..., Any]
Make = Callable[..., Path]

TREE = {
    "README.md": File(b"# net\n"),
    "src/net/model.py": File(b"x = 1\n"),
    "src/train.py": File(b"print(1)\n"),
    "tests/run.sh": File(b"#!/bin/sh\n", executable=True),
}
MANIFEST = Manifest.of(TemplateRef("demo", "demo", "0" * 64), {"project_name": "net"}, TREE)

needs_links = pytest.mark.skipif(os.name == "nt", reason="symbolic links need rights there")


def listing(root: Path) -> Mapping[str, object]:
    """Everything below `root`: links with their targets, folders, files with their content."""
    found: dict[str, object] = {}
    for path in root.rglob("*"):
        name = path.relative_to(root).as_posix()
        found[name] = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else "folder"
    return found


def test_other_files_stay_and_are_nobodys_business(tmp_path: Path, write: Callable[..., Path]) -> None:
    mine = {".git/config": "x", ".venv/bin/python": "x", ".idea/a.xml": "x", "LICENSE": "x", "src/other/mine.py": "x"}
    root = write(tmp_path / "repo", mine)
    inode = (root / "src").stat().st_ino
    create_project(root, MANIFEST, TREE)
    assert read_state(root) == (MANIFEST, TREE)
    assert {path: file for path, file in read_tree(root).items() if path in TREE} == TREE
    assert all((root / path).read_text() == text for path, text in mine.items())
    assert (root / "src").stat().st_ino == inode
    assert sorted(os.listdir(root)) == sorted(
        [".git", ".idea", ".paccel", ".venv", "LICENSE", "README.md", "src", "tests"]
    )


def test_a_file_with_the_same_content_is_in_nobodys_way(tmp_path: Path, write: Callable[..., Path]) -> None:
    root = write(tmp_path / "repo", {"README.md": "# net\n", "tests/run.sh": "#!/bin/sh\n"})
    inode = (root / "README.md").stat().st_ino
    create_project(root, MANIFEST, TREE)
    assert (root / "README.md").stat().st_ino == inode
    assert read_state(root) == (MANIFEST, TREE)


@pytest.mark.parametrize(
    ("mine", "named"),
    [
        ({"README.md": "mine\n", "src/train.py": "mine\n"}, "`README.md`, `src/train.py`;"),
        ({"README.md": "# net\r\n"}, "`README.md`;"),
        ({"src": "a file\n"}, "`src` (a file);"),
        ({"src/net": "a file\n"}, "`src/net` (a file);"),
        ({"README.md/a.txt": ""}, "`README.md` (a folder);"),
        ({"readme.md": ""}, "`readme.md` (`README.md` in the template);"),
        ({"Src/mine.py": ""}, "`Src` (`src` in the template);"),
        ({"src/NET/mine.py": ""}, "`src/NET` (`src/net` in the template);"),
    ],
)
def test_what_is_in_the_way_is_named_and_nothing_is_written(
    tmp_path: Path, write: Callable[..., Path], mine: dict[str, str], named: str
) -> None:
    root = write(tmp_path / "repo", mine)
    before = listing(root)
    with pytest.raises(UsageError) as caught:
        create_project(root, MANIFEST, TREE)
    assert f"has files where the template's would go: {named} move them away" in str(caught.value)
    assert listing(root) == before


def test_names_that_differ_in_how_accents_are_written_are_one_name(tmp_path: Path) -> None:
    (tmp_path / "cafe\u0301.md").write_text("mine\n")  # as macOS spells it
    with pytest.raises(UsageError, match="in the template"):
        check_room(tmp_path, {"caf\u00e9.md": File(b"")})


@needs_links
@pytest.mark.parametrize("path", ["src", "README.md", "src/net"])
def test_nothing_is_written_through_a_link(tmp_path: Path, path: str) -> None:
    root, outside = tmp_path / "repo", tmp_path / "outside"
    (root / path).parent.mkdir(parents=True)
    outside.mkdir()
    (root / path).symlink_to(outside)
    with pytest.raises(UsageError, match=rf"`{path}` \(a symbolic link\)"):
        create_project(root, MANIFEST, TREE)
    assert not list(outside.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="no FIFOs there")
def test_a_pipe_is_in_the_way_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "README.md")
    with pytest.raises(UsageError, match=r"`README\.md`;"):
        check_room(tmp_path, TREE)


def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_state = folder.write_state

    def late(*arguments: Any) -> None:
        write_state(*arguments)
        (tmp_path / "tests").mkdir()
        (tmp_path / "tests" / "run.sh").write_text("theirs\n")

    monkeypatch.setattr(folder, "write_state", late)
    with pytest.raises(UsageError, match="appeared while"):
        create_project(tmp_path, MANIFEST, TREE)
    assert listing(tmp_path) == {"tests": "folder", "tests/run.sh": b"theirs\n"}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "Ctrl-C"])
@pytest.mark.parametrize("number", range(5))
def test_a_failure_at_any_file_leaves_what_was_there(
    tmp_path: Path, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, number: int, error: BaseException
) -> None:
    root = write(tmp_path / "repo", {"src/mine.py": "x", "tests/mine.py": "x", "README.md": "# net\n"})
    before, rename, done = listing(root), disk.rename, 0

    def fail(source: Path, target: Path) -> None:
        nonlocal done
        done += 1
        if done > number:
            raise error
        rename(source, target)

    monkeypatch.setattr(disk, "rename", fail)
    expected = UsageError if isinstance(error, OSError) else KeyboardInterrupt
    if number < 4:  # src/net, src/train.py, tests/run.sh, .paccel
        with pytest.raises(expected):
            create_project(root, MANIFEST, TREE)
        assert listing(root) == before
    else:
        create_project(root, MANIFEST, TREE)
        assert read_state(root) == (MANIFEST, TREE)


@pytest.mark.skipif(os.name == "nt", reason="signal 0 is no question there")
@pytest.mark.parametrize("exists", [False, True])
def test_what_a_killed_new_left_is_removed_and_nothing_else(
    tmp_path: Path, write: Callable[..., Path], exists: bool
) -> None:
    root = tmp_path / "net"
    place = write(root, {"mine.py": ""}) if exists else tmp_path
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait(timeout=60)
    names = [f".net.paccel-{number}" for number in (gone.pid, 10**30, os.getppid(), "notes")]
    for name in names:
        write(place / name, {"half.py": "x"})
    (place / f".net.paccel-{10**29}").write_text("a file\n")
    create_project(root, MANIFEST, TREE)
    left = sorted(name for name in os.listdir(place) if ".paccel-" in name)
    assert left == sorted([f".net.paccel-{10**29}", *names[2:]])


KILLED = """
import os, sys
from pathlib import Path
from paccel.files import disk
from paccel.cli import main

rename, left = disk.rename, int(sys.argv.pop(1))

def one_of_few(source, target):
    global left
    if not left:
        os.kill(os.getpid(), 9)
    left -= 1
    rename(source, target)

disk.rename = one_of_few
main()
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal there")
def test_the_same_command_completes_what_was_killed(work: Path, template: Make, paccel: Run) -> None:
    demo = template({"a.py": "a = 1\n", "b.py": "b = 1\n", "src/c.py": "c = 1\n"})
    for renames in range(4):
        root = work / f"net{renames}"
        (root / "src").mkdir(parents=True)
        (root / "LICENSE").write_text("mine\n")
        arguments = ["new", str(root), "--template", str(demo)]
        done = subprocess.run([sys.executable, "-c", KILLED, str(renames), *arguments], timeout=120, check=False)
        assert done.returncode == -signal.SIGKILL
        whole = {"a.py": b"a = 1\n", "b.py": b"b = 1\n", "src/c.py": b"c = 1\n", "LICENSE": b"mine\n"}
        files = {path: content for path, content in listing(root).items() if not path.startswith(f".net{renames}.pac")}
        assert {path: content for path, content in files.items() if content != "folder"}.items() <= whole.items()
        assert not (root / ".paccel").exists()
        assert paccel(*arguments).code == 0
        assert sorted(os.listdir(root)) == [".paccel", "LICENSE", "a.py", "b.py", "src"]
        read_state(root)


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_fresh_clone_becomes_a_project_named_after_its_folder(
    work: Path, template: Make, paccel: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo = template({"train.py": "a = 1\n"})
    subprocess.run(["git", "init", "-q", "my-net"], cwd=work, check=True, timeout=60)
    (work / "my-net" / "LICENSE").write_text("mine\n")
    monkeypatch.chdir(work / "my-net")
    assert paccel("new", ".", "--template", demo, "--dry-run").code == 0
    assert sorted(os.listdir()) == [".git", "LICENSE"]
    assert paccel("new", ".", "--template", demo).code == 0
    assert read_state(Path())[0].answers == {"project_name": "my-net"}
    again = paccel("new", ".", "--template", demo)
    assert (again.code, again.err.startswith("Error: `.` is a paccel project already")) == (2, True)
