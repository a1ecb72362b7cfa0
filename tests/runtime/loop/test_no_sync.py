"""Between log points, nothing waits for the device or for another process, except the wrapper's own collectives."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from support.counted import LOG_EVERY, count, count_as_process
from support.sampled import over_three_days
from support.together import new_process

pytestmark = pytest.mark.slow  # each trains a whole run


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("skip", [0, 3])
@pytest.mark.parametrize("tokens", [False, True])
def test_nothing_is_read_between_log_points(tmp_path: Path, accumulate: int, skip: int, tokens: bool) -> None:
    intervals = count(tmp_path / "run", tokens=tokens, accumulate=accumulate, skip=skip)
    assert intervals == [{"reads": [], "collectives": [], "buckets": 0}] * 6


def test_a_read_in_the_loop_is_counted(tmp_path: Path) -> None:
    intervals = count(tmp_path / "run", tokens=False, accumulate=1, skip=0, break_with="sync")
    assert all(len(interval["reads"]) >= LOG_EVERY for interval in intervals)


@pytest.mark.slow
@pytest.mark.parametrize("break_with", ["", "collective"])
@pytest.mark.parametrize("tokens", over_three_days([False, True]))
def test_processes_exchange_gradients_token_counts_and_now_and_then_a_flag(
    tmp_path: Path, tokens: bool, break_with: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "GLOO_SOCKET_IFNAME": "lo"}
    arguments = {"run_dir": tmp_path / "run", "tokens": tokens, "accumulate": 2, "skip": 3, "break_with": break_with}
    outputs = [tmp_path / f"{rank}.json" for rank in range(2)]
    started = []
    for rank, output in enumerate(outputs):
        environment = world | {"RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"}
        started.append(new_process(count_as_process, arguments, environment, output))
        started[-1].start()
    for process in started:
        process.join(90)
        if process.is_alive():
            process.kill()
    assert [process.exitcode for process in started] == [0, 0]
    for output in outputs:
        intervals: list[dict[str, Any]] = json.loads(output.read_text())
        assert len(intervals) == 6
        for interval in intervals:
            blocking = [name for name in interval["collectives"] if not name.startswith("async ")]
            own = LOG_EVERY * tokens + (2 * LOG_EVERY if break_with else 0)
            assert blocking == ["all_reduce"] * own
            assert interval["buckets"] == LOG_EVERY  # the gradients, once in a step of 2 micro-batches
            flags = len(interval["collectives"]) - own - interval["buckets"]
            assert flags <= LOG_EVERY  # the asynchronous stop flag on the host
            assert set(interval["reads"]) <= {"tolist"}  # of that flag
