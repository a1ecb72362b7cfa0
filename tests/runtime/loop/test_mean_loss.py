"""A loss that is a mean already is noticed before it is divided again."""

from dataclasses import dataclass

import pytest
import torch
from torch.nn import functional as F

from paccel.runtime import Run
from paccel.runtime.loop.mean_loss import is_mean


@dataclass
class Config:
    seed: int = 0


LOGITS, LABELS = torch.randn(8, 4), torch.arange(8) % 4


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (lambda x: F.cross_entropy(x, LABELS), True),
        (lambda x: F.mse_loss(x, LOGITS), True),
        (lambda x: F.binary_cross_entropy_with_logits(x, LOGITS.sigmoid()), True),
        (lambda x: x.square().mean(), True),
        (lambda x: F.cross_entropy(x, LABELS) + 0.5 * x.square().mean(), True),
        (lambda x: F.cross_entropy(x, LABELS, reduction="sum"), False),
        (lambda x: F.cross_entropy(x, LABELS) * len(x), False),
        (lambda x: x.square().sum(), False),
        (lambda x: x.square().mean(1).sum(), False),
        (lambda x: F.cross_entropy(x, LABELS, reduction="sum") + 0.1 * x.mean(), False),
    ],
)
def test_a_loss_that_is_a_mean_is_noticed(loss, expected: bool, capsys: pytest.CaptureFixture[str]) -> None:
    logits = LOGITS.clone().requires_grad_()
    assert is_mean(loss(logits)) is expected
    with Run(Config(), record=False) as run:
        for _ in range(2):
            run.backward(loss(logits), count=8)
    said = capsys.readouterr().err
    assert said.count("the loss is a mean, and `run.backward` divides it by 8 once more") == expected
