"""Scores count all labelled pixels, and predictions are drawn."""

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import evaluate
import train


class Copy(nn.Module):
    """Predicts for each pixel the class given by the first channel of the image."""

    def forward(self, images):
        return torch.nn.functional.one_hot(images[:, 0].long(), 3).movedim(-1, 1).float()


@pytest.fixture
def run():
    with train.Run(train.Config(), record=False) as run:
        yield run


def test_mean_iou_is_that_of_all_pixels_together_whatever_the_batches(run):
    generator = torch.Generator().manual_seed(0)
    seen = torch.randint(3, (5, 3, 4, 4), generator=generator)
    masks = torch.randint(3, (5, 4, 4), generator=generator)
    masks[0, :2] = train.IGNORE
    known = masks != train.IGNORE
    truth, predicted = masks[known], seen[:, 0][known]
    expected = [((truth == c) & (predicted == c)).sum() / ((truth == c) | (predicted == c)).sum() for c in range(3)]
    for batch_size in (1, 2, 5):
        loader = run.loader(TensorDataset(seen.float(), masks), batch_size)
        scores, iou = train.evaluate(run, Copy(), loader, 3)
        torch.testing.assert_close(iou, torch.stack(expected))
        assert scores["mean_iou"] == pytest.approx(torch.stack(expected).mean().item())
        assert scores["accuracy"] == pytest.approx((truth == predicted).double().mean().item())


def test_a_class_that_is_nowhere_does_not_count(run):
    masks = torch.zeros(2, 4, 4, dtype=torch.int64)
    loader = run.loader(TensorDataset(torch.zeros(2, 3, 4, 4), masks), 2)
    scores, iou = train.evaluate(run, Copy(), loader, 3)
    assert scores["mean_iou"] == 1
    assert iou.isnan().tolist() == [False, True, True]


def test_pixels_without_a_class_change_neither_loss_nor_gradient():
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    masks = torch.randint(3, (2, 4, 4))
    masks[:, 1] = train.IGNORE
    loss, _ = train.compute_loss(nn.Identity(), (logits, masks))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert not gradient[:, :, 1].any()
    assert train.count_pixels((logits, masks)) == 24
    kept = [0, 2, 3]
    expected = nn.functional.cross_entropy(logits[:, :, kept], masks[:, kept], reduction="sum")
    torch.testing.assert_close(loss, expected)


def test_the_picture_of_the_predictions_is_drawn(tmp_path):
    images, masks = torch.rand(2, 3, 8, 8), torch.zeros(2, 8, 8, dtype=torch.int64)
    masks[0, 0] = train.IGNORE
    evaluate.draw(images, masks, masks.clamp(max=1), ["ground", "square"], tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
