"""A project with every kind of change, upgraded from its trees alone, and its expected contents."""

from pathlib import Path

from paccel.catalog.metadata import TemplateRef
from paccel.files import disk
from paccel.files.tree import File, Tree, write_tree
from paccel.project.snapshot import take_snapshot
from paccel.project.state import Manifest, read_state, state_bytes, write_state
from paccel.upgrade import apply
from paccel.upgrade.change import FileChange
from paccel.upgrade.journal import UNDO_DIR, UPGRADE_DIR
from paccel.upgrade.plan import UpgradeOptions, plan_files

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
    return plan_files(base, take_snapshot(root, {*base, *theirs}, base), theirs, UpgradeOptions()).changes


def upgraded(root: Path, theirs: Tree) -> None:
    with disk.locked(root):
        apply.clear_leftovers(root)
        state = state_bytes(Manifest.of(REF, {}, theirs), theirs)
        apply.start(root, changes(root, theirs), state, ("yours", "old template", "new template"))


def undone(root: Path) -> None:
    with disk.locked(root):
        apply.undo(root)


def contents(root: Path) -> Files:
    """Every file and folder except the journal's, with modes."""
    found: Files = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if not name.startswith((UPGRADE_DIR, UNDO_DIR)):
            found[name] = (b"" if path.is_dir() else path.read_bytes(), path.stat().st_mode & 0o7777)
    return found
