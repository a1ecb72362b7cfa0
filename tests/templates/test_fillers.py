"""A filler, by which a process takes part in the forward pass of a sharded model, counts in no template's scores."""

import runpy
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from support.generated import rendered
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from paccel.files.tree import write_tree
from paccel.runtime import Run

pytestmark = pytest.mark.slow


@dataclass
class Config:
    seed: int = 0


LOGITS = torch.tensor([[4.0, 0.0], [0.0, 4.0], [4.0, 0.0]])
LABELS = torch.tensor([1, 1, 0])


def of_detections() -> tuple[list[dict[str, Tensor]], list[dict[str, Tensor]]]:
    box, label = torch.tensor([[1.0, 1.0, 40.0, 40.0]]), torch.tensor([1])
    wrong = {"boxes": box + 50, "labels": label, "scores": torch.tensor([0.9])}
    right = {"boxes": box, "labels": label, "scores": torch.tensor([0.8])}
    return [wrong, right], [{"boxes": box, "labels": label}] * 2


# The model passes on what it is given, so the first of a batch is what it predicts
CASES: dict[str, tuple[dict[str, Any], tuple[Any, Any], tuple[Any, Any], list[int]]] = {
    "text-classification": ({}, (LOGITS, LABELS), (LOGITS[:1], LABELS[:1]), []),
    "image-classification": ({"torchmetrics": True}, (LOGITS, LABELS), (LOGITS[:1], LABELS[:1]), [2]),
    "image-segmentation": (
        {},
        (LOGITS[:, :, None, None], LABELS[:, None, None]),
        (LOGITS[:1, :, None, None], LABELS[:1, None, None]),
        [2],
    ),
    "object-detection": ({}, of_detections(), tuple(part[:1] for part in of_detections()), []),
}


@pytest.mark.parametrize("name", CASES)
def test_scores_are_the_same_with_a_filler(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers, batch, filler, more = CASES[name]
    write_tree(tmp_path / "project", rendered(name, answers))
    monkeypatch.syspath_prepend(tmp_path / "project")
    before = set(sys.modules)
    try:
        evaluate = runpy.run_path(str(tmp_path / "project" / "train.py"))["evaluate"]
    finally:
        for module in set(sys.modules) - before:
            if str(getattr(sys.modules[module], "__file__", None)).startswith(str(tmp_path)):
                del sys.modules[module]
    found = []
    with Run(Config(), record=False) as run:
        for batches in ([(batch, len(batch[1]))], [(batch, len(batch[1])), (filler, 0)]):
            loader = run.loader(TensorDataset(torch.arange(2)), 1)
            monkeypatch.setattr(loader, "evaluation_batches", lambda filler, batches=batches: iter(batches))
            found.append(str(evaluate(run, nn.Identity(), loader, *more)))
    assert found[1] == found[0]
