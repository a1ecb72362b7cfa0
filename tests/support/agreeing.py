"""Runs of `tiny_train`, one after the other in the same two processes, because starting processes costs more than a run."""

import errno
import gc
import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch.distributed as dist
from accelerate.state import AcceleratorState

from paccel.runtime import Stopped
from support.points import Points
from support.tiny_train import Config, Reporter, main
from support.together import free_ports, together

Point = Callable[[int], None]


@dataclass
class Case:
    """One run, what happens to it, and how it should end."""

    name: str
    fault: str = ""  # what `tiny_train` does to itself
    signals_in_save: int | None = None  # the process that gets SIGTERM while the checkpoint of step 4 is written
    fails_in_save: str | None = None  # error of the disk from then on, such as ENOSPC
    fails_in_log: str | None = None  # the same, from the log point of step 5 on
    limits: tuple[float | None, float | None] = (None, None)  # each process's time limit, in seconds
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass
class End:
    """How one process ended a run."""

    code: int = 0
    stopped: str | None = None  # why
    error: str = ""
    last_step: int = 0


def run_cases(cases: list[Case], ports: list[int], then_resume: bool) -> list[dict[str, Any]]:
    """Start each run, and resume those that stopped or failed; return how this process ended each first attempt."""
    Reporter.draw = lambda *_, **__: None  # as in `run_as_process`
    rank = int(os.environ["RANK"])
    Path(f"pid-{rank}").write_text(str(os.getpid()))
    ends = []
    for case in cases:
        os.environ["MASTER_PORT"] = str(ports.pop())
        ends.append(run(case, rank))
        if then_resume and (ends[-1].code or ends[-1].error):
            os.environ["MASTER_PORT"] = str(ports.pop())
            again = Case(case.name, settings=case.settings | {"resume": "auto"})
            end = run(again, rank)
            assert not end.error, end.error
            assert end.code == 0
    return [asdict(end) for end in ends]  # plain dicts, because `together` imports this module under another name


def run(case: Case, rank: int) -> End:
    os.environ["FAULT"] = case.fault
    config = Config(Path(case.name), epochs=2, time_limit=case.limits[rank], **case.settings)
    end = End()
    try:
        watches = rank == 0 and (case.signals_in_save is not None or case.fails_in_save or case.fails_in_log)
        with Points(at_point(case)) if watches else nullcontext():
            main(config)
    except Stopped as stopped:
        end.code, end.stopped = stopped.code, stopped.reason
    except Exception as error:
        end.error = f"{type(error).__name__}: {error}"
        if dist.is_initialized():  # a failing process leaves it, because it ends; this one continues
            dist.destroy_process_group()
        AcceleratorState._reset_state(reset_partial_state=True)
    gc.collect()
    return replace(end, last_step=last_step(case, rank))


def last_step(case: Case, rank: int) -> int:
    """The last step whose samples a process has seen; 0 before the first."""
    order = Path(case.name, f"order-{rank}.jsonl")
    lines = order.read_text().splitlines() if order.exists() else []
    return json.loads(lines[-1])[0] if lines else 0


def at_point(case: Case) -> Point:
    """Do to the main process what the case says, when it reaches a point at which it touches the disk."""
    written, has_come = Path(case.name, "checkpoints", "step-4.tmp"), False

    def act(_number: int) -> None:
        nonlocal has_come
        comes_now = not has_come and (last_step(case, 0) == 5 if case.fails_in_log else written.exists())
        has_come = has_come or comes_now
        if comes_now and case.signals_in_save is not None:
            os.kill(int(Path(f"pid-{case.signals_in_save}").read_text()), signal.SIGTERM)
            time.sleep(0.05)  # so that it arrives before the save is over
        if has_come and (kind := case.fails_in_save or case.fails_in_log):
            raise OSError(getattr(errno, kind), os.strerror(getattr(errno, kind)))

    return act


def together_all(cases: list[Case], folder: Path, then_resume: bool = True) -> dict[str, list[End]]:
    """How each case ended, by process."""
    ends = together(run_cases, folder, cases, free_ports(2 * len(cases)), then_resume, timeout=240)
    return {case.name: [End(**end[index]) for end in ends] for index, case in enumerate(cases)}
