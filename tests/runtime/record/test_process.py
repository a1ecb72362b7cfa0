"""Whether a process still runs, although numbers are reused and a parent may be slow to notice an exit."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from paccel.runs import state
from paccel.runtime.record.process import is_running, machine, start_time

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")


def test_the_generator_names_this_machine_as_the_runtime_does() -> None:
    assert state.machine() == machine()


def test_a_process_runs_until_it_has_exited() -> None:
    assert is_running(os.getppid(), start_time(os.getppid()))
    assert is_running(os.getppid(), None)
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait(60)
    assert not is_running(child.pid, None)


@needs_proc
def test_another_process_of_the_same_number_is_not_meant() -> None:
    assert not is_running(os.getppid(), "another time")


@needs_proc
def test_a_zombie_does_not_run() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    began = start_time(child.pid)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has exited, and stays a zombie until `wait`
    assert start_time(child.pid) == began
    assert not is_running(child.pid, began)
    child.communicate(timeout=60)
