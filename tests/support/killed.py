"""Kill an action at a write, before it or half-way, and then finish it or undo it."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from paccel.files import disk
from paccel.upgrade import apply
from paccel.upgrade.journal import read_journal
from support.applied import Files, contents
from support.sampled import sampled

WRITES = (
    "write_file",
    "replace_file",
    "rename",
    "remove_file",
    "make_folder",
    "remove_empty_folder",
    "remove_folder",
)
_IN_TWO = {"write_file", "remove_folder"}
"""Those that a crash can leave half done."""


def intercept(monkeypatch: pytest.MonkeyPatch, at: Callable[[str, Callable[[], None]], None]) -> None:
    """Call `at(name, half)` before each write; `half` does a part of the write, like a crash in its middle."""
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
    """Yield copies of `root` in which `action` was killed at each write in turn: before it, or half-way."""
    for in_the_middle in (False, True):
        for number in range(1000):
            copy = folder / f"{number}-{in_the_middle}"
            shutil.copytree(root, copy, symlinks=True)
            if not _killed(copy, action, number, in_the_middle):
                break
            yield copy
            shutil.rmtree(copy)
        else:
            raise AssertionError("it never ends")


def killed_at_some_writes(root: Path, action: Callable[[Path], object], folder: Path, count: int) -> Iterator[Path]:
    """The same for `count` of the writes, drawn with the seed of the day."""
    ideal = shutil.copytree(root, folder / "counted", symlinks=True)
    names: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        intercept(patch, lambda name, half: names.append(name))
        action(ideal)
    shutil.rmtree(ideal)
    in_two = [name for name in names if name in _IN_TWO]
    points = [(number, False) for number in range(len(names))] + [(number, True) for number in range(len(in_two))]
    for number, in_the_middle in sampled(points, count):
        copy = folder / f"{number}-{in_the_middle}"
        shutil.copytree(root, copy, symlinks=True)
        assert _killed(copy, action, number, in_the_middle), f"write {number} of {len(names)}"
        yield copy
        shutil.rmtree(copy)


def _killed(copy: Path, action: Callable[[Path], object], number: int, in_the_middle: bool) -> bool:
    """Run an action in a child that is killed at a write; return whether it got there."""
    child = os.fork()
    if child == 0:
        with pytest.MonkeyPatch.context() as patch:
            seen = iter(range(number))

            def at(name: str, half: Callable[[], None]) -> None:
                if in_the_middle and name not in _IN_TWO:
                    return
                if next(seen, None) is None:
                    if in_the_middle:
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
    return code == 9


def finish_and_go_back(copy: Path, before: Files, after: Files, folder: Path) -> None:
    """Check that `copy`, in whatever state, can be finished to `after`, and undone to `before`."""
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
