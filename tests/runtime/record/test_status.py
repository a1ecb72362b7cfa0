"""Which process writes a run: on this machine, on another one, and when several want the same run."""

import json
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.quick import quick_first

from paccel.runtime.errors import ConfigError
from paccel.runtime.record.process import machine, start_time
from paccel.runtime.record.record import Record
from paccel.runtime.record.status import claim, read_status, writer_of

pytestmark = pytest.mark.slow

ELSEWHERE = {"state": "running", "started": 1.0, "host": "elsewhere", "machine": "another", "process": 4321}


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paccel.runtime.record.status._DEAD", 0.3)


def write(run_dir: Path, **status: Any) -> dict[str, Any]:
    (run_dir / "status.json").write_text(json.dumps(status))
    return status


def writer_with_heartbeat(run_dir: Path, status: dict[str, Any], **updates: Any) -> str | None:
    """The writer that is found while another process updates the status."""
    pulse = threading.Timer(0.1, write, (run_dir,), status | updates)
    pulse.start()
    try:
        return writer_of(run_dir, status)
    finally:
        pulse.join()


class TestOnAnotherMachine:
    def test_a_run_with_a_heartbeat_has_a_writer(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        status = write(tmp_path, **ELSEWHERE, updated=1.0)
        assert writer_with_heartbeat(tmp_path, status, updated=2.0) == "process 4321 on host `elsewhere`"
        assert "was written by host `elsewhere` a moment ago: waiting up to" in capsys.readouterr().out

    def test_a_run_whose_status_does_not_change_has_no_writer(self, tmp_path: Path) -> None:
        assert writer_of(tmp_path, write(tmp_path, **ELSEWHERE)) is None
        assert [path.name for path in tmp_path.iterdir()] == ["status.json"]

    def test_an_old_status_is_not_waited_for(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        status = write(tmp_path, **ELSEWHERE)
        os.utime(tmp_path / "status.json", (0, time.time() - 700))
        monkeypatch.setattr("paccel.runtime.record.status._DEAD", 60.0)
        started = time.monotonic()
        assert writer_of(tmp_path, status) is None
        assert time.monotonic() - started < 30

    @pytest.mark.parametrize("updated", quick_first([0.0, 4e9]))
    def test_its_clock_may_be_wrong(self, tmp_path: Path, updated: float) -> None:
        status = write(tmp_path, **ELSEWHERE, updated=updated)
        assert writer_of(tmp_path, status) is None
        assert writer_with_heartbeat(tmp_path, status, updated=updated + 15) is not None

    def test_the_clock_of_the_disk_may_be_wrong(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        status = write(tmp_path, **ELSEWHERE)
        real = time.time()
        monkeypatch.setattr(time, "time", lambda: real + 1e6)  # this host is days ahead of the disk
        assert writer_with_heartbeat(tmp_path, status, updated=2.0) is not None

    def test_two_containers_may_share_a_host_name_and_a_process_number(self, tmp_path: Path) -> None:
        mine = {"host": socket.gethostname(), "process": os.getpid()}
        status = write(tmp_path, **ELSEWHERE | mine)
        assert (
            writer_with_heartbeat(tmp_path, status, updated=2.0)
            == f"process {os.getpid()} on host `{socket.gethostname()}`"
        )

    def test_a_run_that_another_process_is_taking_has_a_writer(self, tmp_path: Path) -> None:
        assert writer_of(tmp_path, ELSEWHERE) is not None  # its status file is away


class TestOnThisMachine:
    def status(self, process: int, began: str | None, **more: Any) -> dict[str, Any]:
        return {"state": "running", "process": process, "process_began": began, "machine": machine()} | more

    def test_the_process_is_looked_up_whatever_its_host_is_called(self, tmp_path: Path) -> None:
        parent = os.getppid()
        status = self.status(parent, start_time(parent), host="another name")
        assert writer_of(tmp_path, status) == f"process {parent}, which is still running"
        assert writer_of(tmp_path, status | {"process_began": "another time"}) is None
        assert writer_of(tmp_path, status | {"state": "stopped"}) is None

    def test_a_status_of_paccel_0_1_0_has_only_a_host_name(self, tmp_path: Path) -> None:
        status = {"state": "running", "process": os.getppid(), "host": socket.gethostname()}
        assert writer_of(tmp_path, status) == f"process {os.getppid()}, which is still running"


class TestClaims:
    @pytest.mark.parametrize("seen", [{}, ELSEWHERE], ids=["a new run", "an old run"])
    def test_one_of_several_processes_gets_the_run(self, tmp_path: Path, seen: dict[str, Any]) -> None:
        if seen:
            write(tmp_path, **seen)
        barrier = threading.Barrier(4)

        def take(number: int) -> bool:
            barrier.wait()
            if is_mine := claim(tmp_path, seen):
                write(tmp_path, state="running", started=number)
            return is_mine

        with ThreadPoolExecutor(4) as threads:
            claims = list(threads.map(take, range(4)))
        assert sum(claims) == 1
        assert read_status(tmp_path)["started"] == claims.index(True)

    def test_a_status_that_has_changed_stays(self, tmp_path: Path) -> None:
        write(tmp_path, **ELSEWHERE)
        for seen in ({}, ELSEWHERE | {"updated": 2.0}):
            assert not claim(tmp_path, seen)
        assert read_status(tmp_path) == ELSEWHERE
        assert [path.name for path in tmp_path.iterdir()] == ["status.json"]

    def test_the_claim_of_a_killed_process_is_no_obstacle(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("paccel.runtime.record.status._CLAIM", 0.01)
        for seen in ({}, {"claim": "of a process that was killed"}):
            write(tmp_path, **seen)
            assert claim(tmp_path, seen)

    def test_a_process_that_lost_its_run_stops_writing(self, tmp_path: Path) -> None:
        record = Record(tmp_path)
        assert record.claim({})
        record.log({"step": 1})
        taken = write(tmp_path, **ELSEWHERE)
        message = "was taken over by process 4321 on host `elsewhere`"
        with pytest.raises(ConfigError, match=message):
            record.write_status("running", 2, 1)
        with pytest.raises(ConfigError, match=message):
            record.log({"step": 2})
        record.write_failure(RuntimeError("lost"), 2, 1, None)
        assert read_status(tmp_path) == taken
        assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n'


class TestTheHeartbeat:
    @pytest.fixture
    def record(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Record:
        monkeypatch.setattr("paccel.runtime.record.record.HEARTBEAT", 0.02)
        record = Record(tmp_path)
        assert record.claim({})
        return record

    def changes(self, run_dir: Path, seconds: float) -> bool:
        before, deadline = read_status(run_dir), time.monotonic() + seconds
        while time.monotonic() < deadline:
            if read_status(run_dir) != before:
                return True
            time.sleep(0.01)
        return False

    def test_it_lasts_until_the_run_ends(self, record: Record) -> None:
        before = read_status(record.run_dir)
        record.beat()
        assert self.changes(record.run_dir, 30)
        record.stop_beating()
        assert not self.changes(record.run_dir, 0.2)
        assert read_status(record.run_dir) | {"updated": 0} == before | {"updated": 0}

    @pytest.mark.parametrize("other", [ELSEWHERE, {"state": "finished"}])
    def test_it_does_not_overwrite_a_status_that_is_not_its_own(self, record: Record, other: dict[str, Any]) -> None:
        record.beat()
        write(record.run_dir, **other)
        write(record.run_dir, **other)  # a beat may have been under way at the first
        assert not self.changes(record.run_dir, 0.2)
        record.stop_beating()
