"""Reading run directories: complete, damaged, foreign or linked ones, and runs whose process is gone."""

import json
import math
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.run_folders import STARTED, write_run

from paccel.errors import UsageError
from paccel.runs.folder import Best, find_runs, read_run


def test_a_run_is_read(tmp_path: Path) -> None:
    best = {"score": "loss", "mode": "min", "value": 0.5, "step": 30}
    data = {"eval": {"1": {"samples": 300, "content": "abc"}}}
    path = write_run(
        tmp_path / "run", commit="a" * 40 + "+", best=best, config={"data": data}, learning_rate=1e-3, seed=4
    )
    run = read_run(path)
    assert (run.name, run.state, run.step, run.epoch, run.started) == ("run", "finished", 30, 3, STARTED)
    assert run.settings == {"learning_rate": 1e-3, "seed": 4}
    assert (run.git_commit, run.dirty, run.data, run.damaged) == ("a" * 40, True, data, None)
    assert run.best == Best("eval/loss", "min", 0.5, 30)
    assert run.environment == {"num_processes": 1, "precision": "fp32"}
    assert [row["eval/loss"] for row in run.rows()] == [2.0, 1.0, 0.5] == [row["eval/loss"] for row in run.last_rows()]


@pytest.mark.slow
def test_what_the_runtime_writes_is_read(tmp_path: Path) -> None:
    record = pytest.importorskip("paccel.runtime.record.record")
    made = record.Record(tmp_path / "run")
    made.run_dir.mkdir()
    made.write_config({"seed": 3}, {"num_processes": 2, "precision": "bf16"})
    made.best = {"score": "accuracy", "mode": "max", "value": 0.9, "step": 20}
    made.log({"step": 20, "epoch": 1, "eval/accuracy": 0.9, "eval/loss": math.inf})
    assert made.claim({})
    run = read_run(made.run_dir)
    assert (run.state, run.note, run.damaged) == ("running", None, None)  # by this very process
    made.write_status("stopped", 20, 1, "SIGTERM")
    run = read_run(made.run_dir)
    assert (run.state, run.step, run.reason, run.settings) == ("stopped", 20, "SIGTERM", {"seed": 3})
    assert run.best == Best("eval/accuracy", "max", 0.9, 20)
    (row,) = run.rows()
    assert row["eval/accuracy"] == 0.9
    assert math.isnan(row["eval/loss"])


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("config.json", b"", "`config.json` is damaged: it is empty"),
        ("config.json", b'{"settings": {"a": 1}, ', "`config.json` is damaged: "),
        ("config.json", b"[1, 2]", "`config.json` is damaged: it is not a JSON object"),
        ("config.json", b'{"settings": [1]}', "`config.json` has no settings"),
        ("config.json", b"[" * 100_000, "`config.json` is damaged: it is nested too deeply"),
        ("config.json", b"\xff\xfe\x00", "`config.json` is damaged: "),
        ("status.json", b"{torn", "`status.json` is damaged: "),
        ("status.json", None, "`status.json` is missing"),
        ("config.json", None, "`config.json` is missing"),
    ],
)
def test_what_is_damaged_is_named(tmp_path: Path, file: str, content: bytes | None, said: str) -> None:
    path = write_run(tmp_path / "run")
    (path / file).unlink()
    if content is not None:
        (path / file).write_bytes(content)
    run = read_run(path)
    assert run.damaged is not None
    assert run.damaged.startswith(said)
    assert len(list(run.rows())) == 3  # the rest is there


@pytest.mark.parametrize(
    "status",
    [{"step": None, "started": "x"}, {"step": 1e400, "epoch": True}, {"state": ["running"]}, {"best": 5}, {"best": {}}],
)
def test_values_of_other_types_are_no_error(tmp_path: Path, status: dict[str, Any]) -> None:
    run = read_run(write_run(tmp_path / "run", status=status, config={"versions": 1, "git_commit": 7, "data": "x"}))
    assert run.best is None
    assert (run.versions, run.git_commit, run.data) == ({}, None, None)


