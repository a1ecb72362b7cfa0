"""The micro-batch that this process works on: its random draws, and whether its samples count."""

from collections.abc import Iterator
from contextlib import contextmanager

from ..data.randomness import at, key, seeder
from ..hardware.prepare import Prepared


class MicroBatch:
    """The micro-batch, or evaluation batch, that this process works on. Seeds the generators when one begins.

    Args:
        seed: The seed of the run.
        rank: The rank of this process.
        prepared: The models whose gradients are exchanged.

    Attributes:
        num_processes: How many processes train together.
        device: Where this process computes.
        is_filler: Its samples do not count: this process only takes part in the collectives of the forward and backward
            passes.
        keeps: Whether steps keep their micro-batches, because the loop has iterated a step more than once.
    """

    def __init__(self, seed: int, rank: int, prepared: Prepared) -> None:
        self.is_filler = False
        self.keeps = False
        self._key = key(seed, "step", rank)
        self._prepared = prepared
        self.num_processes = prepared.accelerator.num_processes
        self.device = prepared.accelerator.device
        self._seed_all = seeder(self.device)

    @property
    def loss_factor(self) -> int:
        """What a loss is multiplied by, because wrappers average over processes where a sum is meant; 0 in a filler."""
        return 0 if self.is_filler else self.num_processes

    def begin(self, step: int, number: int, samples: int, of: int) -> None:
        """Begin micro-batch `number`, counted from 1 through all passes, of a step with `of` in each pass."""
        self._seed_all(at(self._key, step << 16 | number))
        self.is_filler = samples == 0
        if of > 1:
            self._prepared.exchange_gradients(number % of == 0)

    def begin_evaluation(self, step: int, number: int, samples: int) -> None:
        """Begin batch `number`, counted from 0, of an evaluation after a step."""
        self._seed_all(at(~self._key, step << 16 | number))
        self.is_filler = samples == 0

    def end(self) -> None:
        """End it: what meters add between micro-batches counts."""
        self.is_filler = False

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """A context in which meters count nothing."""
        before, self.is_filler = self.is_filler, True
        try:
            yield
        finally:
            self.is_filler = before
