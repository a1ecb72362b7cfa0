"""Jobs without training: Ctrl-C and a limit in seconds let the scripts save."""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from paccel.experiments.repeat import Job, run_jobs
from paccel.experiments.start import last_lines, script_command
from paccel.runs.folder import read_run

# Stands for a train.py: writes a status, waits, and at the first signal saves for two seconds; at a second one it ends.
SCRIPT = """
import json, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[sys.argv.index("--run-dir") + 1])
folder.mkdir(exist_ok=True)
asked = []
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1) if asked else asked.append(number))
(folder / "config.json").write_text('{"settings": {"seed": 0}}')
while not asked:
    time.sleep(0.02)
time.sleep(1.5)
(folder / "status.json").write_text(json.dumps({"state": "stopped", "step": 7, "reason": "SIGTERM"}))
sys.exit(75)
"""


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX", "UV_PROJECT_ENVIRONMENT"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "train.py").write_text(SCRIPT)
    return [Job(name, tmp_path / "runs" / name, {"seed": 0}, tmp_path) for name in ("a", "b")]


@pytest.mark.slow
def test_a_budget_in_seconds_stops_each_run_with_one_signal(jobs: list[Job]) -> None:
    outcomes = run_jobs(jobs, read_run(jobs[0].run_dir), at_once=2, seconds=3.0)
    assert [(outcome.state, outcome.reason) for outcome in outcomes] == [("stopped", "at step 7: SIGTERM")] * 2


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no SIGINT for a thread")
def test_an_interrupt_lets_all_runs_save(jobs: list[Job]) -> None:
    def interrupt() -> None:
        while not all((job.run_dir / "config.json").exists() for job in jobs):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        threading.Thread(target=interrupt, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            run_jobs(jobs, read_run(jobs[0].run_dir), at_once=2)
    finally:
        signal.signal(signal.SIGINT, before)
    for job in jobs:
        assert json.loads((job.run_dir / "status.json").read_text())["step"] == 7


def test_the_script_runs_in_the_projects_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX", "UV_PROJECT_ENVIRONMENT"):
        monkeypatch.delenv(name, raising=False)
    assert script_command(tmp_path, "train.py") == [sys.executable, "train.py"]
    assert script_command(tmp_path, "train.py", 2)[-3:] == ["--nproc-per-node", "2", "train.py"]
    monkeypatch.setenv("VIRTUAL_ENV", "/other")
    assert script_command(tmp_path, "train.py")[0].startswith("/other")


def test_the_end_of_an_output_begins_with_its_error(tmp_path: Path) -> None:
    output = tmp_path / "log"
    output.write_text("training: 10%|#\rstarted\nresuming\n 20%|## \nerror: no data\nFor all settings: --help\n")
    assert last_lines(output) == "error: no data\n  For all settings: --help"
    output.write_text("one\ntwo\n")
    assert last_lines(output, 1) == "two"
