"""Streams of shards: each process and worker reads its own, and resuming on the same layout is exact."""

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from support.sampled import every_third_day, over_three_days
from support.together import together
from torch import nn

from paccel.runtime import Checkpoints, ConfigError, DataError, Run
from paccel.runtime.data.split import Layout, shares_to_portions

if find_spec("datasets") is None:
    pytest.skip("needs datasets", allow_module_level=True)
# Imported by the tests that use it: it takes seconds, and each worker collects each file
datasets = partial(import_module, "datasets")

SIZES = (9, 5, 7, 3, 8, 6)  # of the shards


@dataclass
class Config:
    """What a run reads."""

    run_dir: Path
    resume: str = "never"


def shard_samples(shards: list[tuple[int, int]]) -> Iterator[dict[str, int]]:
    for shard, size in shards:
        for number in range(size):
            yield {"index": 100 * shard + number}


def stream(sizes: tuple[int, ...] = SIZES, shuffled: bool = False) -> Any:
    shards = list(enumerate(sizes))
    made = datasets().IterableDataset.from_generator(shard_samples, gen_kwargs={"shards": shards})
    return made.shuffle(seed=3, buffer_size=4) if shuffled else made


def everything(sizes: tuple[int, ...] = SIZES) -> list[int]:
    return sorted(sample["index"] for sample in shard_samples(list(enumerate(sizes))))


def train(
    run_dir: str,
    resume: str,
    stop_at: int,
    workers: int = 0,
    shuffled: bool = False,
    sizes: tuple[int, ...] = SIZES,
    epochs: int = 2,
    accumulate: int = 1,
    drop_last: bool = False,
) -> dict[str, Any]:
    """Train on a stream. Returns the samples of this process in each step, their number on all, and what the run said."""
    seen: dict[int, list[int]] = {}
    epoch_of: dict[int, int] = {}
    totals: dict[int, int] = {}
    said: list[str] = []
    with Run(Config(Path(run_dir), resume)) as run:
        run.reporter.say = said.append  # type: ignore[method-assign]
        context = "fork" if workers else None  # not the way of the tests, but a script's
        options = {"num_workers": workers, "multiprocessing_context": context, "drop_last": drop_last}
        loader = run.loader(stream(sizes, shuffled), 4, **options)
        model = nn.Linear(1, 1)
        model, optimizer = run.prepare(model, torch.optim.SGD(model.parameters(), lr=1e-9))
        checkpoints = Checkpoints(run, model=model, optimizer=optimizer)
        checkpoints.restore()
        try:
            for _ in run.epochs(epochs):
                for step in run.steps(loader, accumulate):
                    seen[step.number], epoch_of[step.number] = [], step.epoch
                    totals[step.number] = step.num_samples
                    for batch in step:
                        seen[step.number] += batch["index"][: step.micro_batch_samples].tolist()
                        run.backward(model(batch["index"][:, None].float()).sum(), count=step.num_samples)
                    optimizer.step()
                    optimizer.zero_grad()
                    checkpoints.save()
                    if step.number == stop_at:
                        raise run.stopped()
        except SystemExit:
            pass
    return {"seen": seen, "totals": totals, "epochs": epoch_of, "said": "\n".join(said)}


def of_epoch(results: list[dict[str, Any]], epoch: int) -> list[int]:
    return sorted(
        i for result in results for n, at in result["epochs"].items() if at == epoch for i in result["seen"][n]
    )


