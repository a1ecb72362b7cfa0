"""A stream of shards, divided over processes and their workers: each reads only its own shards.

Which samples make a step depends on the layout: the number of processes and of workers. On the same layout, a resumed run
continues with the very next samples. The workers of a process take turns: each makes the process's share of a whole step.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from torch.utils.data import get_worker_info

from ..errors import DataError
from . import foreign
from .order import AddUp, Cut, Portion, share
from .randomness import at, key
from .reader import StreamReader


class Layout(NamedTuple):
    """The number of processes that a stream is divided over, and of readers in each: its workers, or itself."""

    processes: int
    workers: int

    @classmethod
    def of(cls, stream: Any, cut: Cut) -> "Layout | None":
        """None for a stream that each process reads whole: it has one reader, or shards that cannot be divided evenly."""
        shards = foreign.num_shards(stream)
        if shards % cut.num_processes:
            return None
        layout = cls(cut.num_processes, max(1, min(cut.num_workers, shards // cut.num_processes)))
        return None if layout == (1, 1) else layout

    def __str__(self) -> str:
        processes, workers = self
        return f"{processes} process{'es' * (processes > 1)} with {workers} reader{'s' * (workers > 1)} each"

    def matches(self, state: dict[str, Any]) -> bool:
        """Whether a divided stream had this layout when its state was saved."""
        return tuple(state["layout"]) == self

    def readers(self, state: Any, rank: int) -> tuple[list[dict[str, Any] | None], int]:
        """The states of one process's readers, and whose turn it is. Empty if there is no state of this layout."""
        if state is None or not self.matches(state):
            return [], 0
        readers, turn = state["processes"][rank] if "processes" in state else (state["readers"], state["next"])
        return readers, turn


def is_split(state: Any) -> bool:
    """Whether this is the state of a divided stream."""
    return isinstance(state, dict) and "layout" in state


def joined(states: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One state for all processes from those of each, in rank order; a joined state is returned unchanged."""
    if "processes" in states[0]:
        return states[0]
    return {"layout": states[0]["layout"], "processes": [[state["readers"], state["next"]] for state in states]}


class Share(NamedTuple):
    """One process's share of a step.

    Attributes:
        reader: The worker that read it, from 0.
        micro_batches: Each with the number of samples that count.
        counted: Samples in all of them.
        state: State of the reader after them.
    """

    reader: int
    micro_batches: list[tuple[Any, int]]
    counted: int
    state: dict[str, Any]


class ShardReader(StreamReader[Share | None]):
    """Reads the shards of one process, or of one of its workers, and makes its shares of steps.

    Args:
        dataset: The shards of this process, after `set_epoch`: workers share the epoch of `datasets` in memory, and
            would add to it several times.
        cut: Batch size, rank and more.
        epoch: Counted from 1.
        micro_batches: Micro-batches per step on this process.
        states: States of the readers; empty at the start of an epoch.
        first: The reader whose turn it is.
        skip: Samples that each reader skips, where the layout has changed.
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
        super().__init__(dataset, cut)
        self.epoch, self.micro_batches, self.states, self.first, self.skip = epoch, micro_batches, states, first, skip
        parts = micro_batches * cut.num_processes
        bounds = [share(cut.batch_size, parts, n * cut.num_processes + cut.rank) for n in range(micro_batches)]
        self.size = sum(stop - start for start, stop in bounds)

    def __iter__(self) -> Generator[Share | None]:
        worker = get_worker_info()
        reader, count = (0, 1) if worker is None else (worker.id, worker.num_workers)
        before = (self.states[reader] if self.states else None) or {"samples": self.skip, "steps": 0, "state": None}
        place, steps = before["samples"], before["steps"]
        epoch_key = at(key(self.cut.seed, "shards", self.cut.rank * count + reader), self.epoch)
        self.seed_start(epoch_key)
        samples = self.samples(epoch_key, place, before["state"])
        if reader < self.first:
            yield None  # a pass asks the workers in turn from 0 on, and this one's turn is over
        while batch := list(islice(samples, self.size)):
            place, steps = place + len(batch), steps + 1
            state = {"samples": place, "steps": steps, "state": self.state()}
            parts = range(self.micro_batches)
            micro_batches = [self.micro_batch(batch, epoch_key, steps, self.micro_batches, part) for part in parts]
            yield Share(reader, micro_batches, len(batch), state)


def shares_to_portions(
    shares: Iterator[Share | None],
    layout: Layout,
    readers: list[dict[str, Any] | None],
    cut: Cut,
    first_step: int,
    name: str,
) -> Generator[Portion]:
    """The steps of one process, until no process has samples left. Collective on several processes.

    The number of samples of a step is summed over the processes while the step before is trained on, so nothing waits.

    Raises:
        DataError: This process has no sample at all, and others have.
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
        """Samples of the next step, which follows `step`; 0 if the epoch is over."""
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
                f"`{name}` has no sample in the shards of process {cut.rank}, but has some in others: add samples to "
                "these shards, or use fewer shards than processes, so that each process reads all"
            )
        else:  # fillers, while other processes have samples left
            last = [(batch, 0) for batch, _ in last]
        state = {"layout": list(layout), "readers": list(readers), "next": turn}
        if following:
            look_ahead()
        yield Portion(total, not following, last, None, state)
        total = following
