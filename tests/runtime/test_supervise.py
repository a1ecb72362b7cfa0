"""The supervisor: one exit code under every launcher, and signals that reach the processes that train."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from support.sampled import over_three_days

pytestmark = pytest.mark.slow

# Opens a run, as `Run` does, and exits as its arguments say. Without PyTorch, whose import takes seconds
WORKER = """
import json, os, signal, sys, time
from pathlib import Path
from paccel.runtime.record import supervised
from paccel.runtime.record.process import machine

run_dir, end, *rest = sys.argv[1:]
path = Path(run_dir, "status.json")

def write(state, step=0, reason=None):
    status = {"state": state, "step": step, "reason": reason, "process": os.getpid(), "machine": machine()}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(status))

if end == "imports":
    Path(run_dir + ".begun").touch()
    time.sleep(60)
write("running")
supervised.tell_run_dir(1, path.parent)
if end == "wait":
    came = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, lambda number, frame: came.append(number))
    if received := supervised.watch_for_signals():
        came.append(received)
    path.with_name("ready").touch()
    while not came:
        time.sleep(0.01)
    time.sleep(float(rest[0]))
    write("stopped", 5, signal.Signals(came[0]).name)
    sys.exit(int(rest[1]))
state, step, code = end.split(":")
write(state, int(step))
sys.exit(int(code)) if int(code) >= 0 else os.kill(os.getpid(), -int(code))
"""

# A launcher that, like torchrun, starts its process in a new session, ends it by SIGTERM, and turns any failure into a 1
LAUNCHER = """
import signal, subprocess, sys
worker = subprocess.Popen([sys.executable, *sys.argv[1:]], start_new_session=True)
def end(number, frame):
    worker.terminate()
    sys.exit(1)
signal.signal(signal.SIGTERM, end)
sys.exit(1 if worker.wait() else 0)
"""


@pytest.fixture
def supervised(tmp_path: Path) -> Callable[..., "subprocess.Popen[str]"]:
    """A function that starts a supervisor, a launcher and a worker in this folder."""
    (tmp_path / "worker.py").write_text(WORKER)
    (tmp_path / "launcher.py").write_text(LAUNCHER)
    (tmp_path / "tmp").mkdir()

    def start(*arguments: str) -> "subprocess.Popen[str]":
        launcher = [sys.executable, "launcher.py", "worker.py", "run"]
        # Children would inherit that `nohup` and background jobs ignore these
        ours = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGHUP, signal.SIGINT)}
        try:
            return subprocess.Popen(
                [sys.executable, "-m", "paccel.runtime.supervise", "--", *launcher, *arguments],
                cwd=tmp_path,
                env=os.environ | {"TMPDIR": str(tmp_path / "tmp")},
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        finally:
            for number, handler in ours.items():
                signal.signal(number, handler)

    return start


def await_file(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("end", "code"),
    over_three_days(
        [
            ("finished:9:0", 0),
            ("stopped:5:75", 75),
            ("stopped:5:0", 75),  # the exit code of train.py where torchrun would restart it
            ("failed:5:1", 1),
            ("running:5:-9", 75),  # killed, after it had saved
            ("running:0:-9", 1),  # killed before it had saved anything: it would be killed again
            ("finished:9:3", 1),  # the script failed after the run
        ]
    ),
)
def test_the_exit_code_is_that_of_the_run_whatever_the_launcher_says(supervised, end: str, code: int) -> None:
    with supervised(end) as started:
        assert started.wait(60) == code, started.communicate()


def test_how_an_earlier_start_ended_does_not_count(supervised, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for state in ("finished", "failed", "stopped"):
        (tmp_path / "run" / "status.json").write_text(json.dumps({"state": state, "step": 9}))
        with supervised("nonsense") as started:  # fails after it has opened the run
            assert started.wait(60) == 1
        assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "running"


@pytest.mark.parametrize(
    "name",
    [
        "SIGTERM",
        "SIGUSR1",
        "SIGINT",
        "SIGHUP",
        "SIGUSR2",
        "SIGQUIT",
        "SIGXCPU",
    ],
)
def test_a_signal_reaches_the_processes_that_train_and_not_the_launcher(supervised, tmp_path: Path, name: str) -> None:
    with supervised("wait", "0.3", "75") as started:
        await_file(tmp_path / "run" / "ready")
        started.send_signal(signal.Signals[name])
        assert started.wait(60) == 75, started.communicate()
    reason = name if name in ("SIGINT", "SIGHUP", "SIGUSR1") else "SIGTERM"
    assert json.loads((tmp_path / "run" / "status.json").read_text())["reason"] == reason
    assert [*(tmp_path / "tmp").iterdir()] == []


def test_a_signal_during_imports_ends_the_launcher_and_the_exit_code_asks_for_a_restart(
    supervised, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "status.json").write_text('{"state": "failed", "step": 9}')  # of an earlier start
    with supervised("imports") as started:
        await_file(tmp_path / "run.begun")
        started.send_signal(signal.SIGUSR1)
        assert started.wait(60) == 75, started.communicate()


def test_a_second_signal_ends_everything_without_waiting(supervised, tmp_path: Path) -> None:
    with supervised("wait", "60", "0") as started:
        await_file(tmp_path / "run" / "ready")
        for _ in range(2):
            started.send_signal(signal.SIGTERM)
            time.sleep(1.2)
        worker = json.loads((tmp_path / "run" / "status.json").read_text())["process"]
        started.send_signal(signal.SIGTERM)  # like one that hangs, this worker survives the second one
        assert started.wait(60) == 75, started.communicate()
    assert not psutil.pid_exists(worker) or psutil.Process(worker).status() == psutil.STATUS_ZOMBIE


def test_without_a_run_the_exit_code_is_the_launcher_s() -> None:
    for script, code in (("exit 0", 0), ("exit 75", 75), ("exit 2", 1), ("kill -9 $$", 1)):
        command = [sys.executable, "-m", "paccel.runtime.supervise", "--", "sh", "-c", script]
        assert subprocess.run(command, timeout=60, check=False).returncode == code, script


def test_a_command_that_is_missing_or_unknown_is_one_message() -> None:
    for arguments, code, message in (
        (["--"], 2, "which command? Put it after `--`"),
        (["--", "no-such-launcher"], 1, "error: `no-such-launcher` cannot be started: No such file or directory"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "paccel.runtime.supervise", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, "Traceback" in done.stderr) == (code, False)
        assert message in done.stderr


def test_it_starts_without_pytorch() -> None:
    program = "import sys, paccel.runtime.supervise; print(sorted({'torch', 'accelerate', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
