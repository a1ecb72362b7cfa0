"""Buffers that an evaluation changes, and buffers that no checkpoint saves."""

import torch
from torch import nn

from paccel.runtime.hardware.buffers import UnsavedBuffers, kept


class Observer(nn.Module):
    """Changes its buffers in each call: in place, by assigning a tensor, and in shape."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("last", torch.zeros(2))
        self.register_buffer("seen", torch.zeros(0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.last = x.clone()
        self.seen.resize_(3).fill_(1.0)
        return x


def test_buffers_are_put_back_as_the_same_tensors_whatever_was_done_to_them() -> None:
    model = nn.Sequential(Observer(), nn.LazyBatchNorm1d())
    before = [buffer for _, buffer in model[0].named_buffers()]
    with torch.no_grad(), kept(model):
        model[0](torch.ones(2))
        assert model[0].calls.item() == 1
    assert all(
        buffer is other for buffer, other in zip(model[0].buffers(), before, strict=True)
    )  # DDP keeps references to them
    assert (model[0].calls.item(), model[0].last.tolist(), model[0].seen.tolist()) == (0, [0, 0], [])


def test_what_training_changes_and_no_state_has_is_named_once_and_a_cache_that_grows_is_not() -> None:
    model = nn.Linear(1, 1)
    for name, persistent in (("queue", False), ("constant", False), ("cache", False), ("mean", True)):
        model.register_buffer(name, torch.full((2,), torch.nan), persistent=persistent)
    unsaved = UnsavedBuffers({"model": model})
    unsaved.note()
    model.queue[0], model.mean[0], model.cache = 1, 1, torch.ones(3)
    assert unsaved.take_changed() == ["model.queue"]
    assert unsaved.take_changed() == []
