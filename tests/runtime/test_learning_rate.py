"""The learning-rate test finds a rate that works, the same on all processes, and leaves no trace."""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.utils import DistributedType
from support.scaling import loss_scaler
from support.together import together
from torch import nn
from torch.utils.data import TensorDataset

from paccel.runtime import ConfigError, Meter, Run, find_learning_rate, schedules
from paccel.runtime.learning_rate import LearningRates


@dataclass
class Config:
    """What the run reads."""

    run_dir: Path | None = None
    seed: int = 0


class Rows(TensorDataset):
    """Rows that are fetched one by one, by workers if there are any."""


def compute_loss(model: nn.Module, batch: Any) -> tuple[torch.Tensor, None]:
    return ((model(batch[0]) - batch[1]) ** 2).sum(), None


def setting(run: Run, num_workers: int = 0) -> tuple[Any, nn.Module, torch.optim.Optimizer]:
    inputs = torch.randn(43, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    loader = run.loader(Rows(inputs, inputs.sum(-1, keepdim=True)), 8, shuffle=True, num_workers=num_workers)
    layers = nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.1), nn.Linear(8, 1)
    model = nn.Sequential(*layers).double().eval()
    groups = [{"params": layers[0].parameters(), "lr": 0.01}, {"params": layers[3].parameters(), "lr": 0.1}]
    model, optimizer = run.prepare(model, torch.optim.AdamW(groups))
    return loader, model, optimizer


def everything(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[Any]:
    generators = [torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()]
    weights = {name: value.tolist() for name, value in model.state_dict().items()}
    gradients = [None if p.grad is None else (id(p.grad), p.grad.tolist()) for p in model.parameters()]
    states = [value.tolist() for values in optimizer.state.values() for value in values.values()]
    groups = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    return [generators, weights, gradients, states, groups, [m.training for m in model.modules()]]


def train(run: Run, loader: Any, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    for _ in run.epochs(2):
        model.train()
        for step in run.steps(loader):
            for batch in step:
                run.backward(compute_loss(model, batch)[0] / step.num_samples)
            optimizer.step()
            optimizer.zero_grad()
    return {name: value.tolist() for name, value in model.state_dict().items()}


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 1])
def test_the_run_continues_as_if_there_had_been_no_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_workers: int
) -> None:
    monkeypatch.chdir(tmp_path)
    finals = []
    for tried in (False, True):
        with Run(Config(), record=False) as run:
            loader, model, optimizer = setting(run, num_workers)
            schedules.cosine(optimizer, 12, 3)
            optimizer.zero_grad()
            before = everything(model, optimizer)
            if tried:
                found = find_learning_rate(run, model, optimizer, loader, compute_loss, steps=20)
                assert len(found.rates) == 20
                assert everything(model, optimizer) == before
            finals.append(train(run, loader, model, optimizer))
    assert finals[0] == finals[1]


class TestWhatIsRestored:
    """Also if the loss function fails half-way."""

    @pytest.mark.slow
    @pytest.mark.parametrize("fails", [False, True])
    def test_gradients_buffers_and_state_that_were_there_before(self, fails: bool) -> None:
        calls = 0

        def loss_of(model: nn.Module, batch: Any) -> torch.Tensor:
            nonlocal calls
            calls += 1
            model[1].running_mean = model[1].running_mean + 1.0  # another tensor replaces the buffer
            if fails and calls == 5:
                raise ArithmeticError("broken on purpose")
            return compute_loss(model, batch)[0] + random.random() + np.random.random()

        with Run(Config(), record=False) as run:
            loader, model, optimizer = setting(run)
            inputs = torch.ones(2, 4, dtype=torch.float64)
            model.train()
            model(inputs + torch.randn_like(inputs)).sum().backward()
            optimizer.step()
            model[1].eval()
            buffer, measured = model[1].running_mean, run.reporter.throughput.samples
            before = everything(model, optimizer)
            if fails:
                with pytest.raises(ArithmeticError):
                    find_learning_rate(run, model, optimizer, loader, loss_of)
            else:
                find_learning_rate(run, model, optimizer, loader, loss_of)
            assert everything(model, optimizer) == before
            assert model[1].running_mean is buffer
            assert run.reporter.throughput.samples == measured
            assert not run.micro_batch.is_filler

    def test_an_optimizer_without_state_has_none_and_a_rate_stays_in_its_tensor(self) -> None:
        with Run(Config(), record=False) as run:
            loader, model, _ = setting(run)
            rate = torch.tensor(0.5)
            optimizer = torch.optim.Adam(model.parameters(), lr=rate, foreach=False)
            find_learning_rate(run, model, optimizer, loader, compute_loss, steps=10)
            assert not optimizer.state
            assert optimizer.param_groups[0]["lr"] is rate
            assert rate.item() == 0.5

    def test_the_loss_scale_and_the_speed_of_training(self) -> None:
        with loss_scaler(init_scale=8.0, growth_interval=2), Run(Config(), record=False) as run:
            scaler = run.accelerator.scaler
            scaler.scale(torch.ones(()))  # creates its scale, as the first backward pass does
            loader, model, optimizer = setting(run)
            measured = run.reporter.throughput
            find_learning_rate(run, model, optimizer, loader, compute_loss, steps=10)
            assert scaler.get_scale() == 8.0
            assert measured.other_seconds > 0
            assert (measured.samples, measured.data_seconds) == (0, 0.0)

    def test_meters_in_the_loss_function_count_nothing(self) -> None:
        with Run(Config(), record=False) as run:
            loader, model, optimizer = setting(run)
            meter = Meter(run)

            def counted(model: nn.Module, batch: Any) -> torch.Tensor:
                meter.add(loss=1.0, count=1)
                return compute_loss(model, batch)[0]

            found = find_learning_rate(run, model, optimizer, loader, counted, steps=10)
            assert len(found.losses) == 10
            meter.add(loss=3.0, count=1)
            assert meter.read() == {"loss": 3.0}


