"""Where the processes that a launcher has started find each other: in one store, under a name for each start.

`torchrun` hands the processes that it restarts the store of those before, with their addresses in it. Its own count of
restarts cannot tell starts apart: with several nodes each agent has its own, and a node that joins is not counted.
"""

import itertools
import os
import secrets
import time
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from ..errors import AgreementError, ConfigError

_LOOK = 0.02  # seconds between two looks for processes that have come
_RUN_DIR = "paccel-run-dir"

_stores: dict[tuple[str, ...], tuple[Any, str]] = {}  # by address: the launcher's store, and the name of this start
_runs = itertools.count(1)  # with several processes: each makes the same number of them


def meeting_place() -> dict[str, Any]:
    """What `init_process_group` takes: a store, under a prefix for each run of each start; empty for one process.

    A store, with the addresses of a run's processes in it, lives on while a model that was wrapped in the run does. A
    later group at the same port would find them and wait for threads that are gone.

    Raises:
        AgreementError: Other processes did not come.
        ConfigError: A second run of a process with DeepSpeed.
    """
    store, start = _store()
    if not start or dist.is_initialized():
        return {}
    number = next(_runs)
    if number > 1 and is_for_deepspeed():
        raise ConfigError(
            "DeepSpeed works in one run of a process, since its process group ends with the run: "
            "start each further run in a new process"
        )
    prefix = dist.PrefixStore(f"{start}-run-{number}", store)  # type: ignore[attr-defined]
    return {"store": prefix, "rank": int(os.environ["RANK"]), "world_size": int(os.environ["WORLD_SIZE"])}


def is_for_deepspeed() -> bool:
    """Whether accelerate's launcher has chosen DeepSpeed."""
    return os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() == "true"


def _store() -> tuple[Any, str]:
    """The launcher's store and the name of this start, which is empty for one process.

    (None, "") without a launcher, and where it has made the process group itself, as Ray does.
    """
    names = "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"
    rank, size, *where = (os.environ.get(name, "") for name in names)
    is_restarted = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if not (rank.isdecimal() and size.isdecimal() and all(where)) or (int(size) == 1 and not is_restarted):
        return None, ""
    if tuple(where) not in _stores:
        if dist.is_initialized():
            return None, ""
        store = next(rendezvous("env://"))[0]
        _stores[tuple(where)] = store, _name_of_start(store, int(rank), int(size)) if int(size) > 1 else ""
    return _stores[tuple(where)]


def _name_of_start(store: Any, rank: int, size: int) -> str:
    """A name that all processes of this start have, and those of no other. Collective.

    Process 0 draws it. Each other one asks for it by a name of its own, so that what is left of an earlier start is no
    answer, and confirms it, so that process 0 notices whose question it has read too early.
    """
    own = secrets.token_hex(8)
    if rank:
        store.set(f"paccel-asks-{rank}", own)
        name: str = store.get(f"paccel-answer-{own}").decode()
        store.set(f"paccel-{name}-{rank}", "")
        return name
    others, answered = range(1, size), set[bytes]()
    deadline = time.monotonic() + store.timeout.total_seconds()
    while not store.check([f"paccel-{own}-{other}" for other in others]):
        asked = set(store.multi_get([f"paccel-asks-{other}" for other in others])) - answered
        if asked:
            store.multi_set([f"paccel-answer-{question.decode()}" for question in asked], [own] * len(asked))
            answered |= asked
        elif time.monotonic() > deadline:
            raise AgreementError(
                f"Process 0 waited {store.timeout} for {size - 1} others to start, and they did not come"
            )
        time.sleep(_LOOK)
    return own


def run_before_restart(number: int) -> Path | None:
    """The directory of this script's first, second, … run in the processes that the launcher started before these.

    None if these are the first.
    """
    store, _ = _store()
    key = f"{_RUN_DIR}-{number}"
    return Path(store.get(key).decode()) if store is not None and store.check([key]) else None


def remember_run(number: int, run_dir: Path) -> None:
    """Let the processes that the launcher starts after these know which run to continue."""
    store, _ = _store()
    if store is not None:
        store.set(f"{_RUN_DIR}-{number}", str(run_dir.absolute()))
