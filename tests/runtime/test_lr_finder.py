"""The range test sees what training would, and leaves no trace."""

import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_curves import is_picture
from tiny_train import make_data
from together import together
from torch import nn

from paccel.runtime import Checkpoints, ConfigError, Meter, Run, find_learning_rate, schedules
from paccel.runtime.lr_finder import LearningRates


@dataclass
class Config:
    """What the run reads."""

    run_dir: Path | None = None
    seed: int = 1


def net(dropout: float = 0.0, norm: bool = False) -> nn.Module:
    torch.manual_seed(0)
    middle = nn.BatchNorm1d(6) if norm else nn.Identity()
    return nn.Sequential(nn.Linear(4, 6), middle, nn.Dropout(dropout), nn.Tanh(), nn.Linear(6, 1)).double()


def compute_loss(model: nn.Module, batch: Any) -> torch.Tensor:
    _, inputs, targets = batch
    return ((model(inputs) - targets) ** 2).sum()


def search(data: str = "tensors", steps: int = 30, **options: Any) -> LearningRates:
    """A range test with SGD on the tiny data."""
    with Run(Config(), record=False) as run:
        dataset, collate = make_data(data)
        loader = run.loader(dataset, 8, shuffle=True, collate_fn=collate)
        model, optimizer = run.prepare(model := net(), torch.optim.SGD(model.parameters(), lr=1.0))
        return find_learning_rate(run, model, optimizer, loader, compute_loss, steps=steps, **options)


