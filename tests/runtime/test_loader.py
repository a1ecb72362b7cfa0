"""Which samples make which step: the same for any number of processes, accumulation and workers."""

import importlib.util
import itertools
import multiprocessing
import os
import random
import signal
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset

from paccel.runtime import ConfigError
from paccel.runtime.loader import _INDEX, Loader, share, to_device


class Squares(Dataset):
    """Index and square: nothing is drawn at random."""

    def __init__(self, size: int = 43) -> None:
        self.size, self.fetched = size, 0

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[int, int]:
        self.fetched += 1
        return index, index * index


class Augmented(Squares):
    """Each sample draws from every global generator."""

    def __getitem__(self, index: int) -> tuple[int, float, float, float]:
        return index, torch.rand(()).item(), np.random.rand(), random.random()


class AugmentedFromPairs(Squares):
    """Each sample takes one of what the generators make in pairs."""

    def __getitem__(self, index: int) -> tuple[int, float, float, float]:
        return index, torch.randn(()).item(), np.random.standard_normal(), random.gauss(0, 1)


class SometimesAugmented(Squares):
    """Draws for one sample in seven only, and never in the first batch of an unshuffled pass."""

    def __getitem__(self, index: int) -> tuple[int, float]:
        return index, random.random() if index % 7 == 6 else 0.0


def make(dataset: Dataset, batch_size: int = 8, **options: object) -> Loader:
    defaults = {
        "shuffle": True,
        "drop_last": False,
        "num_workers": 0,
        "collate_fn": None,
        "limit": None,
        "seed": 7,
        "rank": 0,
        "num_processes": 1,
        "device": torch.device("cpu"),
    }
    return Loader(dataset, batch_size, **(defaults | options))


def indices_of_steps(loaders: list[Loader], epoch: int, accumulate: int, first_step: int = 0) -> list[list[int]]:
    """The samples that count, for each step over all processes, in the order in which they were dealt."""
    sources = [loader.training_parts(epoch, first_step, accumulate) for loader in loaders]
    steps = []
    for _ in range(first_step, loaders[0].steps_per_epoch):
        step = []
        for _ in range(accumulate):
            for source in sources:
                part = next(source)
                step += part.indices[: part.counted].tolist()
        steps.append(step)
    return steps


def batches(loader: Loader, epoch: int = 1) -> Iterator[list]:
    for batch, count in loader.training_batches(epoch, 0, 1):
        yield [*(field.tolist() for field in batch), count]


def twice_the_rare(epoch: int) -> list[int]:
    """The samples 0 to 30, and every fifth of all 43 once more, in another order in each epoch."""
    indices = [*range(31), *range(0, 43, 5)]
    return indices[epoch:] + indices[:epoch]


class TestErrors:
    def test_what_has_neither_an_index_nor_an_order_is_refused_by_name(self) -> None:
        class Nothing:
            pass

        with pytest.raises(ConfigError, match="`Nothing` has no length or no index, and cannot be iterated"):
            make(Nothing())

    def test_a_batch_size_below_one_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="at least 1: 0"):
            make(Squares(), batch_size=0)

    def test_an_epoch_without_a_step_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="No step in an epoch: 5 samples, batch size 8"):
            make(Squares(5), drop_last=True).total_steps(3)

    def test_a_run_without_an_end_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="would never end"):
            make(Squares()).total_steps(None)


def test_shares_cover_everything_and_differ_by_at_most_one() -> None:
    for size in range(20):
        for parts in range(1, 8):
            slices = [share(size, parts, part) for part in range(parts)]
            assert [i for start, stop in slices for i in range(start, stop)] == list(range(size))
            sizes = [stop - start for start, stop in slices]
            assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("num_processes", [1, 2, 3])
@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_steps_hold_the_same_samples_in_the_same_order_on_any_hardware(num_processes: int, accumulate: int) -> None:
    single = indices_of_steps([make(Squares())], 3, 1)
    loaders = [make(Squares(), rank=rank, num_processes=num_processes) for rank in range(num_processes)]
    assert indices_of_steps(loaders, 3, accumulate) == single
    assert sorted(i for step in single for i in step) == list(range(43))


def test_all_processes_run_the_same_number_of_micro_batches_with_fillers_for_missing_samples() -> None:
    parts = [list(make(Squares(9), rank=r, num_processes=2).training_parts(1, 0, 2)) for r in range(2)]
    assert len(parts[0]) == len(parts[1]) == 4
    tail = [part for process in parts for part in process[2:]]
    assert sorted(part.counted for part in tail) == [0, 0, 0, 1]
    assert all(len(part.indices) == 1 for part in tail)


