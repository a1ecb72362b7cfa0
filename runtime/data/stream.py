"""Training and evaluating on a stream: data without an index, or without an end.

Every process reads the whole stream and keeps its share of each step, dealt as from a map-style dataset. So the same
samples make the same steps on any number of processes, and no process has to be told what another has read. What is
costly, such as decoding, belongs into `collate_fn`, which gets only the share that is kept.

For training, a stream of `datasets` whose shards can be divided evenly is divided instead: see `split`.
"""

import copy
import itertools
from collections.abc import Generator, Iterable, Iterator, Sized
from dataclasses import replace
from functools import partial
from typing import Any

from torch.utils.data import DataLoader, IterableDataset, default_collate

from ..errors import ConfigError
from . import foreign
from .delivery import cloned
from .fetch import seed_hooks, seed_sample
from .fingerprint import digest
from .loader import Loader
from .order import Cut, Portion, share
from .randomness import at, key, seed_host
from .shuffle import newest_order
from .split import Layout, ShardReader, is_of_layout, is_split, readers_of, shares_to_portions
from .workers import in_workers


class StreamLoader(Loader):
    """The batches of a stream.

    A stream is anything that can be iterated, again for each epoch, and yields the same samples on every process. It
    may have `set_epoch(epoch)`, and `state_dict()` and `load_state_dict(state)`. The state is read after each step, and
    makes resuming cost nothing; without it a resumed run reads up to where it stood. torchdata's `StatefulDataLoader`
    with `batch_size=None`, its nodes, and the streams of `datasets` have these. At its start, a run says what is not
    exact, or takes long, when it is resumed.

    A stream of `datasets` is divided by shard over processes and workers, for training, where its number of shards is a
    multiple of the number of processes: each reads only its own shards, and a run is resumed exactly on as many
    processes and workers.
    """

    is_stream = True

    def __init__(self, dataset: Any, cut: Cut) -> None:
        problems = []
        if isinstance(dataset, DataLoader) and (dataset.batch_size is not None or dataset.batch_sampler is not None):
            raise ConfigError(
                f"`run.loader` makes the batches itself: give it the dataset, `run.loader(loader.dataset, {cut.batch_size}, "
                "collate_fn=loader.collate_fn, num_workers=…)`, instead of a `DataLoader`"
            )
        if cut.shuffle:
            problems.append(
                f"`{type(dataset).__name__}` has no index, so it cannot be shuffled here: let it shuffle itself"
            )
        if hasattr(dataset, "state_dict") != hasattr(dataset, "load_state_dict"):
            problems.append(f"`{type(dataset).__name__}` has one of `state_dict` and `load_state_dict`: it needs both")
        if cut.num_processes > 1 and foreign.is_unseeded(dataset):
            problems.append(
                f"`{type(dataset).__name__}` is shuffled without a seed, in another order on each process: "
                "give `shuffle` a `seed`"
            )
        if foreign.is_split_by_node(dataset):
            problems.append(
                f"`{type(dataset).__name__}` was split by `split_dataset_by_node`: give `run.loader` the whole stream on "
                "every process, since paccel divides it by itself"
            )
        if problems:
            raise ConfigError("\n".join(problems))
        super().__init__(dataset, cut, cut.limit)
        self._is_being_read = False
        self._layout = Layout.of(dataset, cut)

    def notice(self) -> str | None:
        found = [foreign.notice(self.dataset), self._notice_of_layout()]
        return "\n".join(line for line in found if line) or None

    def _notice_of_layout(self) -> str | None:
        name, shards = f"`{type(self.dataset).__name__}`", foreign.num_shards(self.dataset)
        if self._layout is not None:
            processes, workers = self._layout
            return (
                f"{name}: its {shards} shards are divided over {processes} process{'es' * (processes > 1)} with {workers} "
                f"reader{'s' * (workers > 1)} each. A run that is resumed on as many is exact; on others, or with other "
                "`num_workers`, other samples make a step, and the epoch under way may repeat some and leave out others"
            )
        if shards > 1 and self._cut.num_processes > 1:
            return (
                f"{name} is read whole by each of {self._cut.num_processes} processes, among which its {shards} shards "
                "cannot be divided: make their number a multiple"
            )
        if self._cut.num_workers > 1:
            return (
                f"{name} is read by one worker, since its samples come in one order; "
                "what is costly, such as decoding, belongs into `collate_fn`, which gets this process's share only"
            )
        return None

    def notice_of_resume(self, state: Any) -> str | None:
        if not is_split(state) or (self._layout is not None and is_of_layout(state, self._layout)):
            return None
        processes, workers = state["layout"]
        return (
            f"`{type(self.dataset).__name__}` was divided over {processes} process{'es' * (processes > 1)} with {workers} "
            f"reader{'s' * (workers > 1)} each, and no longer is: this epoch goes on after as many samples, of which some "
            "may be repeated and others left out; from the next epoch on, each comes once"
        )

    def indices_between(self, epoch: int, start: int, stop: int) -> list[int]:
        """The samples by their place in the stream, counted from 0; its last step may hold fewer."""
        return list(range(start, stop))

    def portions(
        self,
        epoch: int,
        first_step: int,
        micro_batches: int,
        state: Any = None,
        *,
        start: int | None = None,
        filler: bool = True,
    ) -> Generator[Portion]:
        if self._is_being_read and hasattr(self.dataset, "state_dict"):
            raise ConfigError(
                f"`{type(self.dataset).__name__}` is being read already, and has one place: "
                "make a second stream, with a loader of its own, for what goes on meanwhile"
            )
        start = first_step * self.batch_size if start is None else start
        reader = _Reader(self.dataset, self._cut, epoch, first_step, start, micro_batches, state, filler)
        source = self._by_worker(reader) if self._cut.num_workers else iter(reader)
        portions, compare = self._read(source, source), self._cut.compare
        return portions if compare is None else compare(type(self.dataset).__name__, portions)

    def divided_portions(
        self, epoch: int, first_step: int, micro_batches: int, state: Any, start: int
    ) -> Generator[Portion]:
        layout, cut = self._layout, self._cut
        if layout is None or (start and not is_split(state)):  # as in a run of paccel 0.1, to the end of its epoch
            state = None if is_split(state) else state
            return self.portions(epoch, first_step, micro_batches, state, start=start)
        states, turn = readers_of(state, layout, cut.rank)
        skip = 0 if states else start // (layout.processes * layout.workers)
        shards = foreign.of_process(self.dataset, cut.rank, layout.processes) if layout.processes > 1 else self.dataset
        shards.set_epoch(epoch)
        reader = ShardReader(shards, cut, epoch, micro_batches, states, turn, skip)
        workers = layout.workers if cut.num_workers else 0
        shares = (
            self._workers.items(in_workers(reader, workers, cut.device, cut.worker_options), stay=False)
            if workers
            else iter(reader)
        )
        name = type(self.dataset).__name__
        return self._read(shares_to_portions(shares, layout, states, cut, first_step, name), shares)

    def _read(self, portions: Iterable[Portion], source: Any) -> Generator[Portion]:
        self._is_being_read = True
        try:
            for portion in portions:
                again = partial(self._delivered, portion.micro_batches)
                yield portion._replace(micro_batches=again(), again=again)
        finally:
            self._is_being_read = False
            source.close()

    def _delivered(self, micro_batches: Iterable[tuple[Any, int]]) -> Iterator[tuple[Any, int]]:
        """Micro-batches on the device. Copies on the CPU too: they may be taken again after the loop has changed its own."""
        deliver = cloned if self._cut.device.type == "cpu" else self._deliver
        return ((deliver(batch), counted) for batch, counted in micro_batches)

    def _by_worker(self, reader: "_Reader") -> Generator[Portion]:
        workers = in_workers(reader, 1, self._cut.device, self._cut.worker_options)  # one stream comes from one reader
        yield from self._workers.items(workers, stay=False)

    def evaluation_batches(self, filler: bool) -> Iterator[tuple[Any, int]]:
        for portion in self.portions(0, 0, 1, filler=filler):
            yield from portion.micro_batches


