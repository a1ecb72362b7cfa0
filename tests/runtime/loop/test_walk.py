"""The walk through epochs and steps: positions of loaders, loops that are left early, steps without data."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support.sampled import sampled
from support.small_runs import Config, rows
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from paccel.runtime import Checkpoints, ConfigError, Loader, Meter, Run


def one_after_the_other(run_dir: Path, stop_at: int = 0, resume: str = "never") -> list[list[int]]:
    """Train two epochs of three loaders, the last one a stream. Returns the samples of each step."""
    seen: list[list[int]] = []
    with Run(Config(run_dir, resume)) as run:
        loaders: list[Loader] = [run.loader(rows(10), 4, shuffle=True), run.loader(rows(3, 10), 2, shuffle=True)]
        loaders.append(run.loader(Stream(5), 3))
        checkpoints = Checkpoints(run, model=nn.Linear(1, 1))
        checkpoints.restore()
        for _ in run.epochs(2):
            for loader in loaders:
                for step in run.steps(loader):
                    seen += [(batch[0] if isinstance(batch, list) else batch).tolist() for batch in step]
                    if step.number == stop_at:
                        checkpoints.save()
                        return seen
    return seen


class Stream(IterableDataset):
    def __init__(self, size: int) -> None:
        self.size = size

    def __iter__(self) -> Iterator[int]:
        return iter(range(100, 100 + self.size))


def test_each_loader_of_an_epoch_has_its_own_place_also_when_a_run_is_resumed(tmp_path: Path) -> None:
    straight = one_after_the_other(tmp_path / "straight")
    assert sorted(itertools.chain(*straight)) == sorted([*range(13), *range(100, 105)] * 2)
    for stop_at in sampled(range(1, len(straight)), 5):
        run_dir = tmp_path / str(stop_at)
        assert one_after_the_other(run_dir, stop_at) + one_after_the_other(run_dir, resume="auto") == straight


def test_steps_within_the_steps_of_another_loader_are_refused_with_the_way_that_works() -> None:
    with Run(Config(), record=False) as run, pytest.raises(ConfigError, match=r"use `for batch, other in step.beside"):
        first, second = run.loader(rows(8), 4), run.loader(rows(8), 4)
        for _ in run.epochs(1):
            for steps in zip(run.steps(first), run.steps(second), strict=True):
                for step in steps:
                    list(step)


def test_steps_that_were_left_go_on_where_they_stood() -> None:
    with Run(Config(), record=False) as run:
        loader, seen = run.loader(rows(8), 2), []
        for _ in run.epochs(1):
            for _ in range(2):
                for step in run.steps(loader):
                    seen += [batch.tolist() for (batch,) in step]
                    if step.number == 2:
                        break
    assert seen == [[0, 1], [2, 3], [4, 5], [6, 7]]


def broken_off(run_dir: Path, *, saves_within: bool, resume: str = "never", epochs: int = 3) -> list[list[int]]:
    """Train epochs of 4 steps, leave each after 2, and save inside the loop over steps or after it."""
    seen: list[list[int]] = []
    with Run(Config(run_dir, resume)) as run:
        loader = run.loader(rows(8), 2, shuffle=True)
        checkpoints = Checkpoints(run, model=nn.Linear(1, 1))
        checkpoints.restore()
        for _ in run.epochs(epochs):
            for number, step in enumerate(run.steps(loader)):
                seen += [batch.tolist() for (batch,) in step]
                if number == 1:
                    if saves_within:
                        checkpoints.save()
                    break
            checkpoints.save()
    return seen


def test_a_run_that_leaves_its_epochs_early_and_saves_after_them_goes_on_with_the_next_epoch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    straight = broken_off(tmp_path / "straight", saves_within=False)
    capsys.readouterr()
    first = broken_off(tmp_path / "run", saves_within=False, epochs=1)
    said = capsys.readouterr()
    assert "was left" not in said.out + said.err  # no step follows it
    assert first + broken_off(tmp_path / "run", saves_within=False, resume="auto") == straight


def test_that_saves_within_an_epoch_and_breaks_off_cannot_both_be_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken_off(tmp_path / "run", saves_within=True)
    said = capsys.readouterr()
    assert (said.out + said.err).count("epoch 1 was left with `break`") == 1


def test_steps_that_go_on_after_a_save_outside_of_them_are_refused(tmp_path: Path) -> None:
    with Run(Config(tmp_path / "run")) as run, pytest.raises(ConfigError, match="save inside a loop over steps"):
        loader, checkpoints = run.loader(rows(8), 2), Checkpoints(run, model=nn.Linear(1, 1))
        for _ in run.epochs(1):
            for _ in range(2):
                for step in run.steps(loader):
                    list(step)
                    break
                checkpoints.save()


def test_a_save_between_the_loaders_of_an_epoch_is_refused_as_a_resumed_run_would_skip_the_second(
    tmp_path: Path,
) -> None:
    with Run(Config(tmp_path / "run")) as run, pytest.raises(ConfigError, match="saved after the steps of one loader"):
        checkpoints = Checkpoints(run, model=nn.Linear(1, 1))
        for _ in run.epochs(1):
            for size in (4, 6):
                for step in run.steps(run.loader(rows(size), 2)):
                    list(step)
                checkpoints.save()


def explore(run_dir: Path, stop_at: int, resume: str) -> list[tuple[int, float]]:
    """A loop that makes its own data. Returns what it drew in each update."""
    drawn = []
    with Run(Config(run_dir, resume)) as run:
        model = nn.Linear(1, 1)
        model, optimizer = run.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
        checkpoints = Checkpoints(run, model=model, optimizer=optimizer)
        checkpoints.restore()
        for step in run.updates(5, num_samples=7):
            drawn.append((step.number, torch.rand(()).item()))
            run.backward(model(torch.ones(7, 1)).sum(), count=step.num_samples)
            optimizer.step()
            optimizer.zero_grad()
            run.log("train", drawn=drawn[-1][1])
            if step.due(None) or step.number == stop_at:
                checkpoints.save()
            if step.number == stop_at:
                break
    return drawn


def test_updates_without_data_are_seeded_counted_and_resumed(tmp_path: Path) -> None:
    straight = explore(tmp_path / "straight", 0, "never")
    assert [number for number, _ in straight] == [1, 2, 3, 4, 5]
    assert len({value for _, value in straight}) == 5
    assert explore(tmp_path / "run", 2, "never") + explore(tmp_path / "run", 0, "auto") == straight
    lines = [json.loads(line) for line in (tmp_path / "straight" / "metrics.jsonl").read_text().splitlines()]
    assert all(line["time/samples_per_second"] > 0 for line in lines)
    assert (tmp_path / "run" / "checkpoints" / "step-5").exists()


def test_updates_have_no_batches() -> None:
    with Run(Config(), record=False) as run, pytest.raises(ConfigError, match="has no batches"):
        for step in run.updates(1):
            list(step)


@pytest.mark.parametrize(("size", "micro_batches"), [(8, 1), (4, 2), (3, 3), (1, 8), (100, 1)])
def test_a_micro_batch_size_says_how_often_a_step_is_cut(size: int, micro_batches: int) -> None:
    with Run(Config(), record=False) as run:
        for _ in run.epochs(1):
            for step in run.steps(run.loader(rows(16), 8), micro_batch_size=size):
                sizes = [len(batch) for (batch,) in step]
                assert len(sizes) == micro_batches
                assert max(sizes) <= size
        with pytest.raises(ConfigError, match=r"`accumulate` .* and `micro_batch_size` .* both"):
            run.steps(run.loader(rows(16), 8), 2, micro_batch_size=4)


def test_what_is_no_loader_is_named_with_what_to_give() -> None:
    with Run(Config(), record=False) as run:
        for call in (run.steps, run.batches):
            with pytest.raises(ConfigError, match=r"takes a loader of `run.loader`, not a `DataLoader`: make one with"):
                call(DataLoader(rows(4)))  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match=r"give it the dataset, `run.loader\(loader.dataset, 2"):
            run.loader(DataLoader(rows(4), batch_size=2), 2)
        assert [batch[0].item() for batch in run.batches(run.loader(DataLoader(rows(2), batch_size=None), 1))] == [0, 1]


def test_what_a_step_counts_is_logged_by_its_name(tmp_path: Path) -> None:
    with Run(Config(tmp_path / "run")) as run:
        for _ in run.epochs(1):
            for step in run.steps(run.loader(rows(4), 4)):
                step.total(lambda batch: len(batch[0]), unit="boxes")
                step.total(lambda batch: 3, unit=None)
                list(step)
                run.log("train", Meter(run).read())
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text())
    assert line["time/boxes_per_second"] == pytest.approx(line["time/samples_per_second"], rel=1e-3)
    assert "time/tokens_per_second" not in line