def test_each_epoch_has_its_own_order_and_each_seed_too() -> None:
    first, second = (indices_of_steps([make(Squares())], epoch, 1) for epoch in (1, 2))
    other = indices_of_steps([make(Squares(), seed=8)], 1, 1)
    assert first != second
    assert first != other


def test_starting_at_a_step_gives_what_the_whole_epoch_gives_from_there_on() -> None:
    assert indices_of_steps([make(Squares())], 2, 1, first_step=3) == indices_of_steps([make(Squares())], 2, 1)[3:]


def test_drop_last_and_limit_shorten_the_epoch() -> None:
    assert make(Squares()).steps_per_epoch == 6
    assert make(Squares(), drop_last=True).steps_per_epoch == 5
    limited = make(Squares(), limit=2)
    assert (limited.steps_per_epoch, limited.num_samples) == (2, 16)
    assert limited.total_steps(3) == 6
    assert limited.total_steps(3, max_steps=4) == 4


@pytest.mark.parametrize("dataset", [Squares(), Augmented(), SometimesAugmented()], ids=lambda d: type(d).__name__)
def test_batches_are_the_same_with_and_without_workers(dataset: Dataset) -> None:
    assert list(batches(make(dataset))) == list(batches(make(dataset, num_workers=2)))


def mixed(rows: list[tuple[int, int]]) -> list[torch.Tensor]:
    """A collation that draws, as a mixture of samples does; behind the indices, what it drew."""
    return [torch.tensor([index for index, _ in rows]), torch.tensor([random.random()] * len(rows))]


def test_what_collation_draws_is_another_number_in_each_batch_and_the_same_with_workers_and_when_resumed() -> None:
    def drawn(first_step: int = 0, epoch: int = 1, **options: object) -> list[float]:
        loader = make(Squares(), collate_fn=mixed, **options)
        return [batch[1][0].item() for batch, _ in loader.training_batches(epoch, first_step, 1)]

    whole = drawn()
    assert len(set(whole) | set(drawn(epoch=2))) == 12
    assert drawn(num_workers=2) == whole
    assert drawn(first_step=3) == whole[3:]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_a_signal_to_all_processes_of_a_group_does_not_take_the_workers_away(name: str) -> None:
    loader = make(Squares(), num_workers=2)
    source = batches(loader)
    begun = [next(source), next(source)]  # one of each worker
    for worker in loader._workers._iterator._workers:
        os.kill(worker.pid, signal.Signals[name])
    assert [*begun, *source] == list(batches(make(Squares())))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_a_process_that_ends_with_a_loader_in_use_ends_its_workers() -> None:
    def leave_in_the_middle() -> None:
        kept.append(make(Squares(), num_workers=2))
        kept.append(batches(kept[0]))
        next(kept[1])

    kept: list = []
    process = multiprocessing.get_context("fork").Process(target=leave_in_the_middle)
    process.start()
    process.join(30)
    hangs = process.is_alive()
    process.kill()
    assert not hangs
    assert process.exitcode == 0


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