class _Reader(IterableDataset[Portion]):
    """Reads a stream in whichever process iterates it, and cuts it into the portions of one rank.

    Randomness is a function of (seed, epoch, place in the stream), so every process, and a resumed one, draws the same.
    """

    def __init__(
        self,
        dataset: Any,
        cut: Cut,
        epoch: int,
        first_step: int,
        start: int,
        micro_batches: int,
        state: Any,
        filler: bool,
    ) -> None:
        # What belongs to the training process does not go to its worker
        self.dataset, self.cut = dataset, replace(cut, compare=None, add_up=None, order_version=newest_order)
        self.hooks = seed_hooks(dataset)
        self.collate_fn = cut.collate_fn or default_collate
        self.epoch, self.epoch_key = epoch, at(key(cut.seed, "sample"), epoch)
        self.first_step, self.start = first_step, start
        self.micro_batches, self.state, self.filler = micro_batches, state, filler

    def __iter__(self) -> Generator[Portion]:
        step = self.first_step
        # For an order that is drawn when the stream begins, also where it then jumps to its place
        seed_sample(at(self.epoch_key, 0), self.hooks)
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(self.epoch)
        has_state = foreign.has_whole_state(self.dataset)
        jumps = has_state and step > 0 and self.state is not None
        if jumps:
            self.dataset.load_state_dict(self.state)
        samples = self._samples(iter(self.dataset), self.start if jumps else 0)
        for _ in itertools.islice(samples, 0 if jumps else self.start):
            pass
        batch = [] if step == self.cut.limit else self._take(samples)
        found = digest(batch) if batch and self.cut.num_processes > 1 else None
        while batch:
            state = copy.deepcopy(self.dataset.state_dict()) if has_state else None
            step += 1
            following = [] if step == self.cut.limit else self._take(samples)
            yield Portion(len(batch), not following, self._share(batch, step), None, state, found)
            batch, found = following, None

    def _samples(self, source: Iterator[Any], place: int) -> Iterator[Any]:
        """The samples from `place` on, each drawn with a seed of its own; the first with that of the beginning."""
        while True:
            if place > 0:
                seed_sample(at(self.epoch_key, place), self.hooks)
            try:
                yield next(source)
            except StopIteration:
                return
            place += 1

    def _take(self, samples: Iterator[Any]) -> list[Any]:
        """The samples of the next step over all processes; none at the end."""
        batch = list(itertools.islice(samples, self.cut.batch_size))
        return [] if self.cut.drop_last and len(batch) < self.cut.batch_size else batch

    def _share(self, batch: list[Any], step: int) -> list[tuple[Any, int]]:
        """This process's micro-batches of a step."""
        cut = []
        for number in range(self.micro_batches):
            part = number * self.cut.num_processes + self.cut.rank
            start, stop = share(len(batch), self.micro_batches * self.cut.num_processes, part)
            if start < stop or self.filler:
                seed_host(at(~self.epoch_key, step << 16 | part))  # for what draws at random while it collates
                cut.append((self.collate_fn(batch[start:stop] or batch[:1]), stop - start))
        return cut


def is_stream(dataset: Any) -> bool:
    """Whether a dataset can be iterated and nothing more."""
    has_index = isinstance(dataset, Sized) and hasattr(dataset, "__getitem__")
    return isinstance(dataset, IterableDataset) or (hasattr(dataset, "__iter__") and not has_index)
