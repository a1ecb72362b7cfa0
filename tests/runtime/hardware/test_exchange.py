"""Gradients and buffers on several processes equal those on one."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from support.together import together
from torch import nn
from torch.utils.data import TensorDataset

from paccel.runtime import ConfigError, Run


@dataclass
class Config:
    seed: int = 0


class TwoHeads(nn.Module):
    """A trunk with two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 1), nn.Linear(5, 1)

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = self.trunk(inputs).tanh()
        return self.first(hidden), self.second(hidden)


def at_once(run: Run, inner: TwoHeads, losses: Any, step: Any) -> None:
    run.backward(losses[0] + losses[1], step.num_samples)


def apart(run: Run, inner: TwoHeads, losses: Any, step: Any) -> None:
    run.backward(losses[0], step.num_samples, retain_graph=True)
    run.backward(losses[1], step.num_samples)


def for_some(run: Run, inner: TwoHeads, losses: Any, step: Any) -> None:
    trunk, first, second = (list(part.parameters()) for part in (inner.trunk, inner.first, inner.second))
    run.backward(losses[0], step.num_samples, retain_graph=True, inputs=[*trunk, *first])
    run.backward(losses[1], step.num_samples, inputs=[*second, *trunk])


def of_means(run: Run, inner: TwoHeads, losses: Any, step: Any) -> None:
    size = len(losses[2])
    run.backward((losses[0] + losses[1]) / size, step.num_samples, mean_of=step.micro_batch_samples)


def against_all(run: Run, inner: TwoHeads, losses: Any, step: Any) -> None:
    """Compare each sample of this process with those of all processes."""
    ours = losses[2][: step.micro_batch_samples]
    run.backward((ours - run.gather(losses[3]).T).square().sum(), step.num_samples)


WAYS = {way.__name__: way for way in (at_once, apart, for_some, of_means, against_all)}


def train(names: list[str], accumulate: int) -> dict[str, torch.Tensor]:
    """The weights after an epoch of nine steps; in the last one, a process has no sample."""
    found = {}
    for name in names:
        with Run(Config(), record=False) as run:
            inputs = torch.randn(17, 4).double()
            loader = run.loader(TensorDataset(inputs, inputs.sum(1, keepdim=True)), 8, shuffle=True)
            model = TwoHeads().double()
            model, optimizer = run.prepare(model, torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9))
            inner = run.accelerator.unwrap_model(model)
            for _ in run.epochs(3):
                for step in run.steps(loader, accumulate):
                    for x, y in step:
                        first, second = model(x)
                        losses = (first - y).square().sum(), (second + y).square().sum(), first, second
                        WAYS[name](run, inner, losses, step)
                    run.clip_grad_norm(model, 1.0)
                    optimizer.step()
                    optimizer.zero_grad()
            found[name] = torch.cat([p.detach().reshape(-1) for p in inner.parameters()])
    return found


@pytest.fixture(scope="module")
def of_one() -> dict[str, torch.Tensor]:
    return train(list(WAYS), 1)


def test_a_graph_that_is_kept_and_a_mean_give_the_gradients_of_the_sum(of_one: dict[str, torch.Tensor]) -> None:
    for name in ("apart", "for_some", "of_means"):
        torch.testing.assert_close(of_one[name], of_one["at_once"], rtol=0, atol=1e-12)
    assert not torch.allclose(of_one["against_all"], of_one["at_once"])


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
def test_several_processes_get_the_gradients_of_one(
    accumulate: int, of_one: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    names = [name for name in WAYS if name != "against_all" or accumulate == 1]
    for found in together(train, tmp_path, names, accumulate, timeout=240):
        for name in names:
            torch.testing.assert_close(found[name], of_one[name], rtol=0, atol=1e-12, msg=name)


class Keeper(nn.Module):
    """Keeps running statistics of its inputs, and a queue."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.linear = nn.BatchNorm1d(2), nn.Linear(2, 1)
        self.register_buffer("queue", torch.zeros(2, 2))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64), persistent=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.queue = inputs[:2].detach().clone()
            self.seen += len(inputs)
        return self.linear(self.norm(inputs)) + self.queue.sum()


def collective(function: Callable[[], Any]) -> str:
    try:
        function()
    except ConfigError as error:
        return str(error)
    return "no error"


def evaluate() -> dict[str, Any]:
    """Each process's scores of a model and a teacher that saw different samples on each, and the errors of what DDP cannot do."""
    found: dict[str, Any] = {}
    with Run(Config(), record=False) as run:
        rank = run.accelerator.process_index
        inputs = torch.randn(12, 2)
        loader, eval_loader = run.loader(TensorDataset(inputs), 6), run.loader(TensorDataset(inputs), 4)
        model, teacher = run.prepare(Keeper()), Keeper()
        frozen = run.prepare(nn.Linear(2, 2).requires_grad_(False))
        found["frozen"] = type(frozen).__name__
        for _ in run.epochs(1):
            for step in run.steps(loader):
                for (x,) in step:
                    run.backward(model(x).square().sum(), step.num_samples)
                    teacher(x)
        with run.evaluating(model) as evaluated, run.evaluating(teacher) as guide:
            list(run.batches(eval_loader))
            found["scores"] = [evaluated(inputs).sum().item(), guide(inputs).sum().item()]
        found["saved"] = [thing.eval()(inputs).sum().item() for thing in (evaluated, guide)]
        found["kinds"] = run.gather(torch.full((1 + rank, 2), float(rank))).tolist()
        found["shapes"] = collective(lambda: run.gather(torch.zeros(2, 2 + rank)))

        model.train()
        evaluated.later = nn.Linear(2, 1)
        (model(inputs) + evaluated.later(inputs)).sum().backward()
        found["grown"] = collective(lambda: run.clip_grad_norm(model, 1.0))
        model.zero_grad()
        found["second"] = collective(lambda: run.backward(model(inputs).sum(), create_graph=True))
        parts = nn.ModuleList([nn.Linear(2, 1), nn.Linear(2, 1)])
        some = run.prepare(Either(parts), find_unused_parameters=True)
        for _ in range(2):
            run.backward(some(inputs).sum())
        found["unused"] = [p.grad is None for p in parts.parameters()]
    return found


class Either(nn.Module):
    """Uses only one of its layers."""

    def __init__(self, parts: nn.ModuleList) -> None:
        super().__init__()
        self.parts = parts

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.parts[0](inputs)


@pytest.mark.slow
def test_one_model_is_evaluated_the_main_process_s_and_what_ddp_cannot_do_is_said(tmp_path: Path) -> None:
    main, other = together(evaluate, tmp_path)
    assert main["scores"] == other["scores"] == main["saved"]
    assert main["kinds"] == other["kinds"] == [[0, 0], [1, 1], [1, 1]]
    for found in (main, other):
        assert "the processes have (2, 2) float32, (2, 3) float32" in found["shapes"]
        assert found["frozen"] == "Linear"
        assert "has 2 parameters whose gradients are not exchanged" in found["grown"]
        assert "second derivatives would differ between processes" in found["second"]
        assert found["unused"] == [False, False, True, True]
