"""Several datasets mixed by weights, which may change with the step, as one map-style dataset."""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torch.utils.data import Dataset

from .data.fingerprint import fingerprint
from .data.randomness import key
from .data.shuffle import EpochOrder, shuffled
from .errors import ConfigError

_SHARES = 1 << 20  # weights are rounded to this many parts of their sum


class _Stage(NamedTuple):
    """Consecutive steps with the same weights. Its name and fields are part of `content_hash`.

    Attributes:
        start: Its first position in the mixture.
        shares: The weights, as integers.
        taken: Samples of each source before this stage.
        carried: The fraction of a sample that each source is owed from the stage before, in parts of the divisor that
            `counts` has for it.
    """

    start: int
    shares: tuple[int, ...]
    taken: tuple[int, ...]
    carried: tuple[int, ...]

    def counts(self, positions: int) -> list[int]:
        """How many of the first `positions` of this stage are of each source. Each position adds one to one source.

        The first source gets its share of all positions, the next its share of the remaining ones, and so on.
        """
        counts, left, rest = [], positions, sum(self.shares)
        for share, carried in zip(self.shares, self.carried, strict=True):
            count = left if share == rest else (left * share + carried) // rest
            counts.append(count)
            left, rest = left - count, rest - share
        return counts

    def owed(self, positions: int, shares: tuple[int, ...]) -> tuple[int, ...]:
        """What sources are owed after so many positions, as `carried` of a next stage with these shares."""
        owed, left, rest, next_rest = [], positions, sum(self.shares), sum(shares)
        for share, carried, next_share in zip(self.shares, self.carried, shares, strict=True):
            amount = left * share + carried
            last = share == rest
            owed.append(0 if last or next_share == 0 else (amount % rest) * next_rest // rest)
            left, rest, next_rest = left - (left if last else amount // rest), rest - share, next_rest - next_share
        return tuple(owed)


class Mixture(Dataset[Any]):
    """A dataset of all samples of a run, in the order of its `num_steps` steps, each from one of the sources.

    Pass it to `run.loader(mixture, batch_size)` without `shuffle`, and train for one epoch. Each source is shuffled by
    (seed, source, epoch of the source), and starts its next epoch when it is exhausted. Sources alternate evenly: after
    any number of samples, each has contributed its share to within about one sample per source. The source of a position
    is computed and not drawn, without a list, so resuming is immediate.

    Args:
        sources: Map-style datasets, by name.
        weights: By name, in any unit; 0 omits a source. Or a dict from the first step of each stage to its weights, or a
            function from the step to the weights. Steps are counted from 0.
        batch_size: Samples per step over all processes, as passed to `run.loader`.
        num_steps: Steps of the run.
        seed: Seed of the run.

    Raises:
        ConfigError: Weights and sources have different names, a weight is below 0, all are 0, or a source is empty.
    """

    def __init__(
        self,
        sources: Mapping[str, Any],
        weights: Mapping[str, float] | Mapping[int, Mapping[str, float]] | Callable[[int], Mapping[str, float]],
        batch_size: int,
        num_steps: int,
        seed: int,
    ) -> None:
        if batch_size < 1 or num_steps < 1:
            raise ConfigError(f"`batch_size` and `num_steps` must be at least 1, not {batch_size} and {num_steps}")
        if empty := [name for name, source in sources.items() if len(source) == 0]:
            raise ConfigError(f"The source `{empty[0]}` of the mixture is empty")
        self.names, self.datasets = list(sources), list(sources.values())
        self.size, self.seed = batch_size * num_steps, seed
        self._stages = self._make_stages(weights, batch_size, num_steps)
        self._starts = [stage.start for stage in self._stages]
        self._orders: dict[int, tuple[int, EpochOrder]] = {}  # by source: its current epoch and the order in it
        content = [fingerprint(source)["content"] for source in self.datasets], self.size, seed, self._stages
        self.content_hash = str(content)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, place: int) -> Any:
        source, number = self.locate(place)
        epoch, position = divmod(number, len(self.datasets[source]))
        known, order = self._orders.get(source, (-1, None))
        if order is None or known != epoch:
            order = shuffled(key(self.seed, f"mixture {self.names[source]}"), epoch + 1, len(self.datasets[source]))
            self._orders[source] = epoch, order
        return self.datasets[source][int(order[position : position + 1])]

    def locate(self, place: int) -> tuple[int, int]:
        """The number of the source at a position, and how many samples of that source come before it."""
        if not 0 <= place < self.size:
            raise IndexError(f"place {place} of {self.size}")
        stage = self._stages[bisect_right(self._starts, place) - 1]
        before, after = (stage.counts(place - stage.start + more) for more in (0, 1))
        source = next(number for number, count in enumerate(before) if after[number] > count)
        return source, stage.taken[source] + before[source]

    def counts(self, step: int, batch_size: int) -> dict[str, int]:
        """Samples of each source in a step. Steps are counted from 0."""
        found = [self.locate(place)[0] for place in range(step * batch_size, (step + 1) * batch_size)]
        return {name: found.count(number) for number, name in enumerate(self.names)}

    def _make_stages(self, weights: Any, batch_size: int, num_steps: int) -> list[_Stage]:
        stages: list[_Stage] = []
        for step, given in _by_step(weights, num_steps):
            shares = self._shares(given, step)
            if stages and stages[-1].shares == shares:
                continue
            start = step * batch_size
            taken = carried = (0,) * len(shares)
            if stages:
                last = stages[-1]
                counts = last.counts(start - last.start)
                taken = tuple(a + b for a, b in zip(last.taken, counts, strict=True))
                carried = last.owed(start - last.start, shares)
            stages.append(_Stage(start, shares, taken, carried))
        return stages

    def _shares(self, weights: Mapping[str, float], step: int) -> tuple[int, ...]:
        """The weights of a step as integers, in the order of the sources."""
        if not isinstance(weights, Mapping):
            raise ConfigError(f"The weights of step {step} must be a dict with one for each source, not {weights!r}")
        if set(weights) != set(self.names):
            raise ConfigError(
                f"The weights of step {step} are for {', '.join(map(str, weights))}, but the sources of the mixture are "
                f"{', '.join(self.names)}: give each source a weight, 0 to omit it"
            )
        values = [float(weights[name]) for name in self.names]
        total = sum(values)
        if not all(0 <= value < float("inf") for value in values) or total <= 0:
            raise ConfigError(
                f"The weights of step {step} must be finite and at least 0, and not all 0: {dict(weights)}"
            )
        return tuple(max(round(_SHARES * value / total), int(value > 0)) for value in values)


def _by_step(weights: Any, num_steps: int) -> Sequence[tuple[int, Mapping[str, float]]]:
    """The first step of each stage and its weights."""
    if callable(weights):
        return [(step, weights(step)) for step in range(num_steps)]
    if not all(isinstance(step, int) for step in weights):
        return [(0, weights)]
    if not weights or min(weights) != 0:
        raise ConfigError(f"The first stage of the weights must begin at step 0, not at {min(weights, default=None)}")
    return [(step, weights[step]) for step in sorted(weights) if step < num_steps]
