"""Streams: the same samples in the same steps on any number of processes, and exact where they have state."""

import multiprocessing
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from support.sampled import over_three_days
from support.together import together
from torch import nn
from torch.utils.data import IterableDataset, RandomSampler

from paccel.runtime import Checkpoints, ConfigError, DataError, Meter, Run


@dataclass
class Config:
    """What a run reads."""

    run_dir: Path
    resume: str = "never"


class Stream(IterableDataset):
    """Numbers in another order in each epoch, with noise from the global generators, and no state."""

    def __init__(self, size: int = 43) -> None:
        self.size, self.epoch, self.read = size, 0, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[int, torch.Tensor]]:
        order = list(range(self.size))
        random.Random(self.epoch).shuffle(order)
        for index in order:
            self.read += 1
            yield index, torch.tensor([index / 43, random.random()], dtype=torch.float64)


class Stateful(Stream):
    """The same, with a state."""

    place = 0

    def __iter__(self) -> Iterator[tuple[int, torch.Tensor]]:
        order = list(range(self.size))
        random.Random(self.epoch).shuffle(order)
        while self.place < self.size:
            self.place, self.read = self.place + 1, self.read + 1
            index = order[self.place - 1]
            yield index, torch.tensor([index / 43, random.random()], dtype=torch.float64)
        self.place = 0

    def state_dict(self) -> dict[str, Any]:
        return {"place": self.place, "epoch": self.epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.place, self.epoch = state["place"], state["epoch"]


class Live(Stateful):
    """The same, but its state is an object that it keeps changing."""

    def __init__(self) -> None:
        super().__init__()
        self.state: dict[str, Any] = {}

    def __iter__(self) -> Iterator[tuple[int, torch.Tensor]]:
        for sample in super().__iter__():
            self.state.update(super().state_dict())
            yield sample

    def state_dict(self) -> dict[str, Any]:
        return self.state


def torchdata_stream() -> Any:
    """A stream of torchdata, from a map-style dataset."""
    from torchdata.stateful_dataloader import StatefulDataLoader

    return StatefulDataLoader([(i, torch.tensor([i / 43, 0.0])) for i in range(43)], batch_size=None, num_workers=0)


def torchdata_sampled() -> Any:
    """The same, in the order of a sampler of PyTorch."""
    from torchdata.stateful_dataloader import StatefulDataLoader

    data = [(i, torch.tensor([i / 43, 0.0])) for i in range(43)]
    return StatefulDataLoader(data, batch_size=None, num_workers=0, sampler=RandomSampler(data))


def torchdata_nodes(generator: torch.Generator | None = None) -> Any:
    """Nodes of torchdata behind a sampler of PyTorch."""
    from torchdata import nodes

    data = {i: (i, torch.tensor([i / 43, 0.0])) for i in range(43)}
    return nodes.Loader(nodes.MapStyleWrapper(data, RandomSampler(data, generator=generator)))


def hugging_face_stream() -> Any:
    """A stream of `datasets`, from lists of numbers; two processes cannot divide its shards, so each reads it whole."""
    from datasets import Dataset

    columns = {"index": list(range(43)), "value": [i / 43 for i in range(43)]}
    return Dataset.from_dict(columns).to_iterable_dataset(num_shards=3)


def hugging_face_shuffled(seed: int | None = 5) -> Any:
    """The same with a shuffle buffer, which its state leaves out."""
    return hugging_face_stream().shuffle(seed=seed, buffer_size=4)


KINDS = {
    f.__name__: f
    for f in (
        *(Stream, Stateful, Live, torchdata_stream, torchdata_sampled, torchdata_nodes),
        *(hugging_face_stream, hugging_face_shuffled),
    )
}


def read(batch: Any) -> tuple[list[int], torch.Tensor]:
    if isinstance(batch, dict):
        return batch["index"].tolist(), torch.stack([batch["value"], batch["value"] ** 2], 1).double()
    return batch[0].tolist(), batch[1].double()


def train(
    kind: str, run_dir: str, resume: str, stop_at: int, workers: int = 0, accumulate: int = 1, epochs: int = 2
) -> dict[str, Any]:
    """Train on a stream. Returns the samples of each step, the weights, and how many samples this process read."""
    if workers:
        multiprocessing.set_start_method("fork", force=True)  # for the reader, as in a script; not the tests' way
    seen: dict[int, list[int]] = {}
    stream = KINDS[kind]()
    try:
        with Run(Config(Path(run_dir), resume)) as run:
            loader = run.loader(stream, 8, num_workers=workers)
            model = nn.Linear(2, 1).double()
            optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
            model, optimizer = run.prepare(model, optimizer)
            checkpoints = Checkpoints(run, model=model, optimizer=optimizer)
            checkpoints.restore()
            for _ in run.epochs(epochs):
                for step in run.steps(loader, accumulate):
                    for batch in step:
                        indices, values = read(batch)
                        seen.setdefault(step.number, []).append(indices[: step.micro_batch_samples])
                        run.backward((model(values) - 1).square().sum() / step.num_samples)
                    optimizer.step()
                    optimizer.zero_grad()
                    checkpoints.save()
                    if step.number == stop_at:
                        raise run.stopped()
    except SystemExit:
        pass
    weights = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    return {"seen": seen, "weights": weights, "read": getattr(stream, "read", None)}


def dealt(results: list[dict[str, Any]]) -> dict[int, list[int]]:
    """The samples of each step in the order in which they were dealt."""
    steps = {}
    for number, parts in results[0]["seen"].items():
        of_processes = [parts, *(result["seen"][number] for result in results[1:])]
        steps[number] = [i for micro_batch in zip(*of_processes, strict=True) for part in micro_batch for i in part]
    return steps


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", over_three_days(["Stream", "Stateful", "torchdata_stream", "hugging_face_stream"]))
def test_two_processes_see_what_one_sees_and_resume_where_it_stood(tmp_path: Path, kind: str) -> None:
    pytest.importorskip({"torchdata": "torchdata", "hugging": "datasets"}.get(kind.split("_")[0], "torch"))
    straight = together(train, tmp_path, kind, "straight", "never", 0, processes=1)
    order = dealt(straight)
    assert [len(order[n]) for n in range(1, 13)] == [8, 8, 8, 8, 8, 3] * 2
    assert sorted(i for n in range(1, 7) for i in order[n]) == list(range(43))

    two = together(train, tmp_path, kind, "two", "never", 0, 0, 2)
    assert dealt(two) == order
    torch.testing.assert_close(two[0]["weights"], straight[0]["weights"], rtol=0, atol=1e-12)

    for stop_at, workers in ((2, 1), (6, 0)):  # in an epoch, and between two
        run_dir = f"stopped-{stop_at}"
        first = together(train, tmp_path, kind, run_dir, "never", stop_at, workers, processes=1)
        second = together(train, tmp_path, kind, run_dir, "auto", 0, 1 - workers, processes=1)
        assert dealt(first) | dealt(second) == order
        assert torch.equal(second[0]["weights"], straight[0]["weights"])
    resumed = together(train, tmp_path, kind, "stopped-two", "never", 8, processes=1) and together(
        train, tmp_path, kind, "stopped-two", "auto", 0
    )
    assert dealt(resumed) == {n: order[n] for n in range(9, 13)}


def test_a_stream_with_state_is_not_read_again_and_one_without_says_that_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    order = dealt([train("Stream", "straight", "never", 0, epochs=1)])
    capsys.readouterr()
    for kind, read_again in (("Stateful", 0), ("Live", 0), ("Stream", 32)):
        train(kind, kind, "never", 4, epochs=1)
        said = capsys.readouterr().out
        assert ("`Stream` has no `state_dict`: a resumed run reads it again" in said) is (kind == "Stream")
        resumed = train(kind, kind, "auto", 0, epochs=1)
        assert resumed["read"] == read_again + 11
        assert dealt([resumed]) == {5: order[5], 6: order[6]}


def mixed(rows: list[tuple[int, torch.Tensor]]) -> float:
    """A collation that draws."""
    return random.random()


def test_what_collation_draws_is_another_number_in_each_micro_batch_and_the_reader_ends_with_its_epoch(
    tmp_path: Path,
) -> None:
    def drawn(folder: str, workers: int, max_steps: int | None = None) -> list[float]:
        with Run(Config(tmp_path / folder)) as run:
            loader, found = run.loader(Stream(), 8, collate_fn=mixed, num_workers=workers), []
            before = set(multiprocessing.active_children())
            for _ in run.epochs(2, max_steps):
                for step in run.steps(loader, accumulate=2):
                    found += list(step)
            assert set(multiprocessing.active_children()) <= before
        return found

    straight = drawn("straight", 0)
    assert len(set(straight)) == len(straight) == 2 * 6 * 2
    assert drawn("worker", 1, max_steps=8) == straight[:16]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["torchdata_sampled", "torchdata_nodes", "hugging_face_shuffled"])
