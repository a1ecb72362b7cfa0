"""The walk through the data: a place for each loader, known to be a place of the same data."""

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from support.sampled import sampled
from support.together import together
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from paccel.runtime import Checkpoints, ConfigError, DataError, Loader, Meter, Run


@dataclass
class Config:
    """What a run reads."""

    run_dir: Path | None = None
    resume: str = "never"


def rows(size: int, first: int = 0) -> TensorDataset:
    return TensorDataset(torch.arange(first, first + size))


def one_after_the_other(run_dir: Path, stop_at: int = 0, resume: str = "never") -> list[list[int]]:
    """Two epochs, each of three loaders, the last of them a stream; the samples of each step."""
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
    """Epochs of 4 steps, each left after 2 of them, and saved within the last one or after it."""
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
    assert "was left" not in said.out + said.err  # no step follows
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


def beside(run_dir: str, stop_at: int, resume: str, accumulate: int, workers: int = 0) -> Any:
    """Train one model on a batch of each of two loaders in every step; the samples of this process and the weights."""
    seen: list[Any] = []
    stopped = False
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn(20, 3, dtype=torch.float64, generator=random)
    with Run(Config(Path(run_dir), resume)) as run:
        labelled = run.loader(TensorDataset(torch.arange(11), inputs[:11]), 4, shuffle=True, drop_last=True)
        other = run.loader(
            Pairs(inputs[11:]), 6, shuffle=True, drop_last=True, num_workers=workers, multiprocessing_context="fork"
        )
        model = nn.Linear(3, 1).double()
        model, optimizer = run.prepare(model, torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9))
        checkpoints = Checkpoints(run, model=model, optimizer=optimizer)
        checkpoints.restore()
        for _ in run.epochs(4):
            for step in run.steps(labelled, accumulate):
                for (index, x), (other_index, u) in step.beside(other):
                    run.backward((model(x) - 1).square().sum(), step.num_samples)
                    run.backward(0.5 * model(u).square().sum(), other.batch_size)
                    seen.append((step.number, index.tolist(), other_index.tolist(), torch.rand(()).item()))
                optimizer.step()
                optimizer.zero_grad()
                if stopped := step.number == stop_at:
                    checkpoints.save()
                    break
            if stopped:
                break
        return seen, [p.detach().clone() for p in model.parameters()]


class Pairs(Dataset):
    """Index and values, with noise."""

    def __init__(self, values: torch.Tensor) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> tuple[int, torch.Tensor]:
        return index, self.values[index] + 0.1 * torch.rand(3, dtype=torch.float64)


def test_a_loader_beside_another_goes_on_where_it_stood_epoch_after_epoch(tmp_path: Path) -> None:
    straight, weights = beside(str(tmp_path / "straight"), 0, "never", 2)
    of_other = [index for _, _, indices, _ in straight for index in indices]
    assert len(straight) == 16
    assert all(len(set(of_other[start : start + 6])) == 6 for start in range(0, 48, 6))
    for stop_at, workers in ((1, 0), (3, 2), (6, 0)):
        first, _ = beside(str(tmp_path / f"run-{stop_at}"), stop_at, "never", 2, workers)
        second, ours = beside(str(tmp_path / f"run-{stop_at}"), 0, "auto", 2)
        assert first + second == straight
        assert all(torch.equal(a, b) for a, b in zip(ours, weights, strict=True))


@pytest.mark.slow
def test_a_step_of_two_loaders_is_the_same_on_any_number_of_processes(tmp_path: Path) -> None:
    _, weights = beside(str(tmp_path / "one"), 0, "never", 1)
    for _, ours in together(beside, tmp_path, "two", 0, "never", 2):
        for left, right in zip(ours, weights, strict=True):
            torch.testing.assert_close(left, right, rtol=0, atol=1e-12)


def test_a_step_of_two_loaders_without_a_sample_for_each_micro_batch_is_refused_at_its_first() -> None:
    with Run(Config(), record=False) as run:
        loader, other, late = run.loader(rows(9), 4), run.loader(rows(8), 4), None
        with pytest.raises(
            ConfigError, match=r"the smallest step of `TensorDataset` may have 1: pass `drop_last=True`"
        ):
            for _ in run.epochs(1):
                for step in run.steps(loader, accumulate=2):
                    list(step.beside(other))
        with pytest.raises(ConfigError, match=r"made before `run.epochs`"):
            late = run.loader(rows(8), 4)
            for step in run.steps(other):
                list(step.beside(late))