class TestOneProcess:
    @pytest.mark.slow
    @pytest.mark.parametrize("shuffled", over_three_days([False, True], first=1))
    def test_workers_read_shards_of_their_own_and_resume_where_each_stood(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shuffled: bool
    ) -> None:
        monkeypatch.chdir(tmp_path)
        straight = train("straight", "never", 0, 2, shuffled)
        half = sum(epoch == 1 for epoch in straight["epochs"].values())
        assert of_epoch([straight], 1) == of_epoch([straight], 2) == everything()
        assert straight["totals"] == {n: len(indices) for n, indices in straight["seen"].items()}
        assert "its 6 shards are divided over 1 process with 2 readers each" in straight["said"]
        shards_of_steps = [{index // 100 for index in straight["seen"][n]} for n in range(1, 5)]
        assert not shards_of_steps[0] & shards_of_steps[1], "readers take turns"
        for stop_at in (1, 4, half - 1, half):
            first = train(f"run-{stop_at}", "never", stop_at, 2, shuffled)
            second = train(f"run-{stop_at}", "auto", 0, 2, shuffled)
            assert first["seen"] | second["seen"] == straight["seen"], stop_at
            assert "no longer" not in second["said"]

    @pytest.mark.slow
    def test_readers_that_start_together_read_the_same_epoch(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[int] = []

        def slowly(self: Any, epoch: int) -> None:
            asked.append(epoch)
            missing = epoch - self.epoch
            time.sleep(0.3)  # in which another worker would have read the same
            self._epoch += missing  # as `datasets` does, in memory that its workers share

        monkeypatch.chdir(tmp_path)
        at_once = train("at-once", "never", 2, 2, shuffled=True)
        monkeypatch.setattr(datasets().IterableDataset, "set_epoch", slowly)
        assert train("slowly", "never", 2, 2, shuffled=True)["seen"] == at_once["seen"]
        assert asked == [1]  # in the process that trains


def two_streams() -> list[dict[str, Any]]:
    """Train on shards that two processes cannot divide, and on shards with different numbers of samples."""
    return [
        train("three", "never", 0, sizes=SIZES[:3], epochs=1),
        train("dropped", "never", 0, sizes=(9, 3), epochs=1, drop_last=True),
    ]


class TestTwoProcesses:
    @pytest.mark.slow
    @pytest.mark.timeout(300)
    @every_third_day(0)
    def test_each_sample_comes_once_in_an_epoch_and_the_same_layout_resumes_exactly(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        straight = together(train, tmp_path, "straight", "never", 0, 2, False, SIZES, 2, 2)
        assert of_epoch(straight, 1) == of_epoch(straight, 2) == everything()
        for number, total in straight[0]["totals"].items():
            assert total == straight[1]["totals"][number] == sum(len(result["seen"][number]) for result in straight)
        in_epoch = [{i // 100 for n, at in r["epochs"].items() if at == 1 for i in r["seen"][n]} for r in straight]
        assert not in_epoch[0] & in_epoch[1]
        first = together(train, tmp_path, "run", "never", 3, 2, False, SIZES, 2, 2)
        monkeypatch.chdir(tmp_path)
        shutil.copytree("run", "other")
        second = together(train, tmp_path, "run", "auto", 0, 2, False, SIZES, 2, 2)
        for rank in range(2):
            assert first[rank]["seen"] | second[rank]["seen"] == straight[rank]["seen"]

        alone = train("other", "auto", 0)
        assert "was divided over 2 processes with 2 readers each, and no longer is" in alone["said"]
        assert of_epoch([alone], 2) == everything(), "the next epoch is whole again"

    @pytest.mark.slow
    @pytest.mark.timeout(300)
    def test_shards_that_cannot_be_divided_are_read_whole_and_a_short_step_may_be_dropped(self, tmp_path: Path) -> None:
        three, dropped = zip(*together(two_streams, tmp_path), strict=True)
        assert of_epoch(list(three), 1) == everything(SIZES[:3])
        assert "as its 3 shards cannot be divided evenly: use a multiple of 2" in three[0]["said"]
        assert set(dropped[0]["totals"].values()) == {4}
        assert len(of_epoch(list(dropped), 1)) == 4 * len(dropped[0]["totals"]) > 0


@pytest.mark.slow
def test_a_process_without_samples_is_an_error(tmp_path: Path) -> None:
    with Run(Config(tmp_path / "run")) as run:
        cut = replace(run.loader(stream(), 4)._cut, add_up=lambda number: lambda: number + 2)
    waiting = shares_to_portions(iter(()), Layout(2, 1), [], cut, 0, "IterableDataset")
    with pytest.raises(DataError, match="has no sample in the shards of process 0, but has some in others"):
        next(waiting)


def test_a_stream_that_is_already_split_is_refused(tmp_path: Path) -> None:
    from datasets.distributed import split_dataset_by_node

    with Run(Config(tmp_path / "run")) as run, pytest.raises(ConfigError, match="was split by `split_dataset_by_node`"):
        run.loader(split_dataset_by_node(stream(), rank=0, world_size=2), 4)
