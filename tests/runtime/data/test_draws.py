"""What a sample and its collation draw at random: the same for any number of processes and workers."""

import importlib.util
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from support.loading import Augmented, Squares, batches, make
from torch.utils.data import ConcatDataset, Dataset, Subset


class AugmentedFromPairs(Squares):
    """Each sample draws once from generators that compute numbers in pairs."""

    def __getitem__(self, index: int) -> tuple[int, float, float, float]:
        return index, torch.randn(()).item(), np.random.standard_normal(), random.gauss(0, 1)


class SometimesAugmented(Squares):
    """Draws for one sample in seven only, and never in the first batch of an unshuffled pass."""

    def __getitem__(self, index: int) -> tuple[int, float]:
        return index, random.random() if index % 7 == 6 else 0.0


@pytest.mark.parametrize("dataset", [Squares(), Augmented(), SometimesAugmented()], ids=lambda d: type(d).__name__)
def test_batches_are_the_same_with_and_without_workers(dataset: Dataset) -> None:
    assert list(batches(make(dataset))) == list(batches(make(dataset, num_workers=2)))


def mixed(rows: list[tuple[int, int]]) -> list[torch.Tensor]:
    """A collation that draws, as MixUp does. Returns the indices and what it drew."""
    return [torch.tensor([index for index, _ in rows]), torch.tensor([random.random()] * len(rows))]


def test_collation_draws_other_numbers_in_each_batch_and_the_same_with_workers_and_when_resumed() -> None:
    def drawn(first_step: int = 0, epoch: int = 1, **options: object) -> list[float]:
        loader = make(Squares(), collate_fn=mixed, **options)
        return [batch[1][0].item() for batch, _ in loader.training_batches(epoch, first_step, 1)]

    whole = drawn()
    assert len(set(whole) | set(drawn(epoch=2))) == 12
    assert drawn(num_workers=2) == whole
    assert drawn(first_step=3) == whole[3:]


class OfOneGenerator(Squares):
    """Each sample draws from one of the global generators."""

    def __init__(self, generator: Callable[[], float]) -> None:
        super().__init__()
        self.generator = generator

    def __getitem__(self, index: int) -> tuple[int, float]:
        self.fetched += 1
        return index, self.generator()


OF_ONE = [partial(OfOneGenerator, draw) for draw in (random.random, np.random.rand, lambda: torch.rand(()).item())]


@pytest.mark.parametrize("dataset_class", [Augmented, AugmentedFromPairs, SometimesAugmented, *OF_ONE])
def test_what_a_sample_draws_depends_on_its_epoch_and_index_alone(dataset_class: type[Squares]) -> None:
    def drawn(epoch: int, **options: object) -> dict[int, tuple]:
        torch.manual_seed(99)  # whatever the state of the generators was
        rows = batches(make(dataset_class(), **options), epoch)
        return {index: values for *fields, _ in rows for index, *values in zip(*fields, strict=True)}

    everything = drawn(1)
    assert drawn(1, batch_size=3, shuffle=False) == everything
    assert drawn(1, batch_size=16, rank=1, num_processes=2).items() <= everything.items()
    assert drawn(2) != everything


class OwnGenerators(Squares):
    """Draws from generators that no global seed reaches: NumPy's, and albumentations' where it is installed."""

    def __init__(self, size: int = 43) -> None:
        super().__init__(size)
        self.generator = np.random.default_rng()
        self.transform = None
        if importlib.util.find_spec("albumentations"):
            from albumentations import Compose, GaussNoise

            self.transform = Compose([GaussNoise(p=1.0)])

    def set_sample_seed(self, seed: int) -> None:
        self.generator = np.random.default_rng(seed)
        if self.transform is not None:
            self.transform.set_random_seed(seed)

    def __getitem__(self, index: int) -> tuple[int, float, float]:
        image = np.zeros((4, 4, 3), dtype=np.float32)
        if self.transform is not None:
            image = self.transform(image=image)["image"]
        return index, self.generator.random(), float(image.sum())


def wrapped(size: int = 43) -> Dataset:
    """The same samples through a `Subset` of two parts."""
    return Subset(ConcatDataset([OwnGenerators(size), OwnGenerators(size)]), range(size))


@pytest.mark.parametrize("dataset_class", [OwnGenerators, wrapped])
def test_a_dataset_with_generators_of_its_own_is_told_the_seed_of_each_sample(dataset_class: Any) -> None:
    def drawn(epoch: int, **options: object) -> dict[int, tuple]:
        rows = batches(make(dataset_class(), **options), epoch)
        return {index: values for *fields, _ in rows for index, *values in zip(*fields, strict=True)}

    everything = drawn(1)
    assert drawn(1, batch_size=3, num_workers=2) == everything
    assert drawn(2) != everything
    assert len({tuple(values) for values in everything.values()}) == 43


def test_data_that_draws_nothing_is_fetched_once_for_each_sample() -> None:
    dataset = Squares()
    list(batches(make(dataset)))
    assert dataset.fetched == 43
    drawing = OF_ONE[0]()
    list(batches(make(drawing)))
    assert drawing.fetched == 43 + 8  # the first batch twice


class Torn(Dataset):
    """Every third sample cannot be read."""

    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> int | None:
        return None if index % 3 == 0 else index


def present(rows: list[int | None]) -> torch.Tensor:
    return torch.tensor([row for row in rows if row is not None])


def test_samples_that_collation_leaves_out_do_not_count_and_a_line_says_what_does(
    capfd: pytest.CaptureFixture[str],
) -> None:
    loader = make(Torn(), batch_size=4, shuffle=False, collate_fn=present)
    found = [(batch.tolist(), counted) for batch, counted in loader.evaluation_batches(False)]
    assert found == [([1, 2], 2), ([4, 5], 2)]
    assert capfd.readouterr().err.count("`Torn` has samples that are None, and `step.num_samples` counts them") == 1