def train(run_dir: Path, workers: int, find: bool) -> None:
    """2 epochs of 6 steps with all that has state; before the first step and in the middle, perhaps a range test."""
    with Run(Config(run_dir)) as run:
        loader = run.loader(make_data("augmented")[0], 8, shuffle=True, num_workers=workers)
        model = net(dropout=0.2, norm=True)
        groups = [{"params": model[0].parameters(), "lr": 0.01}, {"params": model[4].parameters(), "lr": 0.02}]
        model, optimizer = run.prepare(model, torch.optim.AdamW(groups, amsgrad=True))
        schedule = schedules.cosine(optimizer, 12, 3)
        meter = Meter(run)
        checkpoints = Checkpoints(run, model=model, optimizer=optimizer, schedule=schedule, meter=meter)
        for epoch in run.epochs(2):
            model.train()
            if find:
                find_learning_rate(run, model, optimizer, loader, compute_loss, steps=15, max_grad_norm=0.5)
            for step in run.steps(loader):
                for batch in step:
                    loss = compute_loss(model, batch)
                    run.backward(loss / step.num_samples)
                    meter.add(loss=loss, count=len(batch[1]))
                run.clip_grad_norm(model, 0.5)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
                if step.every(4):
                    run.log("train", meter.read(), learning_rate=schedule.get_last_lr()[1])
            if epoch == 2:
                checkpoints.save()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_with_a_range_test_in_it_is_the_same_to_the_bit(tmp_path: Path, workers: int, metrics: Any) -> None:
    for name, find in (("without", False), ("with", True)):
        train(tmp_path / name, workers, find)
    assert metrics(tmp_path / "with") == metrics(tmp_path / "without")
    saved = [sorted((tmp_path / name / "checkpoints" / "step-12").glob("*")) for name in ("with", "without")]
    tensors = [path.read_bytes() for paths in saved for path in paths if path.suffix == ".safetensors"]
    assert len(tensors) >= 4
    assert tensors[: len(tensors) // 2] == tensors[len(tensors) // 2 :]


class TestWhatIsPutBack:
    """Also where the user's function fails midway."""

    @pytest.mark.parametrize("fails", [False, True])
    def test_weights_gradients_modes_state_rates_and_generators(self, fails: bool) -> None:
        calls = 0

        def loss_of(model: nn.Module, batch: Any) -> torch.Tensor:
            nonlocal calls
            calls += 1
            if fails and calls == 5:
                raise ArithmeticError("broken on purpose")
            return compute_loss(model, batch) + random.random() + np.random.random()

        with Run(Config(), record=False) as run:
            loader = run.loader(make_data("tensors")[0], 8, shuffle=True)
            model, optimizer = run.prepare(model := net(0.3, norm=True), torch.optim.Adam(model.parameters(), lr=0.03))
            compute_loss(model, next(iter(run.batches(loader)))).backward()
            optimizer.step()
            model[1].eval()

            def everything() -> list[Any]:
                state = optimizer.state_dict()
                return [
                    [tensor.tolist() for tensor in model.state_dict().values()],
                    [(id(p.grad), p.grad.tolist()) for p in model.parameters()],
                    [module.training for module in model.modules()],
                    [value.tolist() for values in state["state"].values() for value in values.values()],
                    state["param_groups"],
                    (random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()),
                    (replace(run._position), run._in_filler, run._reporter.throughput.samples),
                ]

            before = everything()
            if fails:
                with pytest.raises(ArithmeticError):
                    find_learning_rate(run, model, optimizer, loader, loss_of)
            else:
                find_learning_rate(run, model, optimizer, loader, loss_of)
            assert everything() == before

    def test_an_optimizer_without_state_has_none_afterwards(self) -> None:
        with Run(Config(), record=False) as run:
            loader = run.loader(make_data("tensors")[0], 8)
            rate = torch.tensor(0.5)
            model = net()
            optimizer = torch.optim.Adam(model.parameters(), lr=rate, foreach=False, capturable=False)
            find_learning_rate(run, model, optimizer, loader, compute_loss, steps=5)
            assert not optimizer.state
            assert optimizer.param_groups[0]["lr"] is rate
            assert rate.item() == 0.5

    def test_a_meter_in_the_user_s_function_counts_nothing(self) -> None:
        with Run(Config(), record=False) as run:
            meter = Meter(run)

            def counted(model: nn.Module, batch: Any) -> torch.Tensor:
                meter.add(loss=1.0, count=1)
                return compute_loss(model, batch)

            loader = run.loader(make_data("tensors")[0], 8)
            model, optimizer = run.prepare(model := net(), torch.optim.SGD(model.parameters(), lr=1.0))
            find_learning_rate(run, model, optimizer, loader, counted, steps=5, accumulate=2)
            meter.add(loss=3.0, count=1)
            assert meter.read() == {"loss": 3.0}


def test_two_processes_and_any_accumulation_see_the_same(tmp_path: Path) -> None:
    alone = search(accumulate=2)
    first, second = together(search, tmp_path)
    assert first == second
    for found in (search(), first):
        assert found.learning_rates == alone.learning_rates[: len(found.losses)]
        assert found.losses == pytest.approx(alone.losses, rel=1e-12)
        assert found.suggestion == alone.suggestion


def test_losses_are_means_over_what_is_counted() -> None:
    found = search("tokens", steps=2, count=lambda batch: len(batch[1]))
    with Run(Config(), record=False) as run:
        dataset, collate = make_data("tokens")
        loader = run.loader(dataset, 8, shuffle=True, collate_fn=collate)
        batch = collate([dataset[index] for index in loader.indices_of_step(1, 0)])
    assert found.losses[0] == pytest.approx(compute_loss(net(), batch).item() / len(batch[1]), rel=1e-12)


def test_the_steps_are_those_with_which_the_run_begins(tmp_path: Path) -> None:
    """With the learning rate of the run itself at each step, the losses are the run's."""
    found = search(steps=20, first=0.1, last=0.100001)
    with Run(Config(), record=False) as run:
        loader = run.loader(make_data("tensors")[0], 8, shuffle=True)
        model, optimizer = run.prepare(model := net(), torch.optim.SGD(model.parameters(), lr=0.1))
        losses = []
        for _ in run.epochs(None, 20):
            for step in run.steps(loader):
                for batch in step:
                    loss = compute_loss(model, batch) / step.num_samples
                    run.backward(loss)
                    losses.append(loss.item())
                optimizer.step()
                optimizer.zero_grad()
    assert found.losses == pytest.approx(losses, rel=1e-4)


def test_the_ratios_between_groups_are_kept() -> None:
    seen = []
    with Run(Config(), record=False) as run:
        loader = run.loader(make_data("tensors")[0], 8)
        model = net()
        groups = [{"params": model[0].parameters(), "lr": 0.01}, {"params": model[4].parameters(), "lr": 0.04}]
        optimizer = torch.optim.SGD(groups)

        def watched(model: nn.Module, batch: Any) -> torch.Tensor:
            seen.append(tuple(group["lr"] for group in optimizer.param_groups))
            return compute_loss(model, batch)

        found = find_learning_rate(run, model, optimizer, loader, watched, first=1e-4, last=1e-2, steps=3)
    assert [high for _, high in seen] == pytest.approx([1e-4, 1e-3, 1e-2])
    assert [low for low, _ in seen] == pytest.approx([0.25e-4, 0.25e-3, 0.25e-2])
    assert found.learning_rates == tuple(high for _, high in seen)


def test_the_suggestion_trains_and_the_test_ends_where_training_diverges() -> None:
    """SGD on a quadratic of curvature 1 falls fastest near a rate of 1, and diverges above 2."""
    data = [torch.ones(1, dtype=torch.float64)] * 8
    with Run(Config(), record=False) as run:
        loader = run.loader(data, 8)
        model = nn.Linear(1, 1, bias=False).double()
        nn.init.constant_(model.weight, 3.0)
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        found = find_learning_rate(
            run, model, optimizer, loader, lambda m, x: 0.5 * ((m(x) - 1) ** 2).sum(), first=1e-5, last=1e4, steps=200
        )
    assert found.suggestion is not None
    assert 0.01 < found.suggestion < 1
    assert 2 < found.learning_rates[-1] < 100


def test_a_loss_that_never_falls_gives_no_suggestion() -> None:
    assert search(first=1.0, last=1e6).suggestion is None


def test_it_is_drawn_and_the_same_values_give_the_same_bytes(tmp_path: Path) -> None:
    found = search()
    for name in ("a", "b"):
        found.draw(tmp_path / "new" / f"{name}.png")
    assert is_picture(tmp_path / "new" / "a.png")
    assert (tmp_path / "new" / "a.png").read_bytes() == (tmp_path / "new" / "b.png").read_bytes()


def test_all_problems_are_named() -> None:
    with pytest.raises(ConfigError) as caught:
        search(first=2.0, last=1.0, steps=1, accumulate=0, stop_factor=1.0)
    assert all(f"`{name}`" in str(caught.value) for name in ("first", "last", "steps", "accumulate", "stop_factor"))


def test_a_loss_that_is_not_finite_at_once_is_an_error() -> None:
    with Run(Config(), record=False) as run:
        loader = run.loader(make_data("tensors")[0], 8)
        model = net()
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        with pytest.raises(ConfigError, match=r"not finite in the first step, with the learning rate 1\.00e-07"):
            find_learning_rate(run, model, optimizer, loader, lambda m, b: compute_loss(m, b) * float("nan"))
