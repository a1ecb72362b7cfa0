"""What all loaders have in common: batches of a dataset, cut the same way on any number of processes."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from typing import Any

from ..errors import ConfigError
from .delivery import Delivery
from .fingerprint import fingerprint
from .order import Cut, Part, Portion
from .randomness import at, key, seeder
from .workers import Workers


class Loader(ABC):
    """The batches of a dataset, cut the same way on any number of processes. Created by `Run.loader`.

    Attributes:
        batch_size: Samples per step, over all processes and micro-batches.
        num_samples: Samples per epoch, over all processes; a stream has no such attribute.
        batch_samples: Samples of this process in the current evaluation batch; 0 in a filler.
        is_stream: Whether the data can only be read from its start.
        known_steps: As `steps_per_epoch`, but None for a stream without a limit.
        name: Name of its position in a checkpoint; None if it was created within the loop.
    """

    num_samples: int
    is_stream = False
    name: str | None = None

    def __init__(self, dataset: Any, cut: Cut, known_steps: int | None) -> None:
        self.dataset = dataset
        self.batch_size = cut.batch_size
        self.known_steps = known_steps
        self.batch_samples = 0
        self._cut = cut
        self._description = fingerprint(dataset)  # before the dataset caches anything
        self._deliver = Delivery(cut.device)
        self._workers = Workers()

    def close(self) -> None:
        """End the workers, if there are any; a later pass starts new ones. Called at the end of the run."""
        self._workers.close()

    def describe(self) -> dict[str, Any]:
        """Description of the data and its order: saved in checkpoints, and compared on resume."""
        return {"batch_size": self.batch_size, **self._description}

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer updates per epoch, or global batches per evaluation. For a stream: its limit, an upper bound.

        Raises:
            ConfigError: This is a stream without a limit.
        """
        if self.known_steps is None:
            raise ConfigError(f"`{type(self.dataset).__name__}` has no length: set `max_steps` or `limit_batches`")
        return self.known_steps

    def __len__(self) -> int:
        return self.steps_per_epoch

    def __iter__(self) -> Iterator[Any]:
        """Not supported: which samples of a batch count depends on what it is used for.

        Raises:
            ConfigError: Always; says what to use instead.
        """
        raise ConfigError(
            "A loader cannot be iterated directly. To train, use `for step in run.steps(loader)` and `for batch in step`; "
            "for one pass, as in an evaluation, `for batch in run.batches(loader)`"
        )

    def total_steps(self, epochs: int | None, max_steps: int | None = None) -> int:
        """Optimizer updates in a whole run: `epochs` passes, but at most `max_steps`.

        Raises:
            ConfigError: Both limits are None, an epoch has no step, or this is a stream without a limit.
        """
        limits = [] if max_steps is None else [max_steps]
        if epochs is not None and (self.known_steps is not None or not limits):
            limits.append(epochs * self.steps_per_epoch)
        if not limits:
            raise ConfigError("`epochs` and `max_steps` are both off: the run would never end")
        return min(limits)

    def evaluate(self, filler: bool) -> Generator[tuple[Any, int]]:
        """The `evaluation_batches`; sets `batch_samples` for each."""
        for batch, counted in self.evaluation_batches(filler):
            self.batch_samples = counted
            yield batch, counted

    def training_batches(self, epoch: int, first_step: int, micro_batches: int) -> Iterator[tuple[Any, int]]:
        """This process's micro-batches of an epoch from `first_step` on, each with the number of samples that count.

        For custom loops: what they draw at random in a micro-batch is a function of (seed, epoch, micro-batch, process).
        `Run.steps` and `Step.beside` do more.
        """
        seed, place = seeder(self._cut.device), first_step * micro_batches
        for portion in self.portions(epoch, first_step, micro_batches):
            for batch, counted in itertools.islice(portion.micro_batches, micro_batches):
                seed(at(key(self._cut.seed, "batches", epoch, self._cut.rank), place))
                place += 1
                yield batch, counted

    def notice(self) -> str | None:
        """What is inexact or slow when a run is resumed on this data; None if nothing is."""
        return None

    def notice_of_resume(self, state: Any) -> str | None:
        """What is inexact about resuming from this state of a stream; None if nothing is."""
        return None

    @property
    def smallest_step(self) -> int:
        """A lower bound of the number of samples in a step."""
        return self.batch_size if self._cut.drop_last else 1

    # Only for datasets with an index

    def samples_of_step(self, step: int) -> int:
        """Samples in a step of an epoch, over all processes. Steps are counted from 0."""
        raise self._has_no_index()

    def steps_after(self, start: int) -> int:
        """Steps that are left in an epoch after `start` samples."""
        raise self._has_no_index()

    def training_parts(self, epoch: int, first_step: int, micro_batches: int) -> Iterator[Part]:
        """This process's parts of an epoch from `first_step` on, `micro_batches` per step, fillers included."""
        raise self._has_no_index()

    def evaluation_parts(self, filler: bool) -> Iterator[Part]:
        """This process's parts of one pass, in order. Over all processes, they have each sample once."""
        raise self._has_no_index()

    def fetch(self, parts: Iterator[Part]) -> Iterator[tuple[Any, int]]:
        """The batch of each part, on the device, with the number of its samples that count."""
        raise self._has_no_index()

    def _has_no_index(self) -> ConfigError:
        return ConfigError(f"`{type(self.dataset).__name__}` is a stream: it has no index to choose samples by")

    # For each kind of data

    def indices_of_step(self, epoch: int, step: int) -> list[int]:
        """The samples of a step of an epoch, in the order in which they are dealt. Steps are counted from 0."""
        return self.indices_between(epoch, step * self.batch_size, (step + 1) * self.batch_size)

    @abstractmethod
    def indices_between(self, epoch: int, start: int, stop: int) -> list[int]:
        """The samples at positions `start` to `stop` of an epoch's order; for a stream, the positions themselves."""

    @abstractmethod
    def portions(
        self, epoch: int, first_step: int, micro_batches: int, state: Any = None, *, start: int | None = None
    ) -> Generator[Portion]:
        """The steps of an epoch after its first `first_step`.

        Args:
            epoch: Counted from 1.
            first_step: Steps that are done.
            micro_batches: Micro-batches per step on this process.
            state: The state of the portion before, or None.
            start: Samples that are done. None: `first_step` times the batch size.
        """

    def divided_portions(
        self, epoch: int, first_step: int, micro_batches: int, state: Any, start: int
    ) -> Generator[Portion]:
        """As `portions`, for a loop that saves their state: each process may then read its own shards of a stream."""
        return self.portions(epoch, first_step, micro_batches, state, start=start)

    @abstractmethod
    def evaluation_batches(self, filler: bool) -> Iterator[tuple[Any, int]]:
        """This process's batches of one pass, each with the number of samples that count.

        Over all processes, each sample counts once.

        Args:
            filler: Whether a process without a part of a batch gets a filler, in which 0 samples count.
        """
