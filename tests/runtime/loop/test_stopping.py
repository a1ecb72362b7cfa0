"""All processes stop at the same step, and a failure on one ends all."""

import json
import os
import signal
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

from paccel.runtime.hardware.agreement import Agreement
from paccel.runtime.loop import stopping


def status(run_dir: Path) -> dict:
    return json.loads((run_dir / "status.json").read_text())


@pytest.mark.slow
def test_a_signal_saves_and_exits_with_75(start, tmp_path: Path) -> None:
    done = start(tmp_path / "run", fault="SIGTERM:5:0")
    assert done.returncode == 75, done.stderr
    assert (status(tmp_path / "run")["state"], status(tmp_path / "run")["reason"]) == ("stopped", "SIGTERM")
    assert (tmp_path / "run" / "checkpoints" / "step-5" / "manifest.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGUSR1"])
def test_other_signals_do_the_same(start, tmp_path: Path, name: str) -> None:
    assert start(tmp_path / "run", fault=f"{name}:5:0").returncode == 75
    assert status(tmp_path / "run")["reason"] == name
    assert (tmp_path / "run" / "checkpoints" / "step-5").exists()


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_second_signal_ends_at_once_without_saving(start, tmp_path: Path, processes: int) -> None:
    done = start(tmp_path / "run", fault="twice:5:0", processes=processes)
    assert done.returncode == -signal.SIGTERM
    assert {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()} == {"step-2", "step-4"}


@pytest.mark.slow
def test_the_same_signal_passed_on_by_a_launcher_is_not_a_second_one(start, tmp_path: Path) -> None:
    assert start(tmp_path / "run", fault="echo:5:0").returncode == 75
    assert (tmp_path / "run" / "checkpoints" / "step-5").exists()


@pytest.mark.parametrize("place", ["eval", "write"])
@pytest.mark.slow
def test_a_signal_during_evaluation_or_a_save_loses_nothing(start, metrics, tmp_path: Path, place: str) -> None:
    assert start(tmp_path / "straight").returncode == 0
    run_dir = tmp_path / "run"
    stopped = start(run_dir, fault="SIGTERM@eval:8:0" if place == "eval" else "SIGTERM@write:30")
    assert stopped.returncode == 75, stopped.stderr
    assert status(run_dir)["state"] == "stopped"
    if place == "eval":
        assert "SIGTERM received: finishing this evaluation, then saving and stopping" in stopped.stdout
        assert status(run_dir)["step"] == 8
        assert [line["step"] for line in metrics(run_dir) if "eval/loss" in line] == [4, 8]
    assert start(run_dir, resume="auto").returncode == 0
    assert metrics(run_dir) == metrics(tmp_path / "straight")


@pytest.mark.parametrize(("seconds", "steps"), [(0.001, 8), (0.3, 3), (0.9, 1), (20.0, 1)])
def test_several_processes_look_every_8_steps_and_more_often_where_they_are_slow(
    monkeypatch: pytest.MonkeyPatch, seconds: float, steps: int
) -> None:
    now, step, looked = 0.0, 0, []
    monkeypatch.setattr(stopping, "time", SimpleNamespace(monotonic=lambda: now))

    def start(value: tuple[int, float]) -> SimpleNamespace:
        looked.append(step)
        return SimpleNamespace(wait=lambda: [value, (0, 0.0)])

    request = stopping.StopRequest(SimpleNamespace(group=object(), start=start), None)  # type: ignore[arg-type]
    while step < 100:
        now, step = now + seconds, step + 1
        assert not request.is_due()
    assert {after - before for before, after in pairwise(looked[2:])} == {steps}


@pytest.mark.slow
def test_a_time_limit_saves_and_exits_with_75(start, tmp_path: Path) -> None:
    done = start(tmp_path / "run", epochs=100000, log_every=None, eval_every=None, save_every=None, time_limit=0.5)
    assert done.returncode == 75, done.stderr
    assert status(tmp_path / "run")["reason"] == "time limit"


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "step"), [("raise:4:1", 4), ("raise:4:0", 4), ("raise@end:0:1", 6)])
def test_a_failure_on_one_process_ends_all_with_its_reason(start, tmp_path: Path, fault: str, step: int) -> None:
    done = start(tmp_path / "run", processes=2, fault=fault, epochs=1, timeout=60)
    assert done.returncode == 1
    assert status(tmp_path / "run")["state"] == "failed"
    reason = f"step {step}, process {fault[-1]}: ArithmeticError: broken on purpose"
    assert status(tmp_path / "run")["reason"] == reason
    assert f"error: Another process failed: {reason}\n" in done.stderr


def test_a_terminal_that_hangs_up_is_a_request_to_stop_and_none_under_nohup() -> None:
    for ignored in (False, True):
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
        stop = stopping.StopRequest(Agreement(1, 0), None)
        try:
            stop.watch()
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.is_due() != ignored
        finally:
            stop.unwatch()
            signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("environment", "was_asked", "reason", "code"),
    [
        ({}, True, "SIGTERM", 75),
        ({"TORCHELASTIC_MAX_RESTARTS": "0"}, True, "SIGTERM", 75),
        ({"TORCHELASTIC_MAX_RESTARTS": "3"}, True, "SIGUSR1", 0),
        ({"TORCHELASTIC_MAX_RESTARTS": "3"}, False, "SIGTERM", 0),  # another process of this torchrun got the signal
        ({"TORCHELASTIC_MAX_RESTARTS": "3", "GROUP_WORLD_SIZE": "2"}, True, "SIGTERM", 0),
        ({"TORCHELASTIC_MAX_RESTARTS": "3", "GROUP_WORLD_SIZE": "2"}, False, "SIGTERM", 75),  # another node is leaving
        ({"TORCHELASTIC_MAX_RESTARTS": "3", "GROUP_WORLD_SIZE": "2"}, False, "time limit", 0),
        ({"TORCHELASTIC_MAX_RESTARTS": "3"}, False, None, 0),  # stopped by the loop
    ],
)
def test_torchrun_is_not_told_75_where_it_would_start_the_run_again(
    environment: dict[str, str], was_asked: bool, reason: str | None, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TORCHELASTIC_MAX_RESTARTS", "GROUP_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    stop = stopping.StopRequest(Agreement(1, 0), None)
    stop.watch()
    try:
        if was_asked:
            os.kill(os.getpid(), signal.Signals[str(reason)])
            assert stop.is_due()
        stop.reason = reason
        assert stop.exit_code() == code
    finally:
        stop.unwatch()
