"""The rendezvous of a launcher's processes: each start has a name of its own."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from torch.distributed import TCPStore

from paccel.runtime import AgreementError
from paccel.runtime.hardware import meeting


@pytest.fixture
def agent() -> TCPStore:
    """A launcher's store, which outlives the processes that it starts."""
    return TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=20))


def client(agent: TCPStore, seconds: float = 20) -> TCPStore:
    return TCPStore(
        "127.0.0.1", agent.port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=seconds)
    )


def names(agent: TCPStore, ranks: list[int], size: int) -> list[str]:
    with ThreadPoolExecutor(size) as pool:
        return [*pool.map(lambda rank: meeting._name_of_start(client(agent), rank, size), ranks)]


def test_all_processes_of_a_start_get_one_name_and_those_of_the_next_another(agent: TCPStore) -> None:
    first, second = names(agent, [0, 1, 2], 3), names(agent, [2, 1, 0], 3)
    fewer = names(agent, [1, 0], 2)
    assert [len({*found}) for found in (first, second, fewer)] == [1, 1, 1]
    assert len({first[0], second[0], fewer[0]}) == 3


def test_what_earlier_starts_have_left_in_the_store_is_no_answer(agent: TCPStore) -> None:
    agent.set("paccel-asks-1", "dead")  # from a process that was killed before it got the answer
    agent.set("paccel-asks-2", "dead, too")
    agent.set("paccel-answer-dead", "stale")
    found = names(agent, [0, 2, 1], 3)
    assert len({*found}) == 1
    assert found[0] != "stale"


def test_a_process_that_does_not_come_is_an_error_after_the_time_limit(agent: TCPStore) -> None:
    agent.set("paccel-asks-1", "dead")
    with pytest.raises(AgreementError, match=r"waited 0:00:00\.200000 for all 2 processes to start, and some did not"):
        meeting._name_of_start(client(agent, 0.2), 0, 2)


def test_a_restarted_process_is_told_which_runs_were_lost(
    agent: TCPStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(agent.port)}
    for name, value in world.items():
        monkeypatch.setenv(name, value)
    meeting.remember_run(1, tmp_path)  # with a launcher that restarts nothing
    assert meeting.run_before_restart(1) is None
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    for number in (1, 2):  # a script with two runs
        assert meeting.run_before_restart(number) is None
        meeting.remember_run(number, tmp_path / str(number))
    monkeypatch.setenv("MASTER_ADDR", "localhost")  # joins again, as a new process would
    assert [meeting.run_before_restart(number) for number in (1, 2, 3)] == [tmp_path / "1", tmp_path / "2", None]