def test_a_stream_that_shuffles_itself_resumes_in_the_same_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    pytest.importorskip(kind.split("_")[0].replace("hugging", "datasets"))
    monkeypatch.chdir(tmp_path)
    straight = train(kind, "straight", "never", 0, epochs=3)
    order = dealt([straight])
    epochs = [[i for n in range(start, start + 6) for i in order[n]] for start in (1, 7, 13)]
    assert all(sorted(epoch) == list(range(43)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in [*epochs, range(43)]}) == 4
    for stop_at in (2, 6, 8):
        first = train(kind, f"run-{stop_at}", "never", stop_at, epochs=3)
        second = train(kind, f"run-{stop_at}", "auto", 0, epochs=3)
        assert dealt([first]) | dealt([second]) == order
        assert torch.equal(second["weights"], straight["weights"])


class Broken(Stream):
    """Raises after 20 samples."""

    def __iter__(self) -> Iterator[tuple[int, torch.Tensor]]:
        yield from islice(super().__iter__(), 20)
        raise KeyError("a sample that is not there")


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_an_error_in_the_reader_of_a_stream_ends_the_process_and_does_not_hang(tmp_path: Path) -> None:
    def read_to_the_error() -> None:
        with Run(Config(tmp_path / "run")) as run:
            for _ in run.epochs(1):
                for step in run.steps(run.loader(Broken(), 8, num_workers=1)):
                    list(step)

    process = multiprocessing.get_context("fork").Process(target=read_to_the_error)
    process.start()
    process.join(30)
    hangs = process.is_alive()
    process.kill()
    assert not hangs
    assert process.exitcode == 1
    assert "a sample that is not there" in (tmp_path / "run" / "status.json").read_text()


