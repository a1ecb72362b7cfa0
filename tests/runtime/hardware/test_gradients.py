"""Clipping by norm: PyTorch's result, to the bit."""

import math

import pytest
import torch
from torch import nn

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