def search(steps: int, accumulate: int, factor: float = 1.0, **options: Any) -> LearningRates:
    with Run(Config(), record=False) as run:
        inputs = torch.randn(43, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        loader = run.loader(TensorDataset(inputs, inputs.sum(-1, keepdim=True)), 8, shuffle=True)
        model = nn.Linear(4, 1).double()
        model, optimizer = run.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
        return find_learning_rate(
            *(run, model, optimizer, loader, compute_loss),
            lowest=1e-5 * factor,
            highest=100 * factor,
            steps=steps,
            accumulate=accumulate,
            **options,
        )


def test_the_suggestion_lies_between_too_slow_and_too_fast_and_it_stops_where_the_loss_explodes() -> None:
    found = search(steps=100, accumulate=1)
    assert found.suggestion is not None
    assert 0.003 < found.suggestion < 1.0  # above 1, SGD on this quadratic grows: its curvature is about 2
    assert len(found.rates) < 100
    assert found.rates == sorted(found.rates)
    assert found.smoothed[-1] <= 4 * min(found.smoothed)  # it stops at four times its lowest


def test_the_loss_is_divided_by_what_is_counted_and_gradients_are_clipped() -> None:
    plain = search(steps=40, accumulate=2)
    assert plain.smoothed[0] == pytest.approx(plain.losses[0], rel=1e-12)  # not biased towards 0
    doubled = search(steps=40, accumulate=2, factor=2.0, count=lambda batch: 2 * len(batch[0]))
    assert [2 * loss for loss in doubled.losses] == pytest.approx(plain.losses, rel=1e-9)
    still = search(steps=40, accumulate=2, max_grad_norm=1e-9)
    assert len(plain.losses) < len(still.losses) == 40  # nothing moves, so nothing explodes


@pytest.mark.slow
def test_two_processes_find_the_same_as_one(tmp_path: Path) -> None:
    expected = search(steps=60, accumulate=1)
    for accumulate in (1, 2):
        for found in together(search, tmp_path, 60, accumulate):
            assert found.suggestion == expected.suggestion
            assert found.losses == pytest.approx(expected.losses, rel=1e-9)


def test_groups_keep_the_ratio_of_their_rates() -> None:
    seen = []

    def watching(model: nn.Module, batch: Any) -> torch.Tensor:
        seen.append([group["lr"] for group in optimizer.param_groups])
        return compute_loss(model, batch)[0]

    with Run(Config(), record=False) as run:
        loader, model, optimizer = setting(run)
        find_learning_rate(run, model, optimizer, loader, watching, lowest=1e-4, highest=1e-2, steps=11)
    assert seen[0] == pytest.approx([1e-5, 1e-4])
    assert seen[-1] == pytest.approx([1e-3, 1e-2])


def test_a_loss_that_never_falls_gives_no_suggestion_but_a_plot(tmp_path: Path) -> None:
    rising = LearningRates([1e-3, 1e-2, 1e-1], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0], None)
    rising.draw(tmp_path / "rates.png")
    assert (tmp_path / "rates.png").read_bytes().startswith(b"\x89PNG")


class TestErrors:
    def test_all_problems_of_the_arguments_are_named(self) -> None:
        with Run(Config(), record=False) as run:
            loader, model, optimizer = setting(run)
            expected = r"`lowest` must be above 0 and below `highest`: 1 and 1\n`steps` must .*\n`accumulate` must"
            with pytest.raises(ConfigError, match=expected):
                find_learning_rate(
                    run, model, optimizer, loader, compute_loss, lowest=1, highest=1, steps=3, accumulate=0
                )

    @pytest.mark.parametrize("engine", [DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM, DistributedType.XLA])
    def test_an_engine_with_its_own_state_is_refused(self, engine: DistributedType) -> None:
        with Run(Config(), record=False) as run:
            loader, model, optimizer = setting(run)
            run.accelerator.state.distributed_type = engine
            with pytest.raises(ConfigError, match=f"{engine.value} keeps state that cannot be restored"):
                find_learning_rate(run, model, optimizer, loader, compute_loss)

    def test_a_stream_is_refused(self) -> None:
        with Run(Config(), record=False) as run:
            _, model, optimizer = setting(run)
            loader = run.loader(iter([torch.ones(4)] * 8), 2)
            with pytest.raises(ConfigError, match="`list_iterator` is a stream, which cannot be rewound"):
                find_learning_rate(run, model, optimizer, loader, compute_loss)

    def test_a_loss_that_is_not_finite_from_the_start_is_an_error(self) -> None:
        with Run(Config(), record=False) as run:
            loader, model, optimizer = setting(run)
            with pytest.raises(
                ConfigError, match=r"The loss is nan in the first step, with the learning rate 1\.00e-06"
            ):
                find_learning_rate(run, model, optimizer, loader, lambda m, b: compute_loss(m, b)[0] * float("nan"))