class Files(Dataset):
    """Samples by the names of their files and their labels, as folders of images have them."""

    def __init__(self, names: list[str], classes: list[str]) -> None:
        self.samples = [(f"/somewhere/{classes[i % len(classes)]}/{name}", i % 2) for i, name in enumerate(names)]
        self.classes = classes

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> int:
        return index


class Wrapped(Dataset):
    """A dataset of one's own around another one."""

    def __init__(self, base: Dataset[Any]) -> None:
        self.base = base

    def __len__(self) -> int:
        return len(self.base)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Any:
        return self.base[index]


NAMES = [f"{i}.png" for i in range(8)]
CHANGES: dict[str, tuple[Callable[[], Any], Callable[[], Any], str]] = {
    "more": (lambda: rows(8), lambda: rows(9), "8 samples, now 9"),
    "fewer": (lambda: Subset(rows(9), range(8)), lambda: Subset(rows(9), range(7)), "8 samples, now 7"),
    "values": (lambda: rows(8), lambda: rows(8, 1), "the same number of samples, with other content"),
    "values in a wrapper": (
        lambda: Wrapped(Wrapped(rows(8))),
        lambda: Wrapped(Wrapped(rows(8, 1))),
        "the same number of samples, with other content",
    ),
    "another part": (
        lambda: Subset(rows(9), range(8)),
        lambda: Subset(rows(9), range(1, 9)),
        "the same number of samples, with other content",
    ),
    "files": (
        lambda: Files(NAMES, ["a"]),
        lambda: Files([*NAMES[1:], "9.png"], ["a"]),
        "the same number of samples, with other content",
    ),
    "classes": (lambda: Files(NAMES, ["a", "b"]), lambda: Files(NAMES, ["a", "c"]), "the classes a, b, now a, c"),
    "a list": (
        lambda: [1, 2, 3, 4, 5, 6, 7, 8],
        lambda: [1, 2, 3, 4, 5, 6, 7, 9],
        "the same number of samples, with other content",
    ),
}


def train(run_dir: Path, data: Any, resume: str = "never", batch_size: int = 2, stop_at: int = 2) -> list[list[int]]:
    seen = []
    with Run(Config(run_dir, resume)) as run:
        loader = run.loader(data, batch_size, shuffle=True)
        checkpoints = Checkpoints(run, model=nn.Linear(1, 1))
        checkpoints.restore()
        for _ in run.epochs(2):
            for step in run.steps(loader):
                for batch in step:
                    seen.append((batch[0] if isinstance(batch, list) else batch).tolist())
                if step.number == stop_at:
                    checkpoints.save()
                    return seen
    return seen