class TestAnOrderOfOnesOwn:
    """Weights, curricula, buckets: a function from the epoch to indices."""

    def test_it_is_dealt_the_same_way_on_any_hardware_and_wherever_an_epoch_is_entered(self) -> None:
        for dataset in (Squares(), TensorDataset(torch.arange(43))):
            expected = [twice_the_rare(3)[start : start + 8] for start in range(0, 40, 8)]
            for num_processes, accumulate in itertools.product((1, 2, 3), (1, 2)):
                loaders = [
                    make(dataset, shuffle=twice_the_rare, rank=r, num_processes=num_processes)
                    for r in range(num_processes)
                ]
                seen = [[i & _INDEX for i in step] for step in indices_of_steps(loaders, 3, accumulate, 2)]
                assert [sorted(step) for step in seen] == [sorted(step) for step in expected[2:]]
            assert [loaders[0].indices_of_step(3, step) for step in range(5)] == expected
            one = make(dataset, shuffle=twice_the_rare)
            assert [batch[0].tolist() for batch, _ in one.training_batches(3, 2, 1)] == expected[2:]
            in_halves = [index for batch, _ in one.training_batches(3, 2, 2) for index in batch[0].tolist()]
            assert in_halves == [index for step in expected[2:] for index in step]

    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_a_sample_that_comes_again_is_augmented_anew_and_the_same_each_time(self, num_workers: int) -> None:
        drawn = list(batches(make(Augmented(), shuffle=twice_the_rare, num_workers=num_workers), epoch=2))
        assert drawn == list(batches(make(Augmented(), shuffle=twice_the_rare), epoch=2))
        of_five = [draw for *fields, _ in drawn for index, *draw in zip(*fields, strict=True) if index == 5]
        assert len(of_five) == 2
        assert of_five[0] != of_five[1]
        plain = [
            draw
            for *fields, _ in batches(make(Augmented()), epoch=2)
            for index, *draw in zip(*fields, strict=True)
            if index == 5
        ]
        assert of_five[0] == plain[0], "the first time it is what it is in any order"

    @pytest.mark.parametrize(
        ("order", "message"),
        [
            (lambda epoch: range(10 * epoch), r"epoch 2 must be 10 whole numbers.*torch.int64, shape \(20,\)"),
            (lambda epoch: [1.5] * 10, "must be 10 whole numbers.*float"),
            (lambda epoch: [0, 43 if epoch == 2 else 42], "epoch 2 has the index 43, and there are 43 samples"),
            (lambda epoch: [0, -1], "the index -1"),
        ],
    )
    def test_one_that_cannot_be_dealt_is_named(self, order: Callable[[int], list[int]], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            list(batches(make(Squares(), shuffle=order), epoch=2))

    def test_an_evaluation_refuses_it(self) -> None:
        with pytest.raises(ConfigError, match="is for training"):
            list(make(Squares(), shuffle=twice_the_rare).evaluation_batches(filler=False))


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
        monkeypatch.setattr("paccel.runtime.loader._CHUNK_BYTES", 3 * 8 * (12 + 8))  # three steps
        return make(rows)

    def test_every_step_comes_at_its_place_wherever_the_epoch_is_entered(self, loader: Loader) -> None:
        whole = [(batch[1].tolist(), batch[0].data_ptr() % 64) for batch, _ in loader.training_batches(2, 0, 1)]
        assert [indices for indices, _ in whole] == indices_of_steps([loader], 2, 1)
        for first in range(7):
            entered = loader.training_batches(2, first, 1)
            assert [(batch[1].tolist(), batch[0].data_ptr() % 64) for batch, _ in entered] == whole[first:]

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


@pytest.mark.parametrize("size", [0, 1, 2, 7, 8, 9, 17])
@pytest.mark.parametrize("num_processes", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [1, 4, 8])
def test_evaluation_sees_each_sample_once(size: int, num_processes: int, batch_size: int) -> None:
    parts = [
        list(make(Squares(size), batch_size, rank=r, num_processes=num_processes).evaluation_parts(filler=False))
        for r in range(num_processes)
    ]
    seen = [i for process in parts for part in process for i in part.indices.tolist()]
    assert sorted(seen) == list(range(size))
    with_fillers = [
        list(make(Squares(size), batch_size, rank=r, num_processes=num_processes).evaluation_parts(filler=True))
        for r in range(num_processes)
    ]
    assert len({len(process) for process in with_fillers}) == 1
    if min(size, batch_size) >= num_processes:  # a small tail is joined to the batch before it
        assert all(part.counted for process in with_fillers for part in process)


def test_rows_for_a_gpu_are_gathered_into_page_locked_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = []

    def empty(*size: Any, pin_memory: bool = False, **options: Any) -> torch.Tensor:
        pinned.append(pin_memory)
        return torch.zeros(*size, **options)

    monkeypatch.setattr(torch, "empty", empty)  # there may be no GPU here to lock pages for
    monkeypatch.setattr("paccel.runtime.loader.to_device", lambda batch, _: batch)
    data = TensorDataset(torch.arange(43), torch.arange(86.0).reshape(43, 2))
    ours, plain = (batches(make(data, device=torch.device(kind))) for kind in ("cuda", "cpu"))
    assert list(ours) == list(plain)
    assert pinned == [True] * 12


def test_what_goes_to_a_device_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    copies: list[Any] = []
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *args, **options: copies.append((args, options)) or self)
    device = torch.device("cuda")
    batch = {"a": torch.zeros(1), "b": [torch.zeros(1), (torch.zeros(1), "text")]}
    assert to_device(batch, device) == batch
    assert copies == [((device,), {"non_blocking": True})] * 3
