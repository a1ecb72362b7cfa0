"""Tensors in memory, gathered as whole micro-batches and moved to the device."""

import itertools
from collections import defaultdict
from typing import Any

import pytest
import torch
from support.loading import batches, indices_of_steps, make
from torch.utils.data import Subset, TensorDataset

from paccel.runtime.data.delivery import to_device
from paccel.runtime.data.loader import Loader


@pytest.mark.parametrize("subset", [False, True])
def test_tensors_are_gathered_as_sample_by_sample_collation_would(subset: bool) -> None:
    tensors = TensorDataset(torch.randn(43, 3), torch.arange(43))
    dataset = Subset(tensors, list(range(42, 10, -1))) if subset else tensors
    gathered, collated = make(dataset), make(dataset, collate_fn=torch.utils.data.default_collate)
    for micro_batches in (1, 2):
        pairs = zip(*(loader.training_batches(1, 0, micro_batches) for loader in (gathered, collated)), strict=True)
        for ours, theirs in pairs:
            assert ours[1] == theirs[1]
            for left, right in zip(ours[0], theirs[0], strict=True):
                assert torch.equal(left, right)


class TestStepsThatAreGatheredAtOnce:
    """Tensors on the host, one process, no accumulation."""

    @pytest.fixture
    def loader(self, monkeypatch: pytest.MonkeyPatch) -> Loader:
        rows = TensorDataset(torch.randn(43, 3), torch.arange(43))
        monkeypatch.setattr("paccel.runtime.data.tensors._CHUNK_BYTES", 3 * 8 * (12 + 8))  # three steps
        return make(rows)

    def test_every_step_is_where_it_belongs_and_aligned_alike_wherever_the_epoch_is_entered(
        self, loader: Loader
    ) -> None:
        def steps_from(first: int) -> list[tuple[list[int], int]]:
            return [(batch[1].tolist(), batch[0].data_ptr() % 64) for batch, _ in loader.training_batches(2, first, 1)]

        whole = steps_from(0)
        assert [indices for indices, _ in whole] == indices_of_steps([loader], 2, 1)
        for first in range(7):
            assert steps_from(first) == whole[first:]

    def test_writing_into_a_batch_touches_no_other(self, loader: Loader) -> None:
        (first, _), (second, _) = itertools.islice(loader.training_batches(1, 0, 1), 2)
        assert first[0].untyped_storage().data_ptr() == second[0].untyped_storage().data_ptr()
        kept = second[0].clone()
        weight = torch.ones(3, requires_grad=True)
        loss = (first[0] * weight).sum()
        second[0].zero_()
        first_kept = first[0].clone()
        loss.backward()  # raises where the two share a version
        assert torch.equal(weight.grad, first_kept.sum(0))
        assert not torch.equal(second[0], kept)


def test_rows_for_a_gpu_are_gathered_into_page_locked_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = []

    def empty(*size: Any, pin_memory: bool = False, **options: Any) -> torch.Tensor:
        pinned.append(pin_memory)
        return torch.zeros(*size, **options)

    monkeypatch.setattr(torch, "empty", empty)  # there may be no GPU here to lock pages for
    monkeypatch.setattr("paccel.runtime.data.delivery.to_device", lambda batch, _: batch)
    monkeypatch.setattr("paccel.runtime.data.loader.seeder", lambda _: lambda seed: None)
    data = TensorDataset(torch.arange(43), torch.arange(86.0).reshape(43, 2))
    ours, plain = (batches(make(data, device=torch.device(kind))) for kind in ("cuda", "cpu"))
    assert list(ours) == list(plain)
    assert pinned == [True] * 12


def test_copies_to_a_device_do_not_block(monkeypatch: pytest.MonkeyPatch) -> None:
    copies: list[Any] = []
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *args, **options: copies.append((args, options)) or self)
    device = torch.device("cuda")
    batch = {"a": torch.zeros(1), "b": [torch.zeros(1), (torch.zeros(1), "text")]}
    assert to_device(batch, device) == batch
    assert copies == [((device,), {"non_blocking": True})] * 3


def test_collated_batches_of_every_type_are_moved() -> None:
    device = torch.device("meta")
    sample = defaultdict(list, a=torch.zeros(1), b=[(torch.zeros(1), "text")])
    batch = to_device(torch.utils.data.default_collate([sample]), device)
    assert batch["a"].device == batch["b"][0][0].device == device
    assert batch["b"][0][1] == ("text",)
