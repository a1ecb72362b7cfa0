"""Training and evaluating on a stream: data without an index, or without an end.

Every process reads the whole stream and keeps its share of each step, dealt as from a map-style dataset. So the same
samples make the same steps on any number of processes, and no process has to be told what another has read. What is
costly, such as decoding, belongs into `collate_fn`, which gets only the share that is kept.
"""

import copy
import itertools
from collections.abc import Generator, Iterator, Sized
from typing import Any

from torch.utils.data import IterableDataset, default_collate

from ..errors import ConfigError
from . import foreign
from .fetch import end_workers, in_workers, seed_hooks, seed_sample, to_device
from .loader import Loader
from .order import Cut, Portion, share
from .randomness import at, key, seed_host


class StreamLoader(Loader):
    """The batches of a stream.

    A stream is anything that can be iterated, again for each epoch, and yields the same samples on every process. It
    may have `set_epoch(epoch)`, and `state_dict()` and `load_state_dict(state)`. The state is read after each step, and
    makes resuming cost nothing; without it a resumed run reads up to where it stood. torchdata's `StatefulDataLoader`
    with `batch_size=None`, its nodes, and the streams of `datasets` have these. At its start, a run says what is not
    exact, or takes long, when it is resumed.
    """

    is_stream = True

    def __init__(self, dataset: Any, cut: Cut) -> None:
        problems = []
        if cut.shuffle:
            problems.append(
                f"`{type(dataset).__name__}` has no index, so it cannot be shuffled here: let it shuffle itself"
            )
        if cut.batch_size < 1:
            problems.append(f"A batch size must be at least 1: {cut.batch_size}")
        if hasattr(dataset, "state_dict") != hasattr(dataset, "load_state_dict"):
            problems.append(f"`{type(dataset).__name__}` has one of `state_dict` and `load_state_dict`: it needs both")
        if cut.num_processes > 1 and foreign.is_unseeded(dataset):
            problems.append(
                f"`{type(dataset).__name__}` is shuffled without a seed, in another order on each process: "
                "give `shuffle` a `seed`"
            )
        if problems:
            raise ConfigError("\n".join(problems))
        super().__init__(dataset, cut.batch_size, cut.limit)
        self._cut = cut

    def notice(self) -> str | None:
        return foreign.notice(self.dataset)

    def indices_of_step(self, epoch: int, step: int) -> list[int]:
        """The samples of a step by their place in the stream, counted from 0; its last step may hold fewer."""
        return list(range(step * self.batch_size, (step + 1) * self.batch_size))

    def portions(
        self, epoch: int, first_step: int, micro_batches: int, state: Any = None, filler: bool = True
    ) -> Generator[Portion]:
        reader = _Reader(self.dataset, self._cut, epoch, first_step, micro_batches, state, filler)
        for portion in self._by_worker(reader) if self._cut.num_workers else reader:
            on_device = ((to_device(batch, self._cut.device), counted) for batch, counted in portion.micro_batches)
            yield portion._replace(micro_batches=on_device)

    def _by_worker(self, reader: "_Reader") -> Iterator[Portion]:
        workers = in_workers(reader, 1, self._cut.device)  # the steps of one stream come from one reader
        try:
            yield from workers
        finally:
            end_workers(workers)

    def evaluation_batches(self, filler: bool) -> Iterator[tuple[Any, int]]:
        for portion in self.portions(0, 0, 1, filler=filler):
            yield from portion.micro_batches


class _Reader(IterableDataset[Portion]):
    """Reads a stream in whichever process iterates it, and cuts it into the portions of one rank.

    Randomness is a function of (seed, epoch, place in the stream), so every process, and a resumed one, draws the same.
    """

    def __init__(
        self, dataset: Any, cut: Cut, epoch: int, first_step: int, micro_batches: int, state: Any, filler: bool
    ) -> None:
        self.dataset, self.cut, self.hooks = dataset, cut, seed_hooks(dataset)
        self.collate_fn = cut.collate_fn or default_collate
        self.epoch, self.epoch_key = epoch, at(key(cut.seed, "sample"), epoch)
        self.first_step, self.micro_batches, self.state, self.filler = first_step, micro_batches, state, filler

    def __iter__(self) -> Iterator[Portion]:
        step = self.first_step
        # For an order that is drawn when the stream begins, also where it then jumps to its place
        seed_sample(at(self.epoch_key, 0), self.hooks)
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(self.epoch)
        has_state = foreign.has_whole_state(self.dataset)
        jumps = has_state and step > 0 and self.state is not None
        if jumps:
            self.dataset.load_state_dict(self.state)
        samples = self._samples(iter(self.dataset), step * self.cut.batch_size if jumps else 0)
        for _ in range(0 if jumps else step):
            self._take(samples)
        batch = [] if step == self.cut.limit else self._take(samples)
        while batch:
            state = copy.deepcopy(self.dataset.state_dict()) if has_state else None
            step += 1
            following = [] if step == self.cut.limit else self._take(samples)
            yield Portion(len(batch), not following, self._share(batch, step), state)
            batch = following

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
