"""The order of large datasets: each index once, uniform, computed as it is read, and unchanged for old runs."""

import itertools
import math
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from support.loading import Squares, indices_of_steps, make
from torch import nn
from torch.utils.data import TensorDataset

from paccel.runtime import Checkpoints, Run
from paccel.runtime.data.randomness import permutation
from paccel.runtime.data.shuffle import LARGEST_LIST, ORDER_VERSION, Shuffled, shuffled

BILLION = 10**9
LARGE = LARGEST_LIST + 5


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 12, 16, 17, 100, 4096, 4097, 9973, 10_000, 65_537])
def test_each_index_comes_once_and_no_two_keys_have_the_same_order(size: int) -> None:
    orders = [Shuffled(order_key, size)[0:size].tolist() for order_key in range(3)]
    for order in orders:
        assert sorted(order) == list(range(size))
    if size > 16:
        assert orders[0] != orders[1] != orders[2] != list(range(size))


@pytest.mark.parametrize("size", [2**31 - 1, 2**31, 10**12, 2**53 + 1, 2**62])
def test_no_size_overflows(size: int) -> None:
    draw = np.random.default_rng(0)
    places = np.unique([*range(1000), *range(size - 1000, size), *draw.integers(0, size, 5000)])
    found = Shuffled(3, size).indices(places)
    assert len(np.unique(found)) == len(places)
    assert 0 <= found.min() <= found.max() < size
    assert abs(found.mean() / size - 0.5) < 0.02
    assert Shuffled(3, size)[size - 3 : size + 5].tolist() == Shuffled(3, size).indices(places[-3:]).tolist()


@pytest.mark.slow
def test_all_orders_of_four_samples_are_about_equally_likely() -> None:
    counts = dict.fromkeys(itertools.permutations(range(4)), 0)
    for order_key in range(24 * 200):
        counts[tuple(Shuffled(order_key, 4)[0:4].tolist())] += 1
    squares = sum((count - 200) ** 2 / 200 for count in counts.values())
    assert squares < 49.7  # chi-squared with 23 degrees of freedom: one generator in a thousand fails


@pytest.mark.parametrize("size", [1000, 1024, 1_000_003])
def test_positions_are_uniform_and_independent_of_neighbours_and_of_the_next_epoch(size: int) -> None:
    places = np.arange(min(size, 1 << 17))
    orders = [Shuffled(order_key, size).indices(places) for order_key in range(40 if size < 10_000 else 4)]
    cells = np.concatenate([order * 100 // size for order in orders]).reshape(len(orders), -1)
    for grouping in (cells, cells[:, : len(places) // 10], cells[:, ::7], np.diff(cells) % 100):
        counts = np.bincount(grouping.ravel(), minlength=100)
        even = grouping.size / 100
        assert ((counts - even) ** 2 / even).sum() < 170  # 99 degrees of freedom: 1 in 100,000
    for one, other in itertools.pairwise([*orders, places]):
        assert abs(np.corrcoef(one, other)[0, 1]) < 5 / math.sqrt(len(places))
    assert abs(np.corrcoef(orders[0][1:], orders[0][:-1])[0, 1]) < 5 / math.sqrt(len(places))


def test_any_slice_is_that_of_the_whole_order() -> None:
    order = Shuffled(7, 20_000)
    whole = Shuffled(7, 20_000)[0:20_000]
    for start, stop in [(0, 8), (8, 16), (4090, 4100), (3, 5), (19_990, 20_000), (19_990, 20_050), (0, 20_000), (5, 5)]:
        assert torch.equal(order[start:stop], whole[start:stop])


def test_a_small_dataset_has_the_order_of_0_1_and_a_large_one_only_where_its_run_began_with_it() -> None:
    assert torch.equal(shuffled(3, 1, 1000), permutation(3, 1, 1000))  # type: ignore[arg-type]
    assert torch.equal(shuffled(3, 1, LARGE, version=1), permutation(3, 1, LARGE))  # type: ignore[arg-type]
    assert shuffled(3, 1, LARGE)[0:9].tolist() != permutation(3, 1, LARGE)[:9].tolist()
    assert shuffled(3, 1, LARGE)[0:9].tolist() != shuffled(3, 2, LARGE)[0:9].tolist()


def test_a_billion_samples_take_no_memory_and_the_same_steps_on_any_processes() -> None:
    tracemalloc.start()
    alone = make(Squares(BILLION), batch_size=96)
    last = alone.steps_per_epoch - 3
    straight = [alone.indices_of_step(2, step) for step in range(last, last + 3)]
    assert len(straight[-1]) == BILLION % 96
    for processes, accumulate in ((1, 2), (2, 1), (3, 2)):
        loaders = [make(Squares(BILLION), batch_size=96, rank=r, num_processes=processes) for r in range(processes)]
        assert indices_of_steps(loaders, 2, accumulate, first_step=last) == straight
    evaluated = next(make(Squares(BILLION), batch_size=96, num_processes=2, rank=1).evaluation_parts(filler=False))
    assert evaluated.indices.tolist() == list(range(48, 96))
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_tensors_gathered_by_whole_steps_are_in_the_same_order() -> None:
    rows = TensorDataset(torch.arange(LARGE))
    loader = make(rows, batch_size=1000)
    for first_step in (0, 700):
        for step, portion in zip((0, 1, 2), loader.portions(1, first_step, 1), strict=False):
            (batch,), _ = next(iter(portion.micro_batches))
            assert batch.tolist() == loader.indices_of_step(1, first_step + step)


@dataclass
class Config:
    """What a run reads."""

    run_dir: Path
    resume: str = "never"


def samples(run_dir: Path, *, begins_as_0_1: bool = False, resume: str = "never", stop_at: int = 4) -> list[list[int]]:
    seen = []
    with Run(Config(run_dir, resume)) as run:
        loader = run.loader(Squares(LARGE), 4, shuffle=True)
        run.position.order = 1 if begins_as_0_1 else run.position.order
        checkpoints = Checkpoints(run, model=nn.Linear(1, 1))
        checkpoints.restore()
        for _ in run.epochs(1):
            for step in run.steps(loader):
                seen += [indices.tolist() for indices, _ in step]
                if step.number == stop_at:
                    checkpoints.save()
                    return seen
    return seen


def test_a_run_keeps_the_order_that_it_began_with(tmp_path: Path) -> None:
    old, new = permutation(0, 1, LARGE)[:32].tolist(), shuffled(0, 1, LARGE)[0:32].tolist()
    for begins_as_0_1, order in ((True, old), (False, new)):
        first = samples(tmp_path / str(begins_as_0_1), begins_as_0_1=begins_as_0_1)
        second = samples(tmp_path / str(begins_as_0_1), resume="auto", stop_at=8)
        assert [index for step in first + second for index in step] == order


def test_a_checkpoint_of_0_1_which_names_no_order_has_the_first_one(tmp_path: Path) -> None:
    with Run(Config(tmp_path / "run")) as run:
        state = run.state_dict()
        assert state["position"].pop("order") == ORDER_VERSION
        loader = run.loader(Squares(LARGE), 4, shuffle=True)
        assert loader.indices_of_step(1, 0) == shuffled(run.seed, 1, LARGE)[0:4].tolist()
        run.load_state_dict(state)
        assert loader.indices_of_step(1, 0) == permutation(run.seed, 1, LARGE)[:4].tolist()
