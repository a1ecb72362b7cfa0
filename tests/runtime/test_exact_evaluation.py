"""Exact evaluation: every sample once, on any number of processes, whatever the sizes, with torchmetrics as it is."""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from support.sampled import over_three_days
from support.together import together
from torch.nn import functional
from torch.utils.data import TensorDataset

from paccel.runtime import Meter, Run

pytestmark = pytest.mark.slow

SIZES, BATCH_SIZES = (0, 1, 2, 7, 8, 9), (1, 3, 8, 16)

Scores = dict[str, float]


@dataclass
class Config:
    """What a run reads."""

    run_dir: Path | None = None


def make_data(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of three classes, shape (size, 3), float64, and labels, shape (size,), int64."""
    generator = torch.Generator().manual_seed(size)
    logits = torch.randn(size, 3, dtype=torch.float64, generator=generator)
    return logits, torch.randint(0, 3, (size,), generator=generator)


def make_metrics() -> list[Any]:
    """Metrics that keep counts, one that keeps a sum, and one that keeps all it is given."""
    from torchmetrics import MeanMetric
    from torchmetrics.classification import MulticlassAccuracy, MulticlassAUROC, MulticlassF1Score

    metrics = [MulticlassAccuracy(3), MulticlassF1Score(3), MeanMetric(), MulticlassAUROC(3)]
    return [metric.set_dtype(torch.float64) for metric in metrics]


def update(metrics: list[Any], logits: torch.Tensor, labels: torch.Tensor) -> None:
    accuracy, f1, mean, area = metrics
    mean.update(functional.cross_entropy(logits, labels, reduction="none"))
    for metric in (accuracy, f1, area):
        metric.update(logits.softmax(-1), labels)


def compute(metrics: list[Any], size: int, processes: int) -> Scores:
    if size < processes:
        metrics.pop()  # torchmetrics joins no lists where one process has nothing, and has no curve without a point
    return {type(metric).__name__: metric.compute().item() for metric in metrics}


def evaluate_all() -> dict[tuple[bool, int, int], tuple[list[int], Scores, Scores]]:
    """What this process saw, and what all of them reached, without and with fillers, for each size and batch size."""
    found = {}
    with Run(Config(), record=False) as run:
        processes = run.accelerator.num_processes
        for case in itertools.product((False, True), SIZES, BATCH_SIZES):
            with_fillers, size, batch_size = case
            run.prepared.has_shards = lambda: with_fillers  # noqa: B023  # as with a sharded model
            loader = run.loader(TensorDataset(torch.arange(size), *make_data(size)), batch_size)
            meter, metrics, seen = Meter(run), make_metrics(), []
            for indices, logits, labels in run.batches(loader):
                loss = functional.cross_entropy(logits, labels, reduction="sum")
                meter.add(loss=loss, accuracy=(logits.argmax(-1) == labels).sum(), count=len(labels))
                if loader.batch_samples:  # not a filler
                    seen += indices.tolist()
                    update(metrics, logits, labels)
            found[case] = seen, meter.read(), compute(metrics, size, processes)
    return found


def in_one_pass(size: int, processes: int) -> tuple[Scores, Scores]:
    logits, labels = make_data(size)
    metrics = make_metrics()
    if size == 0:
        return {}, compute(metrics, size, processes)
    update(metrics, logits, labels)
    loss = functional.cross_entropy(logits, labels).item()
    return {"loss": loss, "accuracy": (logits.argmax(-1) == labels).double().mean().item()}, compute(
        metrics, size, processes
    )


@pytest.mark.filterwarnings("ignore::UserWarning")  # of torchmetrics, where there is nothing to compute from
@pytest.mark.parametrize("processes", over_three_days([1, 2]))
def test_each_sample_is_seen_once_and_the_scores_are_those_of_one_pass(tmp_path: Path, processes: int) -> None:
    results = [evaluate_all()] if processes == 1 else together(evaluate_all, tmp_path, processes=processes)
    one_pass = {size: in_one_pass(size, processes) for size in SIZES}
    for case in results[0]:
        _, size, _ = case
        assert sorted(index for result in results for index in result[case][0]) == list(range(size)), case
        for _, scores, metrics in (result[case] for result in results):
            ours, theirs = one_pass[size]
            assert scores == pytest.approx(ours, rel=0, abs=1e-12, nan_ok=True), case
            assert metrics == pytest.approx(theirs, rel=0, abs=1e-12, nan_ok=True), case