class TestDataThatChanges:
    @pytest.mark.parametrize("kind", CHANGES)
    def test_a_run_is_not_resumed_on_other_data(self, kind: str, tmp_path: Path) -> None:
        before, after, message = CHANGES[kind]
        train(tmp_path / "run", before())
        with pytest.raises(DataError, match=f"differs from that of the checkpoint: {message}") as error:
            train(tmp_path / "run", after(), "auto")
        assert "--run-dir NEW" in str(error.value)
        train(tmp_path / "run", before(), "auto")

    @pytest.mark.parametrize("order", [False, lambda epoch: range(8)])
    def test_a_run_is_not_resumed_in_another_order(self, order: Any, tmp_path: Path) -> None:
        def loop(shuffle: Any, resume: str) -> None:
            with Run(Config(tmp_path / "run", resume)) as run:
                loader, checkpoints = run.loader(rows(8), 2, shuffle=shuffle), Checkpoints(run, model=nn.Linear(1, 1))
                checkpoints.restore()
                for _ in run.epochs(1):
                    for step in run.steps(loader):
                        list(step)
                        checkpoints.save()
                        return

        loop(True, "never")
        with pytest.raises(DataError, match="from that of the checkpoint: shuffled by the seed 0, now "):
            loop(order, "auto")

    def test_it_is_noticed_at_the_end_of_an_epoch_too(self, tmp_path: Path) -> None:
        train(tmp_path / "run", rows(8), stop_at=4)
        with pytest.raises(DataError, match="8 samples, now 10"):
            train(tmp_path / "run", rows(10), "auto")

    def test_data_may_move_to_another_folder(self, tmp_path: Path) -> None:
        train(tmp_path / "run", Files(NAMES, ["a"]))
        moved = Files(NAMES, ["a"])
        moved.samples = [(name.replace("/somewhere", "/elsewhere/deep"), label) for name, label in moved.samples]
        train(tmp_path / "run", moved, "auto")

    def test_a_fork_may_have_other_data_and_says_so(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        train(tmp_path / "run", rows(8))
        train(tmp_path / "fork", rows(9), str(tmp_path / "run" / "checkpoints" / "step-2"))
        said = capsys.readouterr().out
        assert "differs from that of the checkpoint: 8 samples, now 9. Epoch 1 continues after 4 samples" in said
        assert "some samples come twice in it, some never" in said

    def test_a_fork_with_another_batch_size_sees_the_rest_of_its_epoch_once(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        first = train(tmp_path / "run", rows(11))
        fork = str(tmp_path / "run" / "checkpoints" / "step-2")
        rest = train(tmp_path / "fork", rows(11), fork, batch_size=3, stop_at=5)
        assert [len(step) for step in rest] == [3, 3, 1]
        assert sorted(itertools.chain(*first, *rest)) == list(range(11))
        assert "steps of 2, now 3. Epoch 1 continues after 4 samples" in capsys.readouterr().out

    def test_a_checkpoint_of_paccel_0_1_is_continued(self, tmp_path: Path) -> None:
        straight = train(tmp_path / "straight", rows(8), stop_at=0)
        first = train(tmp_path / "run", rows(8))
        with Run(Config(tmp_path / "other"), record=False) as run:
            state = run.position.state_dict()
            for name in ("samples_in_epoch", "pass_in_epoch", "beside", "data"):
                del state[name]
            state |= {"step": 2, "epoch": 1, "step_in_epoch": 2, "epoch_is_over": False}
            run.position.load_state_dict(state)
            rest = []
            for _ in run.epochs(2):
                for step in run.steps(run.loader(rows(8), 2, shuffle=True)):
                    rest += [batch.tolist() for (batch,) in step]
        assert first + rest == straight

    def test_data_that_the_loop_makes_may_be_other_data_in_each_epoch(self, tmp_path: Path) -> None:
        def sizes(resume: str, stop_at: int) -> list[int]:
            found = []
            with Run(Config(tmp_path / "run", resume)) as run:
                checkpoints = Checkpoints(run, model=nn.Linear(1, 1))
                checkpoints.restore()
                for epoch in run.epochs(3):
                    for step in run.steps(run.loader(rows(2 * epoch), 2)):
                        found += [len(batch) for (batch,) in step]
                        checkpoints.save()
                        if step.number == stop_at:
                            return found
            return found

        assert sizes("never", 3) + sizes("auto", 0) == [2] * 6

    def test_a_dataset_that_grows_within_a_run_is_refused(self) -> None:
        data = [1, 2, 3]
        with Run(Config(), record=False) as run, pytest.raises(ConfigError, match="`list` has 4 samples, and had 3"):
            loader = run.loader(data, 2)
            for _ in run.epochs(2):
                for step in run.steps(loader):
                    list(step)
                data.append(4)

    def test_tensors_that_are_replaced_between_two_passes_are_seen(self) -> None:
        data = rows(4)
        with Run(Config(), record=False) as run:
            loader, seen = run.loader(data, 4), []
            for _ in run.epochs(2):
                for step in run.steps(loader):
                    seen += [batch.tolist() for (batch,) in step]
                data.tensors = (torch.arange(10, 14),)
        assert seen == [[0, 1, 2, 3], [10, 11, 12, 13]]


def other_data_on_each(kind: str) -> str:
    with Run(Config(), record=False) as run:
        rank = run.accelerator.process_index
        data = rows(8 + rank) if kind == "size" else rows(8, rank)
        try:
            for _ in run.epochs(1):
                for step in run.steps(run.loader(data, 4)):
                    list(step)
        except DataError as error:
            return str(error)
    return "nothing was noticed"


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "message"), [("size", "samples, now"), ("content", "with other content")])
def test_processes_with_other_data_end_all_of_them(kind: str, message: str, tmp_path: Path) -> None:
    for found in together(other_data_on_each, tmp_path, kind):
        assert found.startswith("The processes are given different data")
        assert message in found


def explore(run_dir: Path, stop_at: int, resume: str) -> list[tuple[int, float]]:
    """A loop that makes its own data: what it drew in each update."""
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
