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

# Opens a run, as `Run` does, and ends as its arguments say; without PyTorch, which would take seconds
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

# A launcher that, as torchrun, puts each process into a session of its own, ends them by SIGTERM and says 1 of any failure
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
    """Start the supervisor of a launcher of a worker in this folder."""
    (tmp_path / "worker.py").write_text(WORKER)
    (tmp_path / "launcher.py").write_text(LAUNCHER)
    (tmp_path / "tmp").mkdir()

    def start(*arguments: str) -> "subprocess.Popen[str]":
        launcher = [sys.executable, "launcher.py", "worker.py", "run"]
        # What `nohup` and a shell's background jobs ignore would be ignored by what is started too
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
            ("stopped:5:0", 75),  # as train.py ends where torchrun would restart it
            ("failed:5:1", 1),
            ("running:5:-9", 75),  # killed, after it had saved
            ("running:0:-9", 1),  # killed before it had saved anything: it would be again
            ("finished:9:3", 1),  # what the script did after the run failed
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
def test_a_signal_reaches_the_processes_that_train_and_the_launcher_goes_on(
    supervised, tmp_path: Path, name: str
) -> None:
    with supervised("wait", "0.3", "75") as started:
        await_file(tmp_path / "run" / "ready")
        started.send_signal(signal.Signals[name])
        assert started.wait(60) == 75, started.communicate()
    reason = name if name in ("SIGINT", "SIGHUP", "SIGUSR1") else "SIGTERM"
    assert json.loads((tmp_path / "run" / "status.json").read_text())["reason"] == reason
    assert [*(tmp_path / "tmp").iterdir()] == []


def test_a_signal_while_python_imports_ends_the_launcher_and_the_run_is_to_be_started_again(
    supervised, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "status.json").write_text('{"state": "failed", "step": 9}')  # of an earlier start
    with supervised("imports") as started:
        await_file(tmp_path / "run.begun")
        started.send_signal(signal.SIGUSR1)
        assert started.wait(60) == 75, started.communicate()


def test_a_second_signal_ends_all_of_it_without_waiting(supervised, tmp_path: Path) -> None:
    with supervised("wait", "60", "0") as started:
        await_file(tmp_path / "run" / "ready")
        for _ in range(2):
            started.send_signal(signal.SIGTERM)
            time.sleep(1.2)
        worker = json.loads((tmp_path / "run" / "status.json").read_text())["process"]
        started.send_signal(signal.SIGTERM)  # this worker does not end by the second one, as one that hangs
        assert started.wait(60) == 75, started.communicate()
    assert not psutil.pid_exists(worker) or psutil.Process(worker).status() == psutil.STATUS_ZOMBIE


def test_without_a_run_it_is_the_launcher_s_own_code() -> None:
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
