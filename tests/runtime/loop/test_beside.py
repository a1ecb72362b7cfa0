"""Two loaders in one step: each has its own position, on any number of processes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from support.small_runs import Config, rows
from support.together import together
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from paccel.runtime import Checkpoints, ConfigError, Run


def beside(run_dir: str, stop_at: int, resume: str, accumulate: int, workers: int = 0) -> Any:
    """Train one model on two loaders in each step. Returns the samples of this process, and the weights."""
    seen: list[Any] = []
    stopped = False
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn(20, 3, dtype=torch.float64, generator=random)
    with Run(Config(Path(run_dir), resume)) as run:
        labelled = run.loader(TensorDataset(torch.arange(11), inputs[:11]), 4, shuffle=True, drop_last=True)
        other = run.loader(
            Pairs(inputs[11:]), 6, shuffle=True, drop_last=True, num_workers=workers, multiprocessing_context="fork"
        )
        model = nn.Linear(3, 1).double()
        model, optimizer = run.prepare(model, torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9))
        checkpoints = Checkpoints(run, model=model, optimizer=optimizer)
        checkpoints.restore()
        for _ in run.epochs(4):
            for step in run.steps(labelled, accumulate):
                for (index, x), (other_index, u) in step.beside(other):
                    run.backward((model(x) - 1).square().sum(), step.num_samples)
                    run.backward(0.5 * model(u).square().sum(), other.batch_size)
                    seen.append((step.number, index.tolist(), other_index.tolist(), torch.rand(()).item()))
                optimizer.step()
                optimizer.zero_grad()
                if stopped := step.number == stop_at:
                    checkpoints.save()
                    break
            if stopped:
                break
        return seen, [p.detach().clone() for p in model.parameters()]


class Pairs(Dataset):
    """An index and noisy values."""

    def __init__(self, values: torch.Tensor) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> tuple[int, torch.Tensor]:
        return index, self.values[index] + 0.1 * torch.rand(3, dtype=torch.float64)


def test_a_loader_beside_another_goes_on_where_it_stood_epoch_after_epoch(tmp_path: Path) -> None:
    straight, weights = beside(str(tmp_path / "straight"), 0, "never", 2)
    of_other = [index for _, _, indices, _ in straight for index in indices]
    assert len(straight) == 16
    assert all(len(set(of_other[start : start + 6])) == 6 for start in range(0, 48, 6))
    for stop_at, workers in ((1, 0), (3, 2), (6, 0)):
        first, _ = beside(str(tmp_path / f"run-{stop_at}"), stop_at, "never", 2, workers)
        second, ours = beside(str(tmp_path / f"run-{stop_at}"), 0, "auto", 2)
        assert first + second == straight
        assert all(torch.equal(a, b) for a, b in zip(ours, weights, strict=True))


@pytest.mark.slow
def test_a_step_of_two_loaders_is_the_same_on_any_number_of_processes(tmp_path: Path) -> None:
    _, weights = beside(str(tmp_path / "one"), 0, "never", 1)
    for _, ours in together(beside, tmp_path, "two", 0, "never", 2):
        for left, right in zip(ours, weights, strict=True):
            torch.testing.assert_close(left, right, rtol=0, atol=1e-12)


def test_a_step_of_two_loaders_without_a_sample_for_each_micro_batch_is_refused_at_its_first() -> None:
    with Run(Config(), record=False) as run:
        loader, other, late = run.loader(rows(9), 4), run.loader(rows(8), 4), None
        with pytest.raises(
            ConfigError, match=r"the smallest step of `TensorDataset` may have 1: pass `drop_last=True`"
        ):
            for _ in run.epochs(1):
                for step in run.steps(loader, accumulate=2):
                    list(step.beside(other))
        with pytest.raises(ConfigError, match=r"made before `run.epochs`"):
            late = run.loader(rows(8), 4)
            for step in run.steps(other):
                list(step.beside(late))


def test_it_is_refused_also_for_a_loader_that_was_evaluated_before() -> None:
    with Run(Config(), record=False) as run:
        loader, other = run.loader(rows(8), 4), run.loader(rows(9), 4)
        list(run.batches(other))
        for _ in run.epochs(1):
            with pytest.raises(ConfigError, match="the smallest step of `TensorDataset` may have 1"):
                for step in run.steps(loader, accumulate=2):
                    list(step.beside(other))
