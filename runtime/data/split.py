"""A stream of shards, divided over processes and their workers: each reads only its own.

Which samples make a step then depends on the layout, the number of processes and workers: with the same layout a resumed
run goes on with the very next samples. The workers of a process make its share of the steps in turn.
"""

import copy
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, NamedTuple

from torch.utils.data import IterableDataset, default_collate, get_worker_info

from ..errors import DataError
from . import foreign
from .fetch import seed_hooks, seed_sample
from .order import AddUp, Cut, Portion, share
from .randomness import at, key, seed_host
from .shuffle import newest_order


class Share(NamedTuple):
    """What one reader has of a step.

    Attributes:
        reader: The worker, from 0.
        micro_batches: Each with the number of its samples that count.
        counted: Samples in all of them.
        state: Of the reader after them.
    """

    reader: int
    micro_batches: list[tuple[Any, int]]
    counted: int
    state: dict[str, Any]


class ShardReader(IterableDataset[Share | None]):
    """Reads the shards of one process, in whichever worker iterates it, and makes of them its share of every step.

    Args:
        dataset: The shards of this process, at this epoch already: `datasets` keeps it in memory that the workers share,
            and two of them that set it at once would add it twice.
        cut: Batch size and more.
        epoch: Counted from 1.
        micro_batches: For each step on this process.
        states: Of the readers, where they go on; an empty list at the start of an epoch.
        first: The reader whose turn it is.
        skip: Samples that each reader leaves out, where the layout has changed.
    """

    def __init__(
        self,
        dataset: Any,
        cut: Cut,
        epoch: int,
        micro_batches: int,
        states: Sequence[dict[str, Any] | None],
        first: int,
        skip: int,
    ) -> None:
        # What belongs to the training process does not go to its workers
        self.dataset, self.cut = dataset, replace(cut, compare=None, add_up=None, order_version=newest_order)
        self.hooks, self.collate_fn = seed_hooks(dataset), cut.collate_fn or default_collate
        self.epoch, self.states, self.first, self.skip = epoch, states, first, skip
        parts = [
            share(cut.batch_size, micro_batches * cut.num_processes, n * cut.num_processes + cut.rank)
            for n in range(micro_batches)
        ]
        self.size, self.micro_batches = sum(stop - start for start, stop in parts), micro_batches

    def __iter__(self) -> Generator[Share | None]:
        worker = get_worker_info()
        reader, count = (0, 1) if worker is None else (worker.id, worker.num_workers)
        before = (self.states[reader] if self.states else None) or {"samples": self.skip, "steps": 0, "state": None}
        epoch_key = at(key(self.cut.seed, "shards", self.cut.rank * count + reader), self.epoch)
        seed_sample(at(epoch_key, 0), self.hooks)
        place, steps = before["samples"], before["steps"]
        has_state = foreign.has_whole_state(self.dataset)
        jumps = has_state and before["state"] is not None
        if jumps:
            self.dataset.load_state_dict(before["state"])
        samples = self._samples(iter(self.dataset), epoch_key, place if jumps else 0)
        for _ in islice(samples, 0 if jumps else place):
            pass
        if reader < self.first:
            yield None  # workers are asked in turn, from 0 on: this one has had its turn
        while batch := list(islice(samples, self.size)):
            place, steps = place + len(batch), steps + 1
            state = copy.deepcopy(self.dataset.state_dict()) if has_state else None
            known = {"samples": place, "steps": steps, "state": state}
            yield Share(reader, list(self._micro_batches(batch, epoch_key, steps)), len(batch), known)

    def _samples(self, source: Iterator[Any], epoch_key: int, place: int) -> Iterator[Any]:
        """The samples from `place` on, each drawn with a seed of its own; the first with that of the beginning."""
        while True:
            if place > 0:
                seed_sample(at(epoch_key, place), self.hooks)
            try:
                yield next(source)
            except StopIteration:
                return
            place += 1

    def _micro_batches(self, batch: list[Any], epoch_key: int, step: int) -> Iterator[tuple[Any, int]]:
        for number in range(self.micro_batches):
            start, stop = share(len(batch), self.micro_batches, number)
            seed_host(at(~epoch_key, step << 16 | number))  # for what draws at random while it collates
            yield self.collate_fn(batch[start:stop] or batch[:1]), stop - start


class Layout(NamedTuple):
    """How a stream is divided: over how many processes, and workers of each."""

    processes: int
    workers: int

    @classmethod
    def of(cls, stream: Any, cut: Cut) -> "Layout | None":
        """None for a stream that is read whole by each process, as its shards cannot be divided evenly."""
        shards = foreign.num_shards(stream)
        if shards % cut.num_processes:
            return None
        layout = cls(cut.num_processes, max(1, min(cut.num_workers, shards // cut.num_processes)))
        return None if layout == (1, 1) else layout


def is_split(state: Any) -> bool:
    """Whether a state of a stream is one of shards."""
    return isinstance(state, dict) and "layout" in state


def joined(states: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The state of all processes from that of each, in rank order; what is joined already stays as it is."""
    if "processes" in states[0]:
        return states[0]
    return {"layout": states[0]["layout"], "processes": [[state["readers"], state["next"]] for state in states]}


def is_of_layout(state: dict[str, Any], layout: Layout) -> bool:
    return tuple(state["layout"]) == layout


def readers_of(state: Any, layout: Layout, rank: int) -> tuple[list[dict[str, Any] | None], int]:
    """The states of one process's readers, and whose turn it is; none where the state is of another layout."""
    if state is None or not is_of_layout(state, layout):
        return [], 0
    readers, turn = state["processes"][rank] if "processes" in state else (state["readers"], state["next"])
    return readers, turn


def shares_to_portions(
    shares: Iterator[Share | None],
    layout: Layout,
    readers: list[dict[str, Any] | None],
    cut: Cut,
    first_step: int,
    name: str,
) -> Generator[Portion]:
    """The steps of one process, until no process has samples left. Collective where there are several.

    How many samples the step after the next has is added up while a step is trained on, so nothing waits for it.

    Raises:
        DataError: A process has no sample at all, while others have.
    """
    add_up: AddUp = cut.add_up or (lambda number: lambda: number)
    readers = list(readers) or [None] * layout.workers
    own: deque[Share | None] = deque()
    totals: deque[Callable[[], int]] = deque()
    last: list[tuple[Any, int]] | None = None

    def look_ahead() -> None:
        found = next((share for share in shares if share is not None), None)
        own.append(found)
        totals.append(add_up(0 if found is None else found.counted))

    def read_total(step: int) -> int:
        """Samples of a step that is the next; 0 where the epoch is over."""
        total = 0 if step == cut.limit else totals.popleft()()
        return 0 if cut.drop_last and total < cut.batch_size else total

    look_ahead()
    look_ahead()
    step, total, turn = first_step, read_total(first_step), 0
    while total:
        step += 1
        mine = own.popleft()
        following = read_total(step)
        if mine is not None:
            readers[mine.reader], turn = mine.state, (mine.reader + 1) % layout.workers
            last = mine.micro_batches
        elif last is None:
            raise DataError(
                f"`{name}` has no sample in the shards of process {cut.rank}, while others have some: fill its shards, or "
                "make fewer of them than processes, so that each reads all"
            )
        else:  # no sample is left here, while others go on: what was trained on last, and counts nothing
            last = [(batch, 0) for batch, _ in last]
        state = {"layout": list(layout), "readers": list(readers), "next": turn}
        if following:
            look_ahead()
        yield Portion(total, not following, last, None, state)
        total = following
