"""The rendezvous of the processes that a launcher started: one store, with a prefix for each start.

`torchrun` gives restarted processes the store of the ones before, with the old addresses in it. Its count of restarts
does not identify a start: with several nodes each agent has its own count, and a node that joins is not counted.
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

_POLL = 0.02  # seconds between two looks for processes that have started
_RUN_DIR = "paccel-run-dir"

_stores: dict[tuple[str, ...], tuple[Any, str]] = {}  # by address: the launcher's store, and the name of this start
_runs = itertools.count(1)  # the same number on all processes


def meeting_place() -> dict[str, Any]:
    """Arguments for `init_process_group`: a store with a prefix for each run of each start. Empty for one process.

    The store of a run, with the addresses of its processes, lives as long as a model that was wrapped in the run.
    Without the prefix, a later group at the same port would find them, and wait for threads that have ended.

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
            "DeepSpeed works in one run of a process, because its process group ends with the run: "
            "start each further run in a new process"
        )
    prefix = dist.PrefixStore(f"{start}-run-{number}", store)  # type: ignore[attr-defined]
    return {"store": prefix, "rank": int(os.environ["RANK"]), "world_size": int(os.environ["WORLD_SIZE"])}


def is_for_deepspeed() -> bool:
    """Whether accelerate's launcher has chosen DeepSpeed."""
    return os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() == "true"


def _store() -> tuple[Any, str]:
    """The launcher's store and the name of this start, which is empty for one process.

    (None, "") without a launcher, and if the launcher has made the process group itself, as Ray does.
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
    """A name for this start, the same on all its processes and unlike that of any other start. Collective.

    Process 0 draws it. Each other process asks for it under a random key, so that it cannot read an answer from an
    earlier start, and confirms it, so that process 0 notices questions that were from an earlier start.
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
                f"Process 0 waited {store.timeout} for all {size} processes to start, and some did not"
            )
        time.sleep(_POLL)
    return own


def run_before_restart(number: int) -> Path | None:
    """The directory of this script's first, second, … run before the launcher restarted its processes; None if it did not."""
    store, _ = _store()
    key = f"{_RUN_DIR}-{number}"
    return Path(store.get(key).decode()) if store is not None and store.check([key]) else None


def remember_run(number: int, run_dir: Path) -> None:
    """Tell processes that the launcher restarts which run to resume."""
    store, _ = _store()
    if store is not None:
        store.set(f"{_RUN_DIR}-{number}", str(run_dir.absolute()))
