"""Following a run while it trains."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.run_folders import write_run

from paccel.runs.scores import Point
from paccel.runs.watch import Tail, follow, picture, spark

LIVE = {"state": "running", "updated": 0}


def test_a_line_counts_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = Tail(path)
    assert tail.read() == ([], False)
    path.write_text('{"step": 1, "eval/loss": 2}\n{"step": 2, "eval')
    rows, is_restarted = tail.read()
    assert ([row["step"] for row in rows], is_restarted) == ([1], True)
    with path.open("a") as file:
        file.write('/loss": 1}\n')
    assert tail.read() == ([{"step": 2, "epoch": 0, "eval/loss": 1}], False)
    assert tail.read() == ([], False)


@pytest.mark.parametrize("in_place", [True, False])
def test_a_run_that_is_resumed_has_fewer_lines_and_is_read_anew(tmp_path: Path, in_place: bool) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(f'{{"step": {step}, "eval/loss": 1}}\n' for step in range(1, 6)))
    tail = Tail(path)
    tail.read()
    other = path if in_place else tmp_path / "other"
    other.write_text("".join(f'{{"step": {step}, "eval/loss": 2}}\n' for step in range(1, 4)))
    os.replace(other, path)
    rows, is_restarted = tail.read()
    assert ([row["step"] for row in rows], is_restarted) == ([1, 2, 3], True)


def test_what_a_run_writes_before_it_ends_is_seen(tmp_path: Path) -> None:
    now = time.time()
    path = write_run(tmp_path / "run", {"eval/loss": [2.0]}, status=LIVE | {"updated": now}, state="running")
    seen = []

    def goes_on(_: float) -> None:
        write_run(path, {"eval/loss": [2.0, 1.0]}, state="finished")

    for news in follow(path, 1.0, goes_on):
        seen.append((news.run.state, [row["step"] for row in news.rows]))
    assert seen[0] == ("running", [10])
    assert seen[1][0] == "finished"
    assert seen[1][1][-1] == 20


def test_curves_as_text() -> None:
    falling = [Point(step, 8.0 - step) for step in range(8)]
    assert spark(falling, 80) == "█▇▆▅▄▃▂▁"
    assert len(spark(falling * 100, 30)) == 30
    assert spark([Point(1, math.nan), Point(2, 1.0)], 9) == "!▄"
    assert spark([], 9) == ""
    cells, low, high = picture([falling, [Point(0, 1.0), Point(7, math.nan)]], 20, 5)
    assert (low, high) == (1.0, 8.0)
    assert {len(line) for line in cells} == {20}
    assert cells[0][0] == ("⠑", 0) or cells[0][0][1] == 0
    assert cells[4][19][1] == 0
    assert cells[4][0][1] == 1
    assert picture([[]], 4, 2) == ([[(" ", -1)] * 4] * 2, 0.0, 0.0)


@pytest.mark.parametrize(
    ("state", "reason", "code"),
    [("finished", None, 0), ("stopped", "SIGTERM", 75), ("failed", "step 3: ValueError", 1)],
)
def test_watch_ends_as_the_run_does(paccel: Any, work: Path, state: str, reason: str | None, code: int) -> None:
    write_run(work / "runs" / "old", started=1.0)
    write_run(work / "runs" / "new", {"eval/loss": [2.0], "train/loss": [2.5]}, state=state, status={"reason": reason})
    done = paccel("watch")
    why = f" ({reason})" if reason else ""
    assert done.code == code
    assert done.out.splitlines() == [
        "step     10  epoch  1  eval/loss 2  train/loss 2.5000",
        f"{state} at step 10{why}, see {Path('runs', 'new')}",
    ]
    rows = [json.loads(line) for line in paccel("watch", "new", "--json").out.splitlines()]
    assert rows[0]["eval/loss"] == 2.0
    assert rows[-1] == {"state": state, "step": 10, "reason": reason}
    assert paccel("watch", "runs/new", "--html", "page.html").code == code
    assert 'http-equiv="refresh"' not in (work / "page.html").read_text()  # it does not change any more


def test_what_cannot_be_watched_is_an_error(paccel: Any, work: Path) -> None:
    assert "`nowhere` is neither a run nor a folder of runs" in paccel("watch", "nowhere").err
    (work / "runs").mkdir()
    assert "There are no runs in `runs`" in paccel("watch").err
    path = write_run(work / "runs" / "odd")
    (path / "status.json").write_text("{")
    done = paccel("watch", "odd", "--every", "0.05")
    assert (done.code, done.err.count("has no readable status")) == (3, 1)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no such signal on Windows")
def test_ctrl_c_ends_watching_quietly(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", state="running", status={"updated": time.time()})
    command = [sys.executable, "-m", "paccel", "watch", str(path), "--every", "0.1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("step     10")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert (process.returncode, err) == (130, "")
    assert "Traceback" not in out


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no terminals of this kind on Windows")
def test_in_a_terminal_curves_are_drawn(tmp_path: Path) -> None:
    import pty

    write_run(
        tmp_path / "run", {"eval/loss": [3.0, 2.0, 1.0], "eval/f1": [0.1, 0.2, 0.3], "train/loss": [4.0, 2.0, 1.0]}
    )
    main, other = pty.openpty()
    environment = os.environ | {"COLUMNS": "70", "LINES": "20", "PYTHONUTF8": "1"}
    command = [sys.executable, "-m", "paccel", "watch", str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=other, stdin=other, env=environment)
    os.close(other)
    shown = b""
    try:
        while piece := os.read(main, 4096):
            shown += piece
    except OSError:
        pass  # the end of a terminal
    finally:
        os.close(main)
    assert process.wait(60) == 0
    text = shown.decode()
    assert "eval/loss" in text
    assert "train/loss" in text
    assert "▁▄█" in text.replace("▅", "▄")  # the f1 in one line
    assert any(0x2801 <= ord(sign) <= 0x28FF for sign in text)
