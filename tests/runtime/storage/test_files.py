"""Writing files on a disk that cannot sync folders, is full, or is read-only."""

import errno
import json
import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.quick import quick_first
from support.tiny_train import Config
from torch import nn

from paccel.runtime import Checkpoints, Run, exit_with_message
from paccel.runtime.record.record import Record
from paccel.runtime.storage.files import append, atomic_write, sync_folder


def fail_to_sync(monkeypatch: pytest.MonkeyPatch, number: int, *, folders: bool) -> None:
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode) == folders:
            raise OSError(number, os.strerror(number))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


class TestAFolderThatCannotBeSynced:
    @pytest.mark.parametrize("name", ["EINVAL", "ENOTSUP", "ENOSYS", "EACCES", "EBADF"])
    def test_its_error_is_ignored(self, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        fail_to_sync(monkeypatch, getattr(errno, name), folders=True)
        atomic_write(tmp_path / "a", b"x")
        assert (tmp_path / "a").read_bytes() == b"x"

    def test_so_is_the_error_of_opening_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: Any) -> int:
            raise PermissionError(errno.EACCES, "Permission denied")  # as on Windows

        monkeypatch.setattr(os, "open", refuse)
        sync_folder(tmp_path)

    @pytest.mark.parametrize("name", ["EIO", "ENOSPC", "EROFS"])
    def test_a_failing_disk_is_an_error_that_names_the_file(
        self, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fail_to_sync(monkeypatch, getattr(errno, name), folders=True)
        with pytest.raises(OSError, match=f"{os.strerror(getattr(errno, name))}: '{tmp_path / 'a'}'"):
            atomic_write(tmp_path / "a", b"x")

    def test_files_must_still_be_synced(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fail_to_sync(monkeypatch, errno.EINVAL, folders=False)
        with pytest.raises(OSError, match=f"Invalid argument: '{tmp_path / 'a'}'"):
            atomic_write(tmp_path / "a", b"x")
        assert list(tmp_path.iterdir()) == []


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """A limit on file size, as by `ulimit -f`: a write is cut off at the limit, and the next one fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_line_that_does_not_fit_on_the_disk_is_not_written_partly(tmp_path: Path) -> None:
    append(tmp_path / "a", b"x" * 90 + b"\n")
    with largest_file(100), pytest.raises(OSError, match=f"File too large: '{tmp_path / 'a'}'"):
        append(tmp_path / "a", b"y" * 50 + b"\n")
    append(tmp_path / "a", b"z\n")
    assert (tmp_path / "a").read_bytes() == b"x" * 90 + b"\nz\n"


def no_room(monkeypatch: pytest.MonkeyPatch, number: int, *names: str) -> None:
    """Let writes fail if the name of the file contains one of `names`."""
    real = Path.open

    def refuse(path: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
        if any(name in str(path) for name in names) and mode[0] != "r":
            raise OSError(number, os.strerror(number), str(path))
        return real(path, mode, *args, **options)

    monkeypatch.setattr(Path, "open", refuse)


@pytest.mark.parametrize("name", ["ENOSPC", "EFBIG", "EROFS", "EDQUOT"])
@pytest.mark.parametrize(
    "file", quick_first(["metrics.jsonl", "model.safetensors", "manifest.json", "final.safetensors"])
)
def test_a_run_that_cannot_write_ends_with_one_message_and_says_so_in_its_status(
    tmp_path: Path, name: str, file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    number = getattr(errno, name)
    with pytest.raises(SystemExit) as caught, exit_with_message(), Run(Config(tmp_path / "run")) as run:
        checkpoints = Checkpoints(run, model=nn.Linear(1, 1))
        checkpoints.restore()
        run.position.step = 1
        no_room(monkeypatch, number, file)
        run.log("train", loss=1.0)
        checkpoints.save()
        checkpoints.save_weights("final")
    assert caught.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: `")
    assert line.endswith(f"{file}`: {os.strerror(number)}")
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert (status["state"], status["step"]) == ("failed", 1)
    assert file in status["reason"]


def test_a_status_that_cannot_be_written_at_the_end_is_one_message_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught, exit_with_message(), Run(Config(tmp_path / "run")):
        no_room(monkeypatch, errno.ENOSPC, "status.json")
    assert caught.value.code == 1
    assert capsys.readouterr().err == f"error: `{tmp_path / 'run' / 'status.json'}`: No space left on device\n"
    status = json.loads((tmp_path / "run" / "status.json").read_text())  # there is room to overwrite the old one
    assert (status["state"], status["reason"].split(": ")[1]) == ("failed", "OSError")


def test_a_failure_replaces_a_longer_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = Record(tmp_path)
    assert record.claim({})
    record.write_status("running", 1, 1, "x" * 1000)
    no_room(monkeypatch, errno.ENOSPC, ".tmp")
    record.write_failure(OSError(errno.ENOSPC, "No space left on device"), 2, 1, None)
    status = json.loads((tmp_path / "status.json").read_text())
    assert (status["state"], status["step"]) == ("failed", 2)
