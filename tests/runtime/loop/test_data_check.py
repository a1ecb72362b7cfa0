"""The data of a resumed run and of other processes: a difference is found, and reported or refused."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.small_runs import Config, rows
from support.together import together
from torch import nn
from torch.utils.data import Dataset, Subset

from paccel.runtime import Checkpoints, ConfigError, DataError, Run


class Files(Dataset):
    """File names and labels, as in an image folder."""

    def __init__(self, names: list[str], classes: list[str]) -> None:
        self.samples = [(f"/somewhere/{classes[i % len(classes)]}/{name}", i % 2) for i, name in enumerate(names)]
        self.classes = classes

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> int:
        return index


class Wrapped(Dataset):
    """A custom dataset around another one."""

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
        assert "some samples come twice, some never" in said

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
