"""Workers send every tensor unchanged, and small ones as bytes."""

import pytest
import torch
from support.loading import make
from torch.utils.data import Dataset

from paccel.runtime import DataError

KINDS = {
    "a number": torch.tensor(3.5),
    "none": torch.zeros(0, 3),
    "two halves": torch.tensor([1.5, -0.0]).bfloat16(),
    "truths": torch.tensor([True, False]),
    "complex": torch.tensor([[1 + 2j]]),
    "conjugate": torch.tensor([1 + 2j]).conj(),
    "transposed": torch.arange(6).view(2, 3).T,
    "sparse": torch.eye(3).to_sparse(),
    "wants a gradient": torch.ones(2, requires_grad=True),
    "large": torch.arange(1 << 16).double(),
}


class Kinds(Dataset):
    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return KINDS


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_workers_send_tensors_of_every_kind_as_they_were() -> None:
    loader = make(
        Kinds(),
        1,
        collate_fn=lambda samples: samples[0],
        num_workers=1,
        worker_options={"multiprocessing_context": "fork"},
    )
    for batch, _ in loader.training_batches(1, 0, 1):
        for name, sent in KINDS.items():
            found = batch[name]
            assert (found.dtype, found.shape, found.layout) == (sent.dtype, sent.shape, sent.layout), name
            assert found.requires_grad == sent.requires_grad, name
            assert torch.equal(found.to_dense(), sent.to_dense()), name
            if found.layout is torch.strided:
                assert found.stride() == sent.stride(), name
                found.is_shared() or found.detach().zero_()  # a copy is the loop's own
        assert batch["large"].is_shared(), "a large one is not copied through a pipe"
        assert not batch["truths"].is_shared()
    loader.close()
    assert KINDS["truths"].any()


class Exhausted(Dataset):
    """Reads from an iterator that ends after three samples."""

    def __init__(self) -> None:
        self.rows = iter([torch.zeros(1)] * 3)

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> torch.Tensor:
        return next(self.rows)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_evaluation_does_not_end_early_where_a_sample_raises_stop_iteration(num_workers: int) -> None:
    options = {"multiprocessing_context": "fork"} if num_workers else {}
    loader = make(Exhausted(), 2, num_workers=num_workers, worker_options=options)
    with pytest.raises(DataError, match="`Exhausted` raised StopIteration for a sample"):
        for _ in loader.evaluation_batches(filler=False):
            pass
    loader.close()
