"""Reading streams, in the training process or in a worker."""

import copy
from collections.abc import Generator, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any, TypeVar

from torch.utils.data import IterableDataset, default_collate

from . import foreign
from .fetch import seed_hooks, seed_sample
from .fingerprint import digest
from .order import Cut, Portion, share
from .randomness import at, key, seed_host
from .shuffle import newest_order

T_co = TypeVar("T_co", covariant=True)


class StreamReader(IterableDataset[T_co]):
    """What all readers have in common: seeding, resuming and collating.

    Random draws are a function of a key, made from seed and epoch, and of the position in the stream.
    """

    def __init__(self, dataset: Any, cut: Cut) -> None:
        # Workers get a copy of this, without objects of the training process
        self.dataset, self.cut = dataset, replace(cut, compare=None, add_up=None, order_version=newest_order)
        self.collate_fn = cut.collate_fn or default_collate
        self._hooks = seed_hooks(dataset)
        self._has_state = foreign.has_whole_state(dataset)

    def seed_start(self, epoch_key: int) -> None:
        """Seed an order that is drawn when the stream is iterated, also if it then jumps to a position."""
        seed_sample(at(epoch_key, 0), self._hooks)

    def samples(self, epoch_key: int, start: int, state: Any) -> Iterator[Any]:
        """The samples after the first `start`: jumps there with the stream's state, or reads up to there without one."""
        jumps = self._has_state and state is not None
        if jumps:
            self.dataset.load_state_dict(state)
        samples = self._seeded(iter(self.dataset), epoch_key, start if jumps else 0)
        return samples if jumps else islice(samples, start, None)

    def _seeded(self, source: Iterator[Any], epoch_key: int, position: int) -> Iterator[Any]:
        """Samples from `position` on, each with its own seed. Position 0 has that of `seed_start`."""
        while True:
            if position > 0:
                seed_sample(at(epoch_key, position), self._hooks)
            try:
                yield next(source)
            except StopIteration:
                return
            position += 1

    def state(self) -> Any:
        """A copy of the stream's state; None if that does not suffice to resume."""
        return copy.deepcopy(self.dataset.state_dict()) if self._has_state else None

    def micro_batch(self, batch: list[Any], epoch_key: int, step: int, parts: int, part: int) -> tuple[Any, int]:
        """One of the `parts` of a step, collated, and the number of its samples; a filler if it has none."""
        start, stop = share(len(batch), parts, part)
        seed_host(at(~epoch_key, step << 16 | part))  # for collation that draws
        return self.collate_fn(batch[start:stop] or batch[:1]), stop - start


class WholeReader(StreamReader[Portion]):
    """Reads a whole stream, and keeps one process's share of each step.

    Args:
        dataset: The stream.
        cut: Batch size, rank and more.
        epoch: Counted from 1; 0 in an evaluation.
        first_step: Steps that are done.
        start: Samples that are done.
        micro_batches: Micro-batches per step on this process.
        state: State of the stream there, or None.
        filler: Whether a micro-batch without samples is a filler, or left out.
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
        super().__init__(dataset, cut)
        self.epoch, self.epoch_key = epoch, at(key(cut.seed, "sample"), epoch)
        self.first_step, self.start = first_step, start
        self.micro_batches, self.start_state, self.filler = micro_batches, state, filler

    def __iter__(self) -> Generator[Portion]:
        step = self.first_step
        self.seed_start(self.epoch_key)
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(self.epoch)
        samples = self.samples(self.epoch_key, self.start, self.start_state if step > 0 else None)
        batch = [] if step == self.cut.limit else self._take(samples)
        found = digest(batch) if batch and self.cut.num_processes > 1 else None
        while batch:
            state = self.state()
            step += 1
            following = [] if step == self.cut.limit else self._take(samples)
            yield Portion(len(batch), not following, self._share(batch, step), None, state, found)
            batch, found = following, None

    def _take(self, samples: Iterator[Any]) -> list[Any]:
        """The samples of the next step over all processes; none at the end."""
        batch = list(islice(samples, self.cut.batch_size))
        return [] if self.cut.drop_last and len(batch) < self.cut.batch_size else batch

    def _share(self, batch: list[Any], step: int) -> list[tuple[Any, int]]:
        """This process's micro-batches of a step."""
        processes = self.cut.num_processes
        parts = [number * processes + self.cut.rank for number in range(self.micro_batches)]
        return [
            self.micro_batch(batch, self.epoch_key, step, self.micro_batches * processes, part)
            for part in parts
            if part < len(batch) or self.filler
        ]
