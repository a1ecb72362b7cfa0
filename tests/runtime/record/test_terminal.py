"""Training survives the loss of its output."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.sampled import over_three_days

from paccel.runtime.record import progress
from paccel.runtime.record.terminal import survive_lost_output

TESTS = Path(__file__).parents[2]
SCRIPT = (
    "from support.tiny_train import main, Config; from pathlib import Path; import sys; main(Config(Path(sys.argv[1])))"
)


def text(descriptor: int, encoding: str = "utf-8") -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BufferedWriter(io.FileIO(descriptor, "w", closefd=False)), encoding=encoding)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for end in (reader, writer):
        try:
            os.close(end)
        except OSError:  # a test has closed it
            continue


def test_printed_text_arrives(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", text(pipe[1], "ascii"))
    survive_lost_output()
    progress.say("loss ≤ 1")
    assert os.read(pipe[0], 100) == b"loss \\u2264 1\n"  # a terminal without that character has an escape


def test_text_for_a_closed_pipe_is_discarded(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", text(pipe[1]))
    survive_lost_output()
    os.close(pipe[0])
    with pytest.raises(BrokenPipeError):
        os.write(pipe[1], b"x")
    for _ in range(3):
        progress.say("x" * 100_000)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_text_for_a_full_disk_is_discarded(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "wb") as full:
        for name in ("stdout", "stderr"):
            monkeypatch.setattr(sys, name, text(full.fileno()))
        survive_lost_output()
        progress.say("x")
        print("x", file=sys.stderr, flush=True)


def test_text_that_would_block_is_discarded(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    os.set_blocking(pipe[1], False)
    monkeypatch.setattr(sys, "stdout", text(pipe[1]))
    survive_lost_output()
    for _ in range(3):
        progress.say("x" * 100_000)


def test_an_output_that_was_closed_from_the_start_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    survive_lost_output()
    progress.say("x")
    with progress.bar(3, 0, shown=True, description="x") as bar:
        bar.update()
    sys.stdout.close()
    sys.stderr.close()


def test_a_notebook_s_output_and_one_that_discards_already_stay(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for own in (io.StringIO(), io.TextIOWrapper(io.BytesIO())):
        monkeypatch.setattr(sys, "stdout", own)
        survive_lost_output()
        assert sys.stdout is own
    monkeypatch.setattr(sys, "stdout", text(pipe[1]))
    survive_lost_output()
    found = sys.stdout
    survive_lost_output()
    assert sys.stdout is found


@pytest.mark.slow
@pytest.mark.parametrize("redirected", over_three_days(["2>&1 | head -n 1", ">&- 2>&-", "> /dev/full 2> /dev/full"]))
def test_a_run_whose_output_is_lost_finishes(tmp_path: Path, redirected: str) -> None:
    command = f'"$0" -c "$1" "$2" {redirected}; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(
        ["bash", "-c", command, sys.executable, SCRIPT, str(tmp_path / "run")],
        env=os.environ | {"PYTHONPATH": str(TESTS), "FAULT": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert (status["state"], status["step"]) == ("finished", 18)
    assert (tmp_path / "run" / "weights" / "final.safetensors").exists()