def said_at_the_start(stream: Any, run_dir: Path, capsys: pytest.CaptureFixture[str]) -> str:
    with Run(Config(run_dir)) as run:
        capsys.readouterr()
        for _ in run.epochs(1):
            for step in run.steps(run.loader(stream, 40, limit_batches=1)):
                list(step)
    return capsys.readouterr().out


class TestWhatIsNotExact:
    def test_a_shuffle_buffer_of_datasets_is_read_again_and_the_run_says_so(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        pytest.importorskip("datasets")
        assert "`IterableDataset` has a shuffle buffer" in said_at_the_start(
            hugging_face_shuffled().map(lambda sample: sample).take(42), tmp_path / "run", capsys
        )
        said = said_at_the_start(hugging_face_stream(), tmp_path / "plain", capsys)
        assert "shuffle buffer" not in said
        assert "resumed" not in said

    def test_a_shuffle_without_a_seed_is_reported_and_refused_on_several_processes(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        datasets = pytest.importorskip("datasets")
        both = datasets.interleave_datasets([hugging_face_stream(), hugging_face_shuffled(seed=None)])
        assert "is shuffled without a seed" in said_at_the_start(both, tmp_path / "run", capsys)
        with Run(Config(tmp_path / "two")) as run:
            run.agreement.num_processes = 2
            with pytest.raises(ConfigError, match="shuffled without a seed, in another order on each process"):
                run.loader(both, 8)
            run.agreement.num_processes = 1

    def test_a_private_generator_of_a_stream_is_reported(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        pytest.importorskip("torchdata")
        own = "draws its order from its own generator"
        assert own in said_at_the_start(torchdata_nodes(torch.Generator()), tmp_path / "own", capsys)
        assert own not in said_at_the_start(torchdata_nodes(), tmp_path / "none", capsys)

        from torchdata.stateful_dataloader import StatefulDataLoader

        shuffled = StatefulDataLoader(list(enumerate(range(43))), batch_size=None, shuffle=True)  # has one unasked
        assert own in said_at_the_start(shuffled, tmp_path / "shuffled", capsys)


class TestErrors:
    def test_what_a_stream_cannot_do_is_an_error_when_the_loader_is_created(self, tmp_path: Path) -> None:
        with Run(Config(tmp_path / "run")) as run:
            with pytest.raises(ConfigError, match=r"`Stream` has no index, so `run\.loader` cannot shuffle"):
                run.loader(Stream(), 8, shuffle=True)
            with pytest.raises(ConfigError, match="has no length: set `max_steps` or `limit_batches`"):
                run.loader(Stream(), 8).total_steps(3)
            assert run.loader(Stream(), 8, limit_batches=4).total_steps(3) == 12
            assert run.loader(Stream(), 8).total_steps(None, 7) == 7

    def test_a_stream_that_cannot_restart_is_named(self, tmp_path: Path) -> None:
        with Run(Config(tmp_path / "run")) as run, pytest.raises(ConfigError, match="had no step in epoch 2"):
            loader = run.loader(iter([(0, 1.0)] * 9), 4)
            for _ in run.epochs(3):
                for step in run.steps(loader):
                    list(step)


def test_limits_and_a_last_smaller_batch_are_as_for_data_with_an_index(tmp_path: Path) -> None:
    with Run(Config(tmp_path / "run")) as run:
        for options, sizes in (({"drop_last": True}, [8] * 5), ({"limit_batches": 2}, [8, 8]), ({}, [8] * 5 + [3])):
            loader, found = run.loader(Stream(), 8, **options), []
            run.position.epoch_is_over = True
            for _ in run.epochs(run.position.epoch + 1):
                for step in run.steps(loader):
                    list(step)
                    found.append((step.num_samples, step.is_last_of_epoch))
            assert found == [(size, n + 1 == len(sizes)) for n, size in enumerate(sizes)]


def evaluate(size: int, batch_size: int) -> dict[str, float]:
    with Run(Config(Path("none")), record=False) as run:
        meter = Meter(run)
        for batch in run.batches(run.loader(Stream(size), batch_size)):
            indices, _ = read(batch)
            meter.add(total=float(sum(indices)), count=len(indices))
        return meter.read()


@pytest.mark.slow
def test_an_evaluation_sees_each_sample_once_on_any_number_of_processes(tmp_path: Path) -> None:
    for size in (1, 9):
        assert together(evaluate, tmp_path, size, 4) == [{"total": sum(range(size)) / size}] * 2


class Sharded(IterableDataset):
    """Each process reads other samples, as in a plain DDP script."""

    def __init__(self, shares: list[list[int]]) -> None:
        self.shares = shares

    def __iter__(self) -> Iterator[int]:
        return iter(self.shares[int(os.environ["RANK"])])


def read_shares(shares: list[list[int]], trains: bool, workers: int) -> tuple[str, int]:
    """The error about a stream, and how many steps came before it."""
    steps = 0
    with Run(Config(Path("none")), record=False) as run:
        loader = run.loader(Sharded(shares), 4, num_workers=workers, multiprocessing_context="fork")
        try:
            for _ in run.epochs(1):
                for step in run.steps(loader) if trains else [run.batches(loader)]:
                    list(step)
                    steps += 1
        except DataError as error:
            return str(error), steps
    return "nothing was noticed", steps


EVERY = list(range(21))


@pytest.mark.slow
@pytest.mark.parametrize("trains", [True, False])
@pytest.mark.parametrize(
    ("shares", "message"),
    over_three_days(
        [
            ([EVERY[::2], EVERY[1::2]], "yields other samples on each process"),
            ([EVERY, EVERY[:9]], "ends at another sample on some processes"),
            ([EVERY, EVERY[:8]], "ends at another sample on some processes"),
            ([EVERY, []], "yields other samples on each process"),
            ([EVERY, EVERY], "nothing was noticed"),
        ]
    ),
)
def test_a_stream_that_is_not_the_same_on_all_processes_ends_all_of_them(
    shares: list[list[int]], message: str, trains: bool, tmp_path: Path
) -> None:
    found = together(read_shares, tmp_path, shares, trains, int(trains))
    assert all(message in text for text, _ in found)
    assert found[0][1] == found[1][1], "both after the same step"


def test_a_stream_has_one_worker_and_the_run_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = len(multiprocessing.active_children())
    with Run(Config(tmp_path / "run")) as run:
        for _ in run.epochs(1):
            for step in run.steps(run.loader(Stream(9), 4, num_workers=3, multiprocessing_context="fork")):
                list(step)
                assert len(multiprocessing.active_children()) == before + 1
        assert "is read by one worker" in capsys.readouterr().out


def test_overlapping_passes_over_a_stream_with_state_are_refused() -> None:
    with Run(Config(Path("none")), record=False) as run:
        plain, stateful = run.loader(Stream(9), 4), run.loader(Stateful(9), 4)
        first, second = run.batches(plain), run.batches(plain)
        assert [read(a)[0] for a in first] == [read(b)[0] for b in second]
        source = run.batches(stateful)
        next(source)
        with pytest.raises(ConfigError, match="is already being read, and has only one position"):
            next(run.batches(stateful))
