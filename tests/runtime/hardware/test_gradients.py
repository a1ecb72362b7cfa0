"""Clipping by norm: PyTorch's result, to the bit."""

import gc
import math
from contextlib import nullcontext
from dataclasses import dataclass

import pytest
import torch
from support.scaling import loss_scaler
from torch import nn
from torch.nn import functional as F

from paccel.runtime import ConfigError, NonFiniteError, Run
from paccel.runtime.hardware.gradients import clip_grad_norm


def parameters(scale: float, dtypes: tuple[torch.dtype, ...] = (torch.float32,)) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    found = []
    for dtype in dtypes:
        for shape in ((64, 32), (64,), (3, 5, 7), ()):
            found.append(nn.Parameter(torch.zeros(shape, dtype=dtype)))
            found[-1].grad = (scale * torch.randn(shape, generator=generator)).to(dtype)
    return [*found, nn.Parameter(torch.zeros(2))]  # one without a gradient


@pytest.mark.parametrize("max_norm", [1e-5, 0.5, 1.0, 47.0, 1e6, None])
@pytest.mark.parametrize("scale", [1e-7, 0.01, 1.0, math.nan, math.inf, 0.0])
@pytest.mark.parametrize("reads", [True, False])
@pytest.mark.parametrize("dtypes", [(torch.float32,), (torch.float64,), (torch.float32, torch.float64)], ids=str)
def test_norm_and_gradients_are_those_of_pytorch(
    scale: float, max_norm: float | None, dtypes: tuple[torch.dtype, ...], reads: bool
) -> None:
    ours, theirs = parameters(scale, dtypes), parameters(scale, dtypes)
    norm = clip_grad_norm(ours, max_norm, reads=reads)
    expected = torch.nn.utils.clip_grad_norm_(theirs, math.inf if max_norm is None else max_norm)
    assert torch.equal(norm, expected) or (norm.isnan() and expected.isnan())
    for mine, other in zip(ours[:-1], theirs[:-1], strict=True):
        assert mine.grad is not None
        assert other.grad is not None
        same = torch.where(mine.grad.isnan(), 0.0, mine.grad), torch.where(other.grad.isnan(), 0.0, other.grad)
        assert max_norm is None or torch.equal(*same)


@pytest.mark.parametrize("around", [0.98, 0.99, 0.995, 1 - 1e-6, 1.0, 1 + 1e-6, 1.01])
def test_a_norm_near_the_limit_is_scaled_as_pytorch_scales_it(around: float) -> None:
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters(1.0)[:-1]]).item()
    ours, theirs = parameters(1.0), parameters(1.0)
    clip_grad_norm(ours, norm * around, reads=True)
    torch.nn.utils.clip_grad_norm_(theirs, norm * around)
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(ours[:-1], theirs[:-1], strict=True))


def test_a_model_without_gradients_has_the_norm_zero() -> None:
    assert clip_grad_norm([nn.Parameter(torch.zeros(2))], 1.0, reads=True) == 0.0


@dataclass
class Config:
    seed: int = 0


def norm_of(*modules: nn.Module) -> float:
    return torch.nn.utils.get_total_norm([p.grad for module in modules for p in module.parameters()]).item()


class TestTheModuleAsItIsNow:
    def test_temporary_modules_are_told_apart_and_not_kept(self) -> None:
        with Run(Config(), record=False) as run:
            parts = [nn.Linear(4, 4) for _ in range(6)]
            for part in parts:
                run.backward(part(torch.full((2, 4), 100.0)).sum())
            for part in parts:
                before = norm_of(part)
                told = run.clip_grad_norm(nn.ModuleList([part]), 1.0)
                assert told.item() == pytest.approx(before)
                assert norm_of(part) == pytest.approx(1.0, rel=1e-4)
            del part
            gc.collect()
            assert sum(type(thing) is nn.ModuleList for thing in gc.get_objects()) == 0

    def test_parameters_that_were_added_or_replaced_are_clipped_and_looked_at(self) -> None:
        with Run(Config(), record=False) as run:
            net = run.prepare(nn.Sequential(nn.Linear(4, 4)))
            run.backward(net(torch.ones(2, 4)).sum())
            run.clip_grad_norm(net, 1.0)
            for change in (lambda: net.append(nn.Linear(4, 4)), lambda: net.insert(0, nn.Linear(4, 4))):
                change()
                net.zero_grad()
                run.backward(net(torch.full((2, 4), 100.0)).sum())
                whole = norm_of(net)
                assert run.clip_grad_norm(net, 1.0).item() == pytest.approx(whole)
                assert norm_of(net) == pytest.approx(1.0, rel=1e-4)
            run.position.step = 1
            run.backward(net[2](torch.full((2, 4), float("nan"))).sum())
            with pytest.raises(NonFiniteError, match="gradient norm of step 1 is nan"):
                run.clip_grad_norm(net, 1.0)

    def test_a_norm_that_the_loop_changes_in_place_is_looked_at_as_it_was(self) -> None:
        with Run(Config(), record=False) as run:
            run.guard.reads, run.position.step = False, 1  # as on a device
            net = nn.Linear(2, 1)
            run.backward(net(torch.full((1, 2), float("nan"))).sum())
            run.clip_grad_norm(net, None).zero_()
            with pytest.raises(NonFiniteError, match="gradient norm of step 1 is nan"):
                run.guard.check()


LOGITS, LABELS = torch.randn(8, 4), torch.arange(8) % 4


def test_a_mean_is_made_a_sum_and_a_count_of_nothing_adds_nothing() -> None:
    with Run(Config(), record=False) as run:
        ours, theirs = (LOGITS.clone().requires_grad_() for _ in range(2))
        run.backward(F.cross_entropy(ours, LABELS), count=16, mean_of=8)
        run.backward(F.cross_entropy(theirs, LABELS, reduction="sum"), count=16)
        torch.testing.assert_close(ours.grad, theirs.grad)
        for nothing in (0, torch.tensor(0), torch.tensor(0.0, dtype=torch.float64)):
            run.backward(ours[:0].sum(), count=nothing)
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_options_of_pytorch_s_backward_are_passed_on_with_a_loss_scaler_too() -> None:
    for scales in (False, True):
        with loss_scaler() if scales else nullcontext(), Run(Config(), record=False) as run:
            model = nn.Linear(2, 1, bias=False)
            model, _ = run.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
            inputs = torch.ones(1, 2, requires_grad=True)
            loss = model(inputs).square().sum()
            run.backward(loss, 4, retain_graph=True, inputs=[inputs])
            assert model.weight.grad is None
            run.backward(loss, 4, create_graph=True)
            assert model.weight.grad.requires_grad
            scale = run.accelerator.scaler.get_scale() if scales else 1.0
            (expected,) = torch.autograd.grad(loss, model.weight)
            torch.testing.assert_close(model.weight.grad.detach(), expected / 4 * scale)


def test_gradient_accumulation_of_the_launcher_divides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    with loss_scaler(), Run(Config(), record=False) as run:
        model = nn.Linear(1, 1, bias=False)
        model, _ = run.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
        run.backward(model(torch.ones(2, 1)).sum(), count=2)
        assert model.weight.grad.item() == run.accelerator.scaler.get_scale()


def test_fp16_of_the_launcher_is_refused_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(ConfigError, match="accelerate's settings say `fp16`"):
        Run(Config(), record=False)
