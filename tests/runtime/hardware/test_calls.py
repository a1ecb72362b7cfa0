"""Processes that are at different calls, or wait alone, report it."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.state import AcceleratorState
from support.sampled import every_third_day
from support.together import free_ports, together
from torch import nn
from torch.utils.data import TensorDataset

from paccel.runtime import AgreementError, Checkpoints, EarlyStopping, Meter, Run
from paccel.runtime.hardware import agreement as module

pytestmark = pytest.mark.slow


@dataclass
class Config:
    """The settings that a run reads."""

    run_dir: Path
    process_timeout: float | None = None


def tracked(run: Run) -> Checkpoints:
    return Checkpoints(run, best="score", model=run.prepare(nn.Linear(1, 1)))


def train(run: Run) -> None:
    for _ in run.epochs(1):
        for step in run.steps(run.loader(TensorDataset(torch.ones(2)), 2)):
            list(step)


def evaluate(run: Run) -> None:
    list(run.batches(run.loader(TensorDataset(torch.ones(2)), 2)))


PAIRS: dict[str, tuple[Callable[[Run], Any], Callable[[Run], Any], str]] = {
    "log": (lambda run: run.log("train", loss=1.0), lambda run: Meter(run).read(), "process 0 in Run.log"),
    "save": (lambda run: tracked(run).save(), lambda run: (tracked(run), run.log("train")), "0 in Checkpoints.save"),
    "best": (
        lambda run: tracked(run).keep_best({"score": 1.0}),
        lambda run: (tracked(run), run.finish("early")),
        "process 1 in Run.finish",
    ),
    "steps": (train, lambda run: run.log("train"), "process 0 in Run.steps"),
    "batches": (evaluate, lambda run: run.log("train"), "process 0 in Run.batches"),
    "end": (lambda run: None, lambda run: run.log("train"), "process 0 in the end of `with Run"),
    "stopping": (lambda run: [run.stopping() for _ in range(9)], lambda run: run.log("train"), "0 in Run.stopping"),
    "gather": (lambda run: run.gather(torch.ones(2, 3)), lambda run: run.log("train"), "process 0 in Run.gather"),
    "prepare": (lambda run: run.prepare(nn.Linear(1, 1)), lambda run: run.log("train"), "process 0 in Run.prepare"),
    "early stopping": (lambda run: EarlyStopping(1).should_stop(1.0), lambda run: Meter(run).read(), "should_stop"),
}


def call_differently(ports: list[int]) -> dict[str, str]:
    rank, found = int(os.environ["RANK"]), {}
    for name, pair in PAIRS.items():
        os.environ["MASTER_PORT"] = str(ports.pop())
        started = time.monotonic()
        try:
            with Run(Config(Path(name.replace(" ", "-")))) as run:
                pair[rank](run)
        except AgreementError as error:
            found[name] = str(error)
        assert time.monotonic() - started < 25
        dist.destroy_process_group()
        AcceleratorState._reset_state(reset_partial_state=True)
    return found


def test_two_processes_at_different_calls_are_an_error_on_both_that_names_both(tmp_path: Path) -> None:
    first, second = together(call_differently, tmp_path, free_ports(len(PAIRS)), timeout=200)
    assert list(first) == list(PAIRS)
    assert first == second
    for name, (_, _, words) in PAIRS.items():
        assert "The processes are at different calls" in first[name]
        assert words in first[name]
        assert "test_calls" in first[name]  # the line


def wait_alone() -> str:
    module._PATIENCE, module._ROUND = timedelta(seconds=0.5), timedelta(seconds=0.5)
    with Run(Config(Path("run"), process_timeout=60)) as run:
        if run.agreement.rank == 1:
            time.sleep(4)
        run.log("train", loss=1.0)
    return Path("0.err").read_text()


@every_third_day(0)
def test_a_wait_says_where_and_for_whom_and_goes_on(tmp_path: Path) -> None:
    said, _ = together(wait_alone, tmp_path)
    assert "warning: process 0 waits in Run.log (" in said
    assert ") for process 1\n" in said
    assert said.count("waits in") == 1


def wait_in_vain() -> str:
    try:
        with Run(Config(Path("run"), process_timeout=3)) as run:
            if run.agreement.rank == 0:
                run.log("train", loss=1.0)
            time.sleep(8)
    except (AgreementError, RuntimeError) as error:
        return str(error)
    return ""


@every_third_day(2)
def test_a_process_that_waits_for_longer_than_may_be_is_told_where_and_what_sets_it(tmp_path: Path) -> None:
    said, _ = together(wait_in_vain, tmp_path)
    assert said.startswith("Process 0 waited in Run.log (")
    assert "`process_timeout`" in said


def timeouts(ports: list[int]) -> list[float]:
    found = []
    for settings in ({}, {"process_timeout": 77.0}):
        os.environ["MASTER_PORT"] = str(ports.pop())
        if not settings:
            PartialState(cpu=True, timeout=timedelta(hours=5))
        with Run(Config(Path(f"run-{len(found)}"), **settings)) as run:
            for group in (dist.group.WORLD, run.agreement.group):
                found.append(group._get_backend(torch.device("cpu")).options._timeout.total_seconds())
    return found


def test_the_host_group_waits_as_long_as_the_default_group_and_a_setting_sets_both(tmp_path: Path) -> None:
    assert together(timeouts, tmp_path, free_ports(2)) == [pytest.approx([18000, 18000, 77, 77], rel=1e-3)] * 2