def test_torn_and_foreign_lines_of_the_metrics_are_skipped(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run")
    with (path / "metrics.jsonl").open("ab") as file:
        file.write(b'\n[]\n{"epoch": 1}\n{"step": "x"}\n{"step": true}\n{"step": NaN}\nnull\n\xff\xff\n')
        file.write(b'{"step": 40, "eval/loss": 1e999, "note": "text", "eval/list": [1]}\n{"step": 50, "eval/lo')
    rows = list(read_run(path).rows())
    assert [row["step"] for row in rows] == [10, 20, 30, 40]
    assert rows[-1] == {"step": 40, "epoch": 0, "eval/loss": math.inf}
    assert [row["step"] for row in read_run(path).last_rows(150)] == [30, 40][-1:]


def test_of_large_metrics_the_end_is_read(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run")
    with (path / "metrics.jsonl").open("r+b") as file:
        file.truncate(1 << 40)  # a hole in the file, which no one could read in this test
        file.seek(0, os.SEEK_END)
        file.write(b'\n{"step": 999, "eval/loss": 0.25}\n')
    assert [row["step"] for row in read_run(path).last_rows()] == [999]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders")
def test_a_pipe_in_place_of_a_file_does_not_wait_for_ever(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run")
    for name in ("status.json", "metrics.jsonl"):
        (path / name).unlink()
        os.mkfifo(path / name)
    run = read_run(path)
    assert run.damaged == "`status.json` cannot be read: is not a regular file"
    assert run.last_rows() == []


def test_runs_are_found_at_any_depth_and_what_is_none_is_named(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    write_run(runs / "a")
    write_run(runs / "sweep" / "lr-1" / "seed-0")
    (runs / "b").mkdir()
    (runs / "b" / "metrics.jsonl").write_text("")  # killed when it had just begun
    (runs / "notes").mkdir()
    (runs / "readme.txt").write_text("")
    (runs / "gone.123.tmp").mkdir()
    (runs / ".hidden").mkdir()
    found = find_runs(tmp_path)  # the project: its `runs` are meant
    assert [run.name for run in found.runs] == ["a", "b", "sweep/lr-1/seed-0"]
    assert found.others == [("notes", "holds no run")]
    assert [run.name for run in find_runs(runs / "a").runs] == ["a"]


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_links_lead_to_each_run_once_and_never_in_circles(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    write_run(runs / "a")
    write_run(tmp_path / "elsewhere")
    (runs / "b").symlink_to(tmp_path / "elsewhere")
    (runs / "c").symlink_to(runs / "a")
    (runs / "d").symlink_to(runs)
    (runs / "e").symlink_to("e")
    (runs / "f").symlink_to("nowhere")
    found = find_runs(runs)
    assert [run.name for run in found.runs] == ["a", "b"]
    assert [name for name, reason in found.others if reason == "is the same folder as another one"] == ["c", "d"]


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="nowhere` does not exist: give a folder of runs"):
        find_runs(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="file` is not a folder"):
        find_runs(tmp_path / "file")
    assert find_runs(tmp_path).runs == []


def running(path: Path, **status: Any) -> tuple[str, str | None]:
    run = read_run(write_run(path, state="running", status=status))
    return run.state, run.note


def test_a_run_whose_process_is_gone_has_crashed(tmp_path: Path) -> None:
    here = socket.gethostname()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait(60)
    assert running(tmp_path, host=here, process=gone.pid, machine=machine()) == (
        "crashed",
        f"process {gone.pid} is gone",
    )
    assert running(tmp_path, host=here, process=os.getpid(), machine=machine()) == ("running", None)
    reused = {"process": os.getpid(), "process_began": "another time", "machine": machine()}
    assert running(tmp_path, host=here, **reused)[0] == ("crashed" if os.name != "nt" else "running")
    for process in (None, "x", 0, -1, True, 10**30):
        assert running(tmp_path, host=here, process=process, machine=machine())[0] == "crashed", process


def machine() -> str:
    from paccel.runs import state

    return state.machine()


def test_a_run_of_another_host_is_known_by_its_heartbeat(tmp_path: Path) -> None:
    now = time.time()
    assert running(tmp_path, updated=now - 20) == ("running", None)
    assert running(tmp_path, updated=now - 150) == ("running", "no heartbeat on host `elsewhere` for 2 minutes")
    assert running(tmp_path, updated=now - 7200) == ("crashed", "no heartbeat on host `elsewhere` for 2 hours")


def test_of_a_version_without_a_heartbeat_only_the_own_host_is_certain(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", state="running", status={"updated": time.time() - 90_000})
    status = json.loads((path / "status.json").read_text())
    del status["machine"]
    (path / "status.json").write_text(json.dumps(status))
    assert (read_run(path).state, read_run(path).note) == (
        "running",
        "on host `elsewhere`; the status was written 1 day ago",
    )
    (path / "status.json").write_text(json.dumps(status | {"host": socket.gethostname(), "process": -5}))
    assert read_run(path).state == "crashed"


def test_a_claim_is_a_run_that_starts(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run")
    (path / "status.json").write_text('{"claim": "abc"}')
    assert (read_run(path).state, read_run(path).note) == ("running", "it is starting")
