"""The loader of streams: data without an index or a length.

Every process reads the whole stream and keeps its share of each step, dealt as for a map-style dataset. So steps have the
same samples on any number of processes, and processes need not communicate. Costly work such as decoding belongs in
`collate_fn`, which only gets the share.

For training, a stream of `datasets` whose shards can be divided evenly is divided instead: see `split`.
"""

from collections.abc import Generator, Iterable, Iterator, Sized
from functools import partial
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from ..errors import ConfigError
from . import foreign
from .delivery import cloned
from .loader import Loader
from .order import Cut, Portion
from .reader import StreamReader, WholeReader
from .split import Layout, ShardReader, is_split, shares_to_portions
from .workers import in_workers


class StreamLoader(Loader):
    """The batches of a stream.

    A stream is anything that can be iterated, again in each epoch, and yields the same samples on every process. It may
    have `set_epoch(epoch)`, and `state_dict()` with `load_state_dict(state)`. With a state, which is read after each step,
    resuming costs nothing; without, a resumed run reads up to its position. torchdata's `StatefulDataLoader` with
    `batch_size=None`, its nodes, and the streams of `datasets` have these. A run says at its start what is inexact or slow
    about resuming.

    A stream of `datasets` is divided by shard over processes and workers for training, if its number of shards is a
    multiple of the number of processes: each reads its own shards, and resuming is exact on as many processes and
    workers.
    """

    is_stream = True

    def __init__(self, dataset: Any, cut: Cut) -> None:
        name, problems = f"`{type(dataset).__name__}`", []
        if isinstance(dataset, DataLoader) and (dataset.batch_size is not None or dataset.batch_sampler is not None):
            raise ConfigError(
                "`run.loader` makes the batches: instead of a `DataLoader`, give it the dataset, "
                f"`run.loader(loader.dataset, {cut.batch_size}, collate_fn=loader.collate_fn, num_workers=…)`"
            )
        if cut.shuffle:
            problems.append(f"{name} has no index, so `run.loader` cannot shuffle it: shuffle within the stream")
        if hasattr(dataset, "state_dict") != hasattr(dataset, "load_state_dict"):
            problems.append(f"{name} has only one of `state_dict` and `load_state_dict`: it needs both")
        if cut.num_processes > 1 and foreign.is_unseeded(dataset):
            problems.append(
                f"{name} is shuffled without a seed, in another order on each process: pass a `seed` to its `shuffle`"
            )
        if foreign.is_split_by_node(dataset):
            problems.append(
                f"{name} was split by `split_dataset_by_node`: pass the whole stream to `run.loader` on every process, "
                "as paccel divides it"
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
        processes = self._cut.num_processes
        if self._layout is not None:
            return (
                f"{name}: its {shards} shards are divided over {self._layout}. Resuming is exact on as many; on others, or "
                "with other `num_workers`, steps have other samples, and the current epoch may repeat some and skip others"
            )
        if shards > 1 and processes > 1:
            return (
                f"{name} is read whole by each of {processes} processes, as its {shards} shards cannot be divided evenly: "
                f"use a multiple of {processes}"
            )
        if self._cut.num_workers > 1:
            return (
                f"{name} is read by one worker, as its samples come in one order: put costly work such as decoding into "
                "`collate_fn`, which only gets this process's share"
            )
        return None

    def notice_of_resume(self, state: Any) -> str | None:
        if not is_split(state) or (self._layout is not None and self._layout.matches(state)):
            return None
        return (
            f"`{type(self.dataset).__name__}` was divided over {Layout(*state['layout'])}, and no longer is: this epoch "
            "continues after as many samples, and may repeat some and skip others; from the next epoch on, each occurs once"
        )

    def indices_between(self, epoch: int, start: int, stop: int) -> list[int]:
        """Positions in the stream, counted from 0. The last step of an epoch may have fewer."""
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
        name = type(self.dataset).__name__
        if self._is_being_read and hasattr(self.dataset, "state_dict"):
            raise ConfigError(
                f"`{name}` is already being read, and has only one position: create a second stream with its own loader "
                "for a pass that overlaps"
            )
        start = first_step * self.batch_size if start is None else start
        reader = WholeReader(self.dataset, self._cut, epoch, first_step, start, micro_batches, state, filler)
        source = self._items(reader, min(1, self._cut.num_workers))  # a stream has one order, so one reader
        portions, compare = self._deliver_from(source, source), self._cut.compare
        return portions if compare is None else compare(name, portions)

    def divided_portions(
        self, epoch: int, first_step: int, micro_batches: int, state: Any, start: int
    ) -> Generator[Portion]:
        layout, cut = self._layout, self._cut
        if layout is None or (start and not is_split(state)):  # a run of paccel 0.1 reads its epoch whole to the end
            state = None if is_split(state) else state
            return self.portions(epoch, first_step, micro_batches, state, start=start)
        states, turn = layout.readers(state, cut.rank)
        skip = 0 if states else start // (layout.processes * layout.workers)
        shards = foreign.of_process(self.dataset, cut.rank, layout.processes) if layout.processes > 1 else self.dataset
        shards.set_epoch(epoch)
        reader = ShardReader(shards, cut, epoch, micro_batches, states, turn, skip)
        shares = self._items(reader, layout.workers if cut.num_workers else 0)
        name = type(self.dataset).__name__
        return self._deliver_from(shares_to_portions(shares, layout, states, cut, first_step, name), shares)

    def _items(self, reader: StreamReader[Any], num_workers: int) -> Generator[Any]:
        """What a reader yields in this process, or in workers."""
        if not num_workers:
            return iter(reader)  # type: ignore[return-value]  # readers are generators
        workers = in_workers(reader, num_workers, self._cut.device, self._cut.worker_options)
        return self._workers.items(workers, stay=False)

    def _deliver_from(self, portions: Iterable[Portion], source: Generator[Any]) -> Generator[Portion]:
        """Portions with their micro-batches on the device. Closes the source at the end."""
        self._is_being_read = True
        try:
            for portion in portions:
                again = partial(self._delivered, portion.micro_batches)
                yield portion._replace(micro_batches=again(), again=again)
        finally:
            self._is_being_read = False
            source.close()

    def _delivered(self, micro_batches: Iterable[tuple[Any, int]]) -> Iterator[tuple[Any, int]]:
        """Copies on the device. On the CPU too, as the loop may change them in place and read them again."""
        deliver = cloned if self._cut.device.type == "cpu" else self._deliver
        return ((deliver(batch), counted) for batch, counted in micro_batches)

    def evaluation_batches(self, filler: bool) -> Iterator[tuple[Any, int]]:
        for portion in self.portions(0, 0, 1, filler=filler):
            yield from portion.micro_batches


def is_stream(dataset: Any) -> bool:
    """Whether a dataset can only be iterated."""
    has_index = isinstance(dataset, Sized) and hasattr(dataset, "__getitem__")
    return isinstance(dataset, IterableDataset) or (hasattr(dataset, "__iter__") and not has_index)
