"""Draws in a step or an evaluation are a function of the position in the run, and of nothing else."""

import os
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from support.quick import quick_first
from support.together import free_ports, together
from torch import nn
from torch.utils.data import Dataset

from paccel.runtime import Checkpoints, Meter, Run

Draw = tuple[float, float, float]


@dataclass
class Config:
    """What a run reads."""

    run_dir: Path
    resume: str = "never"
    seed: int = 0


class Rows(Dataset):
    """9 numbers, fetched one by one; noise makes the data draw too."""

    def __init__(self, noise: bool) -> None:
        self.noise = noise

    def __len__(self) -> int:
        return 9

    def __getitem__(self, index: int) -> float:
        return index + (torch.rand(()).item() if self.noise else 0.0)


def draw() -> Draw:
    return torch.rand(()).item(), random.random(), np.random.rand()


def drawn(
    run_dir: str, workers: int = 0, noise: bool = False, stop_at: int = 0, resume: str = "never", seed: int = 0
) -> tuple[list[Draw], list[Draw]]:
    """What the micro-batches of 2 epochs draw, and the batches of an evaluation after each step."""
    in_steps, in_evaluations = [], []
    try:
        with Run(Config(Path(run_dir), resume, seed)) as run:
            train, test = (run.loader(Rows(noise), 4, num_workers=workers) for _ in range(2))
            checkpoints = Checkpoints(run, model=nn.Linear(1, 1))
            checkpoints.restore()
            for _ in run.epochs(2):
                for step in run.steps(train, accumulate=2):
                    for _ in step:
                        in_steps.append(draw())
                    for _ in run.batches(test):
                        in_evaluations.append(draw())
                    if step.number == stop_at:
                        checkpoints.save()
                        raise run.stopped()
    except SystemExit:
        pass
    return in_steps, in_evaluations


def test_each_micro_batch_and_each_evaluation_batch_draws_other_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    in_steps, in_evaluations = drawn("run")
    assert (len(in_steps), len(in_evaluations)) == (2 * 3 * 2, 2 * 3 * 3)
    everything = [*in_steps, *in_evaluations, *drawn("other", seed=1)[0]]
    for of_one_generator in zip(*everything, strict=True):
        assert len(set(of_one_generator)) == len(everything)


@pytest.mark.parametrize("noise", quick_first([False, True]))
def test_workers_and_a_resume_change_nothing_of_what_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noise: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    straight = drawn("straight")  # what the data draws is no matter for what the loop draws
    assert drawn("workers", workers=2, noise=noise) == straight
    first = drawn("run", noise=noise, stop_at=2)
    second = drawn("run", workers=1, noise=noise, resume="auto")
    assert tuple(before + after for before, after in zip(first, second, strict=True)) == straight


def test_workers_do_not_advance_the_generator_of_the_loop(tmp_path: Path) -> None:
    with Run(Config(tmp_path / "run")) as run:
        before = torch.get_rng_state()
        for data in (Rows(False), iter(range(9))):
            assert len(list(run.loader(data, 4, num_workers=1).evaluation_batches(filler=False))) == 3
        assert torch.equal(torch.get_rng_state(), before)


def on_two(port: int) -> dict[str, object]:
    """What matters on several processes: draws, the evaluated model, and the samples per second."""
    in_steps, in_evaluations = drawn("run")
    os.environ["MASTER_PORT"] = str(port)  # a group that follows another on the same port may hang
    with Run(Config(Path("other"))) as run:
        model = run.prepare(nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1)))
        with run.evaluating(model) as inner:
            kind = type(inner).__name__
        for _ in run.epochs(1):
            for step in run.steps(run.loader(Rows(False), 4)):
                list(step)
        meter, run.prepared.has_shards = Meter(run), lambda: True  # so that a process without a sample gets a filler
        for _ in run.batches(run.loader(Rows(False), 1, limit_batches=1)):
            meter.add(one=5.0, count=1)
        meter.add(one=1.0, count=1)  # what comes behind an evaluation counts again
        return {
            "draws": in_steps + in_evaluations,
            "evaluated": kind,
            "samples": run.reporter.throughput.samples,
            "mean": meter.read(),
        }


@pytest.mark.slow
def test_two_processes_draw_differently_evaluate_the_inner_model_and_count_all_samples(tmp_path: Path) -> None:
    results = together(on_two, tmp_path, free_ports(1)[0])
    assert not set(results[0].pop("draws")) & set(results[1].pop("draws"))
    assert results == [{"evaluated": "Sequential", "samples": 9, "mean": {"one": 7 / 3}}] * 2
